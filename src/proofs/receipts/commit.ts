import { hash } from 'node:crypto';
import type { Uuid } from '../../kernel/ids.ts';
import { uuidBytes } from '../log/uuid.ts';

/** Bytes of the salt of a field. */
export const SALT_BYTES = 32;

const FIELD = Buffer.from('patchbay:field:v1\0', 'latin1');
const RECEIPT = Buffer.from('patchbay:receipt:v1\0', 'latin1');

/** The commitment to a field's text. */
export function commitField(index: number, salt: Uint8Array, text: string): Buffer {
  return hash('sha256', Buffer.concat([FIELD, u16(index), salt, Buffer.from(text, 'utf8')]), 'buffer');
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
