import { isUuid, type Uuid } from '../../kernel/ids.ts';

/** The 16 bytes of a UUID. */
export function uuidBytes(uuid: Uuid): Buffer {
  if (!isUuid(uuid)) throw new TypeError('What is signed holds lower-case UUIDs alone.');
  return Buffer.from(uuid.replaceAll('-', ''), 'hex');
}
