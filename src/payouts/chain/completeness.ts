import type { Provider } from 'ethers';
import { RoyaltyDistributor } from '../../chain/royalty-distributor.ts';
import { Token } from '../../chain/token.ts';
import type { Clock } from '../../kernel/clock.ts';
import { PatchbayError } from '../../kernel/errors.ts';
import type { Uuid } from '../../kernel/ids.ts';
import type { KeptEvent } from './events.ts';
import type { BlockRef, Distributor } from './types.ts';

/** What is so as of a block. */
export interface Seen {
  /** What the distributor held. */
  readonly balance: bigint;
  /** What came to it and was claimed, since it was used first. */
  readonly received: bigint;
  readonly claimed: bigint;
  /** The number of the tree in force; zero for none. */
  readonly published: bigint;
}

/** The same as of the block that was read last, and what the distributor held at first. */
export interface KeptSums extends Seen {
  readonly opening: bigint;
}

/** For so long a balance that differs is taken for an answer that lacks something, and not for something that the token did. */
const PATIENCE_MS = 15 * 60_000;

/**
 * Whether a node has told all events. Several nodes may be behind one URL, and one that lags answers a question about blocks
 * that it lacks with what it has. So what was told is compared with what the contracts say after the last of the blocks, which
 * a node that lacks it cannot answer.
 */
export class Completeness {
  readonly #clock: Clock;
  /** Since when balances differ that did not before, by distributor. */
  readonly #since = new Map<Uuid, number>();

  constructor(deps: { readonly clock: Clock }) {
    this.#clock = deps.clock;
  }

  /**
   * What is so after the block, if the events behind those that are kept come to it.
   * @throws PatchbayError CHAIN_NODE_BEHIND when they do not.
   */
  async require(
    provider: Provider,
    { id, distributor, token }: Distributor,
    kept: KeptSums,
    { number }: BlockRef,
    events: readonly KeptEvent[],
  ): Promise<Seen> {
    const contract = new RoyaltyDistributor(provider, distributor);
    const sum = (kind: KeptEvent['kind']): bigint =>
      events.reduce((total, event) => (event.kind === kind ? total + event.units : total), 0n);
    const received = kept.received + sum('RECEIVED');
    const claimed = kept.claimed + sum('CLAIMED');
    const told = lastTreeOf(events) ?? kept.published;
    const published = await contract.sequence(number);
    if (published !== told) throw behind(number, `the tree ${published} is in force, and ${told} was told`);
    for (const [account, cumulative] of lastClaimsOf(events)) {
      const paid = await contract.claimed(account, number);
      if (paid !== cumulative)
        throw behind(number, `${account} has claimed ${paid}, and ${cumulative} was told`);
    }
    const balance = await new Token(provider, token).balanceOf(distributor, number);
    const gap = balance - (kept.opening + received - claimed);
    // What differed before was found, and is told by the reconciliation.
    if (gap === kept.balance - (kept.opening + kept.received - kept.claimed)) this.#since.delete(id);
    else this.#requirePatience(id, number, gap);
    return { balance, received, claimed, published };
  }

  /** A token may do what it tells nobody; that is kept too, once asking again has not explained it. */
  #requirePatience(id: Uuid, number: number, gap: bigint): void {
    const now = this.#clock.nowMs();
    const since = this.#since.get(id) ?? now;
    this.#since.set(id, since);
    if (now - since < PATIENCE_MS) throw behind(number, `the balance differs by ${gap} from what was told`);
    this.#since.delete(id);
  }
}

function lastTreeOf(events: readonly KeptEvent[]): bigint | null {
  return events.reduce<bigint | null>(
    (last, { kind, sequence }) =>
      kind === 'PUBLISHED' && sequence !== null && (last === null || sequence > last) ? sequence : last,
    null,
  );
}

/** What each account that has claimed was paid in all. */
function lastClaimsOf(events: readonly KeptEvent[]): ReadonlyMap<string, bigint> {
  const last = new Map<string, bigint>();
  for (const { kind, account, cumulative } of events) {
    if (kind !== 'CLAIMED' || account === null || cumulative === null) continue;
    if (cumulative > (last.get(account) ?? 0n)) last.set(account, cumulative);
  }
  return last;
}

function behind(block: number, what: string): PatchbayError {
  return new PatchbayError('CHAIN_NODE_BEHIND', `After block ${block}, ${what}.`, { meta: { block } });
}
