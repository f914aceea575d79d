import { computeAddress, SigningKey } from 'ethers';
import type { DigestSigner } from '../log/types.ts';

/** Signs with a private key that this process holds: 64 hexadecimal digits, with or without `0x`. */
export function walletSigner(privateKey: string): DigestSigner {
  const key = new SigningKey(privateKey.startsWith('0x') ? privateKey : `0x${privateKey}`);
  return {
    address: computeAddress(key.publicKey),
    sign: (digest) => Promise.resolve(key.sign(digest).serialized),
  };
}
