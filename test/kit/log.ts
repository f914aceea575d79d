import { SigningKey } from 'ethers/crypto';
import { computeAddress } from 'ethers/transaction';
import { logIdOf } from '../../src/proofs/log/digest.ts';
import type { DigestSigner } from '../../src/proofs/log/types.ts';

/** The id of the log in tests. */
export const LOG_ID = logIdOf('0192f000-0000-7000-8000-0000000000ff');

/** Signs with a key that everybody knows. */
export function testSigner(): DigestSigner {
  const key = new SigningKey(`0x${'11'.repeat(32)}`);
  return { address: computeAddress(key), sign: async (digest) => key.sign(digest).serialized };
}
