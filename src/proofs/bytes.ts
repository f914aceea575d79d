import { createHash } from 'node:crypto';
import type { Uuid } from '../kernel/ids.ts';

/** The 16 bytes of a UUID. */
export function uuidBytes(uuid: Uuid): Buffer {
  return Buffer.from(uuid.replaceAll('-', ''), 'hex');
}

/** The id of a log, from the UUID that was drawn for the deployment. */
export function logIdOf(uuid: Uuid): Buffer {
  return createHash('sha256').update('patchbay:log:v1\0', 'latin1').update(uuidBytes(uuid)).digest();
}
