import type { Uuid } from '../kernel/ids.ts';

/** The 16 bytes of a UUID. */
export function uuidBytes(uuid: Uuid): Buffer {
  return Buffer.from(uuid.replaceAll('-', ''), 'hex');
}
