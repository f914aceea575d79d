import type { Uuid } from '../../kernel/ids.ts';
import type { ProofDocument } from '../documents.ts';
import { joinRanges, type NumberRange, rangeText } from './ranges.ts';
import type { AccountKind } from './types.ts';

/** What an adapter version earned in a currency. */
interface Royalties {
  royalty: bigint;
  fee: bigint;
  readonly earned: Map<Uuid, bigint>;
}

/** What an epoch says of a tenant or an adapter version, as it is summed up. */
export interface Account {
  readonly kind: AccountKind;
  readonly subject: Uuid;
  /** Who may see it: the tenant, or the version's owner. */
  readonly party: Uuid;
  /** Whether the party may still open each receipt that the account is about. */
  openable: boolean;
  /** Numbers by lane. */
  readonly numbers: Map<number, NumberRange[]>;
  receipts: bigint;
  promptTokens: bigint;
  cachedPromptTokens: bigint;
  completionTokens: bigint;
  /** Of a tenant: what it was charged, by currency. */
  readonly charged: Map<string, bigint>;
  /** Of a version, by currency. */
  readonly royalties: Map<string, Royalties>;
  /** Digests. */
  readonly documents: Set<string>;
}

/** The last number that was given out in a lane. */
export interface LaneEnd {
  readonly lane: number;
  readonly last: bigint;
}

/** The accounts of an epoch, by their subjects. */
export class Accounts {
  readonly #accounts = new Map<string, Account>();

  /** The account of a subject, made when it is first asked for. */
  of(kind: AccountKind, subject: Uuid, party: Uuid): Account {
    const name = `${kind}:${subject}`;
    const known = this.#accounts.get(name);
    if (known !== undefined) return known;
    const account: Account = {
      ...{ kind, subject, party },
      ...{ openable: true, receipts: 0n, promptTokens: 0n, cachedPromptTokens: 0n, completionTokens: 0n },
      ...{ numbers: new Map(), charged: new Map(), royalties: new Map(), documents: new Set() },
    };
    this.#accounts.set(name, account);
    return account;
  }

  get all(): readonly Account[] {
    return [...this.#accounts.values()];
  }
}

/** The royalties of a version in a currency. */
export function royaltiesOf({ royalties }: Account, currency: string): Royalties {
  const known = royalties.get(currency);
  if (known !== undefined) return known;
  const made = { royalty: 0n, fee: 0n, earned: new Map<Uuid, bigint>() };
  royalties.set(currency, made);
  return made;
}

/** Adds to what a map has under a name. */
export function addTo<Name>(sums: Map<Name, bigint>, name: Name, amount: bigint): void {
  sums.set(name, (sums.get(name) ?? 0n) + amount);
}

/** The account as it is committed to; lanes are all in which the subject has ever been counted. */
export function accountDocument(account: Account, lanes: readonly LaneEnd[]): ProofDocument {
  const { kind, subject, party, numbers } = account;
  const counted = {
    lanes: [...lanes]
      .sort((a, b) => a.lane - b.lane)
      .map(({ lane, last }) => ({
        lane: String(lane),
        last: String(last),
        numbers: joinRanges(numbers.get(lane) ?? []).map(rangeText),
      })),
    receipts: String(account.receipts),
    promptTokens: String(account.promptTokens),
    cachedPromptTokens: String(account.cachedPromptTokens),
    completionTokens: String(account.completionTokens),
    documents: [...account.documents].sort(),
  };
  if (kind === 'tenant') {
    const charged = ascending(account.charged).map(([currency, amount]) => ({
      currency,
      amount: String(amount),
    }));
    return { kind, subject, ...counted, charged };
  }
  return { kind, subject, owner: party, ...counted, royalties: royaltyDocuments(account) };
}

function royaltyDocuments({ royalties }: Account): readonly ProofDocument[] {
  return [...royalties]
    .filter(([, { royalty }]) => royalty > 0n)
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([currency, { royalty, fee, earned }]) => ({
      currency,
      royalty: String(royalty),
      fee: String(fee),
      earned: ascending(earned).map(([tenant, amount]) => ({ tenant, amount: String(amount) })),
    }));
}

/** By name; what is zero is left out. */
function ascending(sums: ReadonlyMap<string, bigint>): readonly (readonly [string, bigint])[] {
  return [...sums].filter(([, amount]) => amount !== 0n).sort(([a], [b]) => (a < b ? -1 : 1));
}
