import { createHash, type Hash } from 'node:crypto';

/** Bytes of the random salt of a request's commitments. */
export const COMMITMENT_SALT_BYTES = 32;

const PROMPT_DOMAIN = 'patchbay:prompt:v1\0';
const OUTPUT_DOMAIN = 'patchbay:output:v1\0';

/**
 * Commitments to token sequences.
 *
 * `commitment = SHA-256(domain || salt || id_0 || id_1 || … )`, where the domain is the ASCII text
 * `patchbay:prompt:v1` or `patchbay:output:v1` and a zero byte, the salt is 32 random bytes of this request, and
 * each id is an unsigned 32-bit little-endian integer.
 *
 * The value depends on the ids alone, never on how they were cut into chunks: the digest runs over the serialised
 * ids, and every chunk boundary reads a copy of it. Each id has a fixed width and the token count stands next to the
 * commitment in every record, so one commitment cannot be opened as two sequences. The salt comes first and is
 * secret from third parties: without it, short or guessable texts cannot be searched for, and when it is erased the
 * commitment still stands in the records but proves nothing about a person any more.
 */
export function promptCommitment(salt: Buffer, ids: readonly number[]): Buffer {
  return start(PROMPT_DOMAIN, salt).update(serialise(ids)).digest();
}

/** The commitment to a whole output at once; equals what {@link OutputCommitment} reaches over any chunks. */
export function outputCommitment(salt: Buffer, ids: readonly number[]): Buffer {
  return start(OUTPUT_DOMAIN, salt).update(serialise(ids)).digest();
}

/** The running commitment to an output that grows. */
export class OutputCommitment {
  private readonly hash: Hash;

  constructor(salt: Buffer) {
    this.hash = start(OUTPUT_DOMAIN, salt);
  }

  /** Appends tokens and returns the commitment to everything so far. */
  append(ids: readonly number[]): Buffer {
    this.hash.update(serialise(ids));
    return this.value();
  }

  /** The commitment to everything so far. */
  value(): Buffer {
    return this.hash.copy().digest();
  }
}

function start(domain: string, salt: Buffer): Hash {
  if (salt.length !== COMMITMENT_SALT_BYTES) {
    throw new RangeError(`A commitment salt has ${COMMITMENT_SALT_BYTES} bytes, not ${salt.length}`);
  }
  return createHash('sha256').update(domain, 'latin1').update(salt);
}

function serialise(ids: readonly number[]): Buffer {
  const bytes = Buffer.allocUnsafe(ids.length * 4);
  for (const [index, id] of ids.entries()) bytes.writeUInt32LE(id, index * 4);
  return bytes;
}
