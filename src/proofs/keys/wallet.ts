import { computeAddress, SigningKey } from 'ethers';
import type { DigestSigner } from '../log/types.ts';

/** Signs with a private key that this process holds. */
export function walletSigner(privateKey: string): DigestSigner {
  const key = new SigningKey(privateKey);
  return {
    address: computeAddress(key.publicKey),
    sign: (digest) => Promise.resolve(key.sign(digest).serialized),
  };
}
