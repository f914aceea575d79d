import { type Message, signerOf } from '../hashing/signature.ts';
import type { KeyList } from '../input/formats.ts';
import { fails, holds, judged, type Step } from '../step.ts';

/** A key that is trusted, and when. */
interface TrustedKey {
  readonly address: string;
  readonly validFrom: bigint;
  /** Null: without an end that is known. */
  readonly validUntil: bigint | null;
  /** From when on the key itself endorsed another one to follow it; null: it did not, as far as is known. */
  readonly replacedAt: bigint | null;
}

/** Whom a reader trusts to sign for a log. */
export interface Trust {
  readonly keys: readonly TrustedKey[];
  /** Keys of the list that nobody trusted endorses. */
  readonly strangers: readonly string[];
}

/** Addresses alone, which are trusted for all time: the reader pinned them. */
export function pinnedTrust(addresses: readonly string[]): { readonly trust: Trust; readonly steps: Step[] } {
  const keys = addresses.map((address) => ({
    ...{ address, validFrom: 0n, validUntil: null, replacedAt: null },
  }));
  return {
    trust: { keys, strangers: [] },
    steps: [holds('keys', `pinned without a list, so for all time: ${addresses.join(', ')}`)],
  };
}

/**
 * A list of keys, and which of them are trusted: the pinned ones, or the first when none is pinned, and whom a trusted key
 * endorsed to follow it.
 */
export function listedTrust(
  list: KeyList,
  pinned: readonly string[],
): { readonly trust: Trust; readonly steps: Step[] } {
  const wrong = [...windowFaults(list)];
  const isEndorsed = (index: number): boolean => {
    const [before, key] = [list.keys[index - 1], list.keys[index]];
    if (before === undefined || key === undefined || key.endorsement === null) return false;
    return signerOf(succession(list.log, key.address, key.validFrom), key.endorsement) === before.address;
  };
  const keys: TrustedKey[] = [];
  const strangers: string[] = [];
  let beforeTrusted = false;
  for (const [index, { address, validFrom, validUntil, endorsement }] of list.keys.entries()) {
    const endorsed = isEndorsed(index);
    if (endorsement !== null && !endorsed) {
      wrong.push(`key ${index + 1} ${address}: its endorsement is not by the key before it`);
    }
    const trusted: boolean =
      (pinned.length === 0 ? index === 0 : pinned.includes(address)) || (endorsed && beforeTrusted);
    if (trusted) {
      const end = validUntil === null ? null : BigInt(validUntil);
      const replacedAt = isEndorsed(index + 1) ? BigInt(list.keys[index + 1]?.validFrom ?? 0) : null;
      keys.push({ address, validFrom: BigInt(validFrom), validUntil: end, replacedAt });
    } else strangers.push(address);
    beforeTrusted = trusted;
  }
  const missing = pinned.filter((address) => !list.keys.some((key) => key.address === address));
  wrong.push(...missing.map((address) => `the pinned key ${address} is not in the list`));
  const root = pinned.length === 0 ? 'the first is trusted' : `${pinned.length} pinned`;
  const apart =
    strangers.length === 0 ? '' : `; not trusted, for want of an endorsement: ${strangers.join(', ')}`;
  const compared = `${list.keys.length} in order, ${root}, ${keys.length} trusted in all${apart}`;
  return {
    trust: { keys, strangers },
    steps: [judged('keys', wrong, compared)],
  };
}

function succession(log: string, next: string, validFrom: string): Message {
  return { log, type: 'KeySuccession', values: { next, validFrom } };
}

function* windowFaults({ keys }: KeyList): Generator<string> {
  for (const [index, { address, validFrom, validUntil }] of keys.entries()) {
    const next = keys[index + 1];
    const name = `key ${index + 1} ${address}`;
    if (validUntil !== null && BigInt(validUntil) <= BigInt(validFrom)) yield `${name} ends before it begins`;
    if (next !== undefined && (validUntil === null || BigInt(validUntil) > BigInt(next.validFrom))) {
      yield `${name} is still valid when the next one begins`;
    }
  }
}

/** Checks that a message was signed by a key that is trusted and was valid then. */
export function checkSigner(
  step: string,
  trust: Trust,
  { message, signature }: { readonly message: Message; readonly signature: string },
): Step {
  const signer = signerOf(message, signature);
  if (signer === null) return fails(step, 'the signature is not one of secp256k1 in its canonical form');
  const signedAt = message.values['signedAt'] ?? '';
  const known = trust.keys.filter(({ address }) => address === signer);
  if (known.some((key) => isValidAt(key, BigInt(signedAt)))) {
    return holds(step, `signed by ${signer}, which was valid at ${signedAt}`);
  }
  if (known.length > 0) {
    // The windows are signed by nobody; that a key named the time from which another follows it, it signed itself.
    const replaced = known.some(({ replacedAt }) => replacedAt !== null && replacedAt <= BigInt(signedAt));
    const why = replaced ? 'KEY_REPLACED' : 'KEY_NOT_VALID';
    return fails(step, `signed by ${signer}, which was not valid at ${signedAt}`, why);
  }
  const why = trust.strangers.includes(signer)
    ? 'which no trusted key endorses'
    : 'which is not a key of this log';
  return fails(step, `signed by ${signer}, ${why}`);
}

function isValidAt({ validFrom, validUntil }: TrustedKey, at: bigint): boolean {
  return validFrom <= at && (validUntil === null || at < validUntil);
}
