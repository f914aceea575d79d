import { formatEther, formatUnits } from 'ethers';
import { firstFees, raisedFees } from './fees.ts';
import type {
  Attempt,
  BlockRef,
  Fees,
  IncludedTransaction,
  OpenTransaction,
  Problem,
  QueuedTransaction,
  SignedTransaction,
} from './types.ts';
import type { ChainView } from './view.ts';

/** How transactions are sent. */
export interface PlanOptions {
  /** After how long without a block the fees are raised. */
  readonly bumpMs: number;
  /** Most wei for a unit of gas. */
  readonly feeCeiling: bigint;
  /** Most transactions that are on their way at once. */
  readonly inFlightMax: number;
}

/** What a plan is made of. */
export interface Situation {
  /** Those of one account that are not at their end, and, if it can sign, those that are queued; oldest first. */
  readonly open: readonly OpenTransaction[];
  /** Nonces that were ever given out, from {@link ChainView.used} on. */
  readonly given: ReadonlySet<number>;
  /**
   * Whether nonces may be given: not while the chain lacks a transaction that was final, as what is signed above its nonce could
   * never be included.
   */
  readonly mayGive: boolean;
  /** Empty transactions that nobody has ordered yet, by the nonces that nothing of ours has and that others of ours wait for. */
  readonly fills: ReadonlyMap<number, QueuedTransaction>;
  readonly view: ChainView;
  /** Whether the account's key is there. Without it transactions are watched and sent again, as they are. */
  readonly canSign: boolean;
  readonly nowMs: number;
}

/** What was learnt of a transaction. */
export type Move =
  | {
      readonly kind: 'INCLUDE';
      readonly id: string;
      readonly hash: string;
      readonly block: BlockRef;
      readonly succeeded: boolean;
    }
  /** Its block is not on the chain any more. */
  | { readonly kind: 'TAKE_BACK'; readonly id: string }
  | { readonly kind: 'FINISH'; readonly id: string; readonly succeeded: boolean }
  /** Its nonce is somebody else's for good. */
  | { readonly kind: 'LOSE'; readonly id: string; readonly nonce: number; readonly takenBy: string };

/** What is given to the node. */
export type Send =
  | { readonly kind: 'AGAIN'; readonly id: string; readonly nonce: number; readonly attempt: Attempt }
  | {
      /** Signed, stored, and then sent: the first time under this nonce, or with higher fees. */
      readonly kind: 'SIGN';
      readonly transaction: QueuedTransaction | SignedTransaction | IncludedTransaction;
      /** It fills a gap: it is stored now, as nobody has ordered it. */
      readonly isFill: boolean;
      readonly nonce: number;
      readonly number: number;
      readonly gas: bigint;
      readonly fees: Fees;
    };

/** What to do next. */
export interface Plan {
  readonly moves: readonly Move[];
  /** By nonce, lowest first. */
  readonly sends: readonly Send[];
  /** What is in the way of transactions, by id. */
  readonly problems: ReadonlyMap<string, Problem>;
}

/** Decides what to do, from what is stored and what the chain says. It reads and changes nothing. */
export function makePlan(situation: Situation, options: PlanOptions): Plan {
  const planning = new Planning(situation, options);
  for (const transaction of situation.open) {
    if (transaction.state === 'SIGNED') planning.signed(transaction);
    if (transaction.state === 'INCLUDED') planning.included(transaction);
  }
  planning.queued(situation.open.filter((one) => one.state === 'QUEUED'));
  planning.fill();
  planning.gaps();
  return planning.plan();
}

class Planning {
  readonly #situation: Situation;
  readonly #options: PlanOptions;
  readonly #moves: Move[] = [];
  readonly #sends: Send[] = [];
  readonly #problems = new Map<string, Problem>();
  readonly #given: Set<number>;
  /** What is left when all that is on its way has taken its most. */
  #balance: bigint;

  constructor(situation: Situation, options: PlanOptions) {
    this.#situation = situation;
    this.#options = options;
    this.#given = new Set(situation.given);
    this.#balance = situation.view.balance;
  }

  plan(): Plan {
    const sends = this.#sends.toSorted((a, b) => a.nonce - b.nonce);
    return { moves: this.#moves, sends, problems: this.#problems };
  }

  included(transaction: IncludedTransaction): void {
    const { id, block, succeeded } = transaction;
    const onChain = this.#situation.view.blocks.get(block.number);
    // A node that does not know the block yet is behind, and says nothing of what became of it.
    if (onChain === undefined) return;
    if (onChain === block.hash) {
      if (this.#isFinal(block)) this.#moves.push({ kind: 'FINISH', id, succeeded });
      return;
    }
    this.#moves.push({ kind: 'TAKE_BACK', id });
    this.signed(transaction);
  }

  signed(transaction: SignedTransaction | IncludedTransaction): void {
    const { id, nonce, attempts } = transaction;
    const { view } = this.#situation;
    for (const { hash } of attempts) {
      const receipt = view.receipts.get(hash);
      // A receipt of a block that the node has replaced meanwhile is read again later.
      if (receipt === undefined || view.blocks.get(receipt.block.number) !== receipt.block.hash) continue;
      const { block, succeeded } = receipt;
      this.#moves.push({ kind: 'INCLUDE', id, hash, block, succeeded });
      if (this.#isFinal(block)) this.#moves.push({ kind: 'FINISH', id, succeeded });
      return;
    }
    if (nonce < view.used) this.#taken(transaction);
    else this.#onItsWay(transaction);
  }

  /** The nonce is used, and not by what was signed here: as long as that can change, no other may be signed. */
  #taken({ id, nonce }: SignedTransaction | IncludedTransaction): void {
    const takenBy = this.#situation.view.takenBy.get(nonce);
    if (takenBy === undefined) {
      this.#trouble(
        id,
        'CHAIN_NONCE_TAKEN',
        `Nonce ${nonce} is used by a transaction that is not ours; another nonce is given when that is final.`,
      );
    } else this.#moves.push({ kind: 'LOSE', id, nonce, takenBy });
  }

  #onItsWay(transaction: SignedTransaction | IncludedTransaction): void {
    const { id, nonce, attempts, gas, value } = transaction;
    const newest = attempts.at(-1);
    if (newest === undefined) return;
    this.#balance -= gas * newest.fees.maxFee + value;
    const isNext = nonce === this.#situation.view.used;
    const fees = isNext && this.#isLate(newest) ? this.#raised(transaction, newest) : null;
    if (fees === null) {
      this.#sends.push({ kind: 'AGAIN', id, nonce, attempt: newest });
      return;
    }
    const number = newest.number + 1;
    this.#sends.push({ kind: 'SIGN', transaction, isFill: false, nonce, number, gas, fees });
  }

  #isLate({ signedAtMs }: Attempt): boolean {
    return this.#situation.nowMs - signedAtMs >= this.#options.bumpMs;
  }

  /** Higher fees, if they can be had. */
  #raised({ id, gas }: SignedTransaction | IncludedTransaction, newest: Attempt): Fees | null {
    const { canSign, view } = this.#situation;
    if (!canSign) {
      this.#trouble(
        id,
        'CHAIN_KEY',
        'The key that it was signed with is not there, so its fees cannot be raised.',
      );
      return null;
    }
    const fees = raisedFees(newest.fees, view.market, this.#options.feeCeiling);
    if (fees === null) {
      this.#feesAreHigh(id);
      return null;
    }
    const more = gas * (fees.maxFee - newest.fees.maxFee);
    if (this.#balance < more) {
      this.#gasIsEmpty(id, more);
      return null;
    }
    this.#balance -= more;
    return fees;
  }

  queued(waiting: readonly QueuedTransaction[]): void {
    const { view, mayGive } = this.#situation;
    if (!mayGive) return;
    const fees = firstFees(view.market, this.#options.feeCeiling);
    let room = this.#options.inFlightMax - this.#sends.length;
    for (const transaction of waiting) {
      const quote = view.quotes.get(transaction.id);
      if (quote === undefined) continue;
      const { id, value } = transaction;
      if (quote.kind === 'problem') {
        this.#problems.set(id, quote.problem);
        continue;
      }
      if (fees === null) {
        this.#feesAreHigh(id);
        continue;
      }
      const { gas } = quote;
      const cost = gas * fees.maxFee + value;
      if (this.#balance < cost) {
        this.#gasIsEmpty(id, cost);
        continue;
      }
      if (room <= 0) continue;
      room -= 1;
      this.#balance -= cost;
      this.#sends.push({
        ...{ kind: 'SIGN', transaction, isFill: false, nonce: this.#nextNonce(), number: 1, gas, fees },
      });
    }
  }

  /**
   * Fills what is left of a gap when something above it has waited for as long as makes one raise fees: whoever had the nonce may
   * send again until then. As many as may be on their way count here for nothing, because all of them may be waiting for this.
   */
  fill(): void {
    const { fills, view, mayGive } = this.#situation;
    const late = this.#sends.filter((send) => send.kind === 'AGAIN' && this.#isLate(send.attempt));
    for (const [nonce, transaction] of fills) {
      const waiting = late.find((send) => send.nonce > nonce);
      if (!mayGive || waiting?.kind !== 'AGAIN' || this.#given.has(nonce)) continue;
      const quote = view.quotes.get(transaction.id);
      const fees = firstFees(view.market, this.#options.feeCeiling);
      if (fees === null) this.#feesAreHigh(waiting.id);
      if (quote?.kind === 'problem') this.#problems.set(waiting.id, quote.problem);
      if (fees === null || quote?.kind !== 'gas') continue;
      const { gas } = quote;
      const cost = gas * fees.maxFee;
      if (this.#balance < cost) {
        this.#gasIsEmpty(waiting.id, cost);
        continue;
      }
      this.#balance -= cost;
      this.#given.add(nonce);
      this.#sends.push({ kind: 'SIGN', transaction, isFill: true, nonce, number: 1, gas, fees });
    }
  }

  /** The lowest nonce that was never given out, so that a gap is filled first. */
  #nextNonce(): number {
    let nonce = this.#situation.view.used;
    while (this.#given.has(nonce)) nonce += 1;
    this.#given.add(nonce);
    return nonce;
  }

  /** Whatever is sent above a nonce that nothing of ours has waits for somebody else. */
  gaps(): void {
    const own = new Set(this.#sends.map(({ nonce }) => nonce));
    let missing = this.#situation.view.used;
    while (own.has(missing)) missing += 1;
    // One of ours that is not where it was is another trouble, and not of those that come after it.
    if (this.#given.has(missing)) return;
    for (const send of this.#sends) {
      if (send.nonce < missing) continue;
      this.#trouble(
        send.kind === 'AGAIN' ? send.id : send.transaction.id,
        'CHAIN_NONCE_GAP',
        `It has nonce ${send.nonce}, and no transaction is known for nonce ${missing} before it.`,
      );
    }
  }

  #isFinal({ number }: BlockRef): boolean {
    const { finalNumber } = this.#situation.view;
    return finalNumber !== null && number <= finalNumber;
  }

  #feesAreHigh(id: string): void {
    const { market } = this.#situation.view;
    const price = formatUnits((market.baseFee ?? 0n) + market.tip, 'gwei');
    const most = formatUnits(this.#options.feeCeiling, 'gwei');
    this.#trouble(
      id,
      'CHAIN_FEES_HIGH',
      `Gas costs ${price} gwei, and what is needed is above the ceiling of ${most}.`,
    );
  }

  #gasIsEmpty(id: string, cost: bigint): void {
    const { balance } = this.#situation.view;
    this.#trouble(
      id,
      'CHAIN_GAS_EMPTY',
      `The account has ${formatEther(balance)} of the chain's own coin, and up to ${formatEther(cost)} more than what is on its way are needed.`,
    );
  }

  /** The first thing that is in the way counts. */
  #trouble(id: string, code: Problem['code'], message: string): void {
    if (!this.#problems.has(id)) this.#problems.set(id, { code, message });
  }
}
