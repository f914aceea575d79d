import { createHash, createHmac } from 'node:crypto';
import type { Uuid } from '../../kernel/ids.ts';
import { uuidBytes } from '../log/uuid.ts';

/** Bytes of the secret that the salts of one receipt come from. */
export const RECEIPT_SECRET_BYTES = 32;

const FIELD = Buffer.from('patchbay:field:v1\0', 'latin1');
const FIELD_SALT = Buffer.from('patchbay:field-salt:v1\0', 'latin1');
const RECEIPT = Buffer.from('patchbay:receipt:v1\0', 'latin1');

/** The salt of a field: says nothing of the others. */
export function fieldSalt(secret: Uint8Array, index: number): Buffer {
  return createHmac('sha256', secret).update(FIELD_SALT).update(u16(index)).digest();
}

/** The commitment to a field's text. */
export function commitField(index: number, salt: Uint8Array, text: string): Buffer {
  return createHash('sha256').update(FIELD).update(u16(index)).update(salt).update(text, 'utf8').digest();
}

/** What is signed and logged of a receipt: its commitments in the order of their indices. */
export function receiptBody(logId: Uint8Array, requestId: Uuid, commitments: Uint8Array): Buffer {
  return Buffer.concat([RECEIPT, logId, uuidBytes(requestId), u16(commitments.length / 32), commitments]);
}

function u16(value: number): Buffer {
  const bytes = Buffer.alloc(2);
  bytes.writeUInt16BE(value);
  return bytes;
}
