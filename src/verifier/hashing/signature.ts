import { concat, keccak256, recoverAddress, TypedDataEncoder } from 'ethers';

/** The messages that keys of a log sign. */
const MESSAGES = {
  KeySuccession: [
    { name: 'next', type: 'address' },
    { name: 'validFrom', type: 'uint64' },
  ],
  ReceiptBatch: [
    { name: 'root', type: 'bytes32' },
    { name: 'size', type: 'uint64' },
    { name: 'signedAt', type: 'uint64' },
  ],
  TreeHead: [
    { name: 'root', type: 'bytes32' },
    { name: 'size', type: 'uint64' },
    { name: 'signedAt', type: 'uint64' },
  ],
  Epoch: [
    { name: 'number', type: 'uint64' },
    { name: 'digest', type: 'bytes32' },
    { name: 'signedAt', type: 'uint64' },
  ],
  PayoutClaim: [
    { name: 'digest', type: 'bytes32' },
    { name: 'signedAt', type: 'uint64' },
  ],
};

/** A message as the digest that is signed is made of it. */
export interface Message {
  readonly log: string;
  readonly type: keyof typeof MESSAGES;
  readonly values: Readonly<Record<string, string>>;
}

/** A batch of leaves, or a head of the log. */
export function rootMessage(
  log: string,
  type: 'ReceiptBatch' | 'TreeHead',
  signed: { readonly root: string; readonly size: string; readonly signedAt: string },
): Message {
  return {
    log,
    type,
    values: { root: `0x${signed.root}`, size: signed.size, signedAt: signed.signedAt },
  };
}

/** Made once for each kind of message: making one takes longer than hashing with it. */
const encoders = new Map<string, TypedDataEncoder>();

function encoderOf(type: Message['type']): TypedDataEncoder {
  const known = encoders.get(type);
  if (known !== undefined) return known;
  const encoder = TypedDataEncoder.from({ [type]: MESSAGES[type] });
  encoders.set(type, encoder);
  return encoder;
}

/** The EIP-712 digest of a message in the domain of its log, with `0x`. */
export function messageDigest({ log, type, values }: Message): string {
  const domain = TypedDataEncoder.hashDomain({ name: 'Patchbay proofs', version: '1', salt: `0x${log}` });
  return keccak256(concat(['0x1901', domain, encoderOf(type).hash(values)]));
}

const HALF_ORDER = 0x7fffffffffffffffffffffffffffffff5d576e7357a4501ddfe92f46681b20a0n;

/** Who signed the message, or null when the 65 bytes are no signature in its one canonical form. */
export function signerOf(message: Message, signature: string): string | null {
  const [s, v] = [BigInt(`0x${signature.slice(66, 130)}`), signature.slice(130)];
  // Of the two values of s that verify, only the lower one counts; so a signature cannot be written in two ways.
  if (s > HALF_ORDER || (v !== '1b' && v !== '1c')) return null;
  const digest = messageDigest(message);
  const name = `${digest} ${signature}`;
  const known = recovered.get(name);
  if (known !== undefined) return known;
  const signer = recover(digest, signature);
  if (recovered.size >= MOST_REMEMBERED) recovered.clear();
  recovered.set(name, signer);
  return signer;
}

/** Signers of the latest signatures: many receipts have the signature of one batch and of one head, and each costs milliseconds. */
const recovered = new Map<string, string | null>();
const MOST_REMEMBERED = 10_000;

function recover(digest: string, signature: string): string | null {
  try {
    return recoverAddress(digest, signature);
  } catch {
    // r is not the coordinate of a point, or r or s is zero.
    return null;
  }
}
