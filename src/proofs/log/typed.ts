import { keccak256 } from 'ethers/crypto';
import { TypedDataEncoder } from 'ethers/hash';
import { concat, getBytes, hexlify } from 'ethers/utils';

/** The form of a message that is signed, made once: making it takes longer than hashing a message. */
export type TypedMessage = TypedDataEncoder;

/** A struct of EIP-712 by its name and its members. */
export function typedMessage(name: string, fields: { name: string; type: string }[]): TypedMessage {
  return TypedDataEncoder.from({ [name]: fields });
}

/** Domains by the ids of logs: a process has one, and hashing it takes longer than hashing a message. */
const domains = new WeakMap<Uint8Array, string>();

function domainOf(logId: Uint8Array): string {
  const known = domains.get(logId);
  if (known !== undefined) return known;
  const domain = TypedDataEncoder.hashDomain({ name: 'Patchbay proofs', version: '1', salt: hexlify(logId) });
  domains.set(logId, domain);
  return domain;
}

/** The digest that a message of the log is signed by: EIP-712, with the log's id as the salt of the domain. */
export function typedDigest(
  logId: Uint8Array,
  message: TypedMessage,
  value: Readonly<Record<string, unknown>>,
): Uint8Array {
  return getBytes(keccak256(concat(['0x1901', domainOf(logId), message.hash(value)])));
}
