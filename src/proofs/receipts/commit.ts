import { hash } from 'node:crypto';
import { invariant } from '../../kernel/errors.ts';
import type { Uuid } from '../../kernel/ids.ts';
import { uuidBytes } from '../log/uuid.ts';

/** Bytes of the salt of a field. */
export const SALT_BYTES = 32;

const FIELD = Buffer.from('patchbay:field:v1\0', 'latin1');
const RECEIPT = Buffer.from('patchbay:receipt:v1\0', 'latin1');

const TEXT_AT = FIELD.length + 2 + SALT_BYTES;
/** What is hashed, in one place: a receipt has dozens of fields, and making a buffer takes as long as hashing it. */
const scratch = Buffer.alloc(4_096);
FIELD.copy(scratch);

/** The commitment to a field's text, which is ASCII. */
export function commitField(index: number, salt: Uint8Array, text: string): Buffer {
  invariant(TEXT_AT + text.length <= scratch.length, 'a field has at most some hundred characters');
  scratch.writeUInt16BE(index, FIELD.length);
  scratch.set(salt, FIELD.length + 2);
  const end = TEXT_AT + scratch.write(text, TEXT_AT, 'latin1');
  return hash('sha256', scratch.subarray(0, end), 'buffer');
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
