import { fromHex, sha256, u16, uuidBytes } from './bytes.ts';

/** What the body of a receipt is made of; all hexadecimal, the id a UUID. */
export interface BodyParts {
  readonly log: string;
  readonly id: string;
  readonly commitments: readonly string[];
}

/** The commitment of a field to its value. */
export function commitmentOf(index: number, salt: string, value: string): string {
  return sha256('patchbay:field:v1\0', u16(index), fromHex(salt), value);
}

/** The leaf of a receipt: the hash of its body as an entry of an RFC 6962 tree. */
export function leafOf({ log, id, commitments }: BodyParts): string {
  return sha256(
    Uint8Array.of(0),
    'patchbay:receipt:v1\0',
    fromHex(log),
    uuidBytes(id),
    u16(commitments.length),
    fromHex(commitments.join('')),
  );
}
