/** Of one beneficiary: what was posted when, and what became of it. */
interface OracleAccount {
  readonly postings: { readonly atMs: number; readonly amount: bigint }[];
  readonly payouts: OraclePayout[];
  /** What was paid and came back. */
  readonly returns: { readonly atMs: number; readonly amount: bigint }[];
}

export interface OraclePayout {
  readonly who: number;
  readonly amount: bigint;
  readonly beforeMs: number;
  state: 'PENDING' | 'SENDING' | 'PAID' | 'FAILED' | 'UNKNOWN' | 'RETURNED' | 'CANCELLED';
}

export interface OracleBatch {
  readonly payouts: readonly OraclePayout[];
  state: 'DRAFT' | 'APPROVED' | 'SUBMITTING' | 'SUBMITTED' | 'SETTLED' | 'CANCELLED';
}

export interface OracleRules {
  readonly holdbackMs: number;
  readonly minimum: bigint;
  readonly unit: bigint;
}

const OPEN = ['PENDING', 'SENDING', 'UNKNOWN'];

/** Payouts as one would keep them on paper, in memory and one thing after the other. */
export class Oracle {
  readonly accounts: readonly OracleAccount[];
  readonly batches: OracleBatch[] = [];
  private readonly rules: OracleRules;

  constructor(beneficiaries: number, rules: OracleRules) {
    this.rules = rules;
    this.accounts = Array.from({ length: beneficiaries }, () => ({ postings: [], payouts: [], returns: [] }));
  }

  post(who: number, atMs: number, amount: bigint): void {
    this.accounts[who]?.postings.push({ atMs, amount });
  }

  posted(who: number): bigint {
    const all = sum(this.accounts[who]?.postings.map(({ amount }) => amount) ?? []);
    return all - this.paid(who) + this.returned(who);
  }

  /** What ever went out. */
  paid(who: number): bigint {
    return sum(this.ofState(who, ['PAID', 'RETURNED']));
  }

  /** What of it came back before the time. */
  returned(who: number, beforeMs = Number.POSITIVE_INFINITY): bigint {
    const returns = this.accounts[who]?.returns ?? [];
    return sum(returns.filter(({ atMs }) => atMs < beforeMs).map(({ amount }) => amount));
  }

  /** A payment that was made comes back. */
  giveBack(payout: OraclePayout, atMs: number): void {
    payout.state = 'RETURNED';
    this.accounts[payout.who]?.returns.push({ atMs, amount: payout.amount });
  }

  held(who: number): bigint {
    return sum(this.ofState(who, OPEN));
  }

  /** Credits from before the time and every debit, less what was paid and what is held. */
  payable(who: number, beforeMs: number): bigint {
    const postings = this.accounts[who]?.postings ?? [];
    const counted = postings.filter(({ atMs, amount }) => amount < 0n || atMs < beforeMs);
    const gone = this.paid(who) - this.returned(who, beforeMs);
    return sum(counted.map(({ amount }) => amount)) - gone - this.held(who);
  }

  /** Null when nothing is due. */
  draft(nowMs: number): OracleBatch | null {
    const { holdbackMs, minimum, unit } = this.rules;
    const beforeMs = nowMs - holdbackMs;
    const payouts = this.accounts.flatMap((account, who) => {
      const payable = this.payable(who, beforeMs);
      const again = account.payouts.some((payout) => payout.beforeMs === beforeMs);
      if (payable < minimum || again) return [];
      const payout: OraclePayout = { who, amount: payable - (payable % unit), beforeMs, state: 'PENDING' };
      return [payout];
    });
    if (payouts.length === 0) return null;
    for (const payout of payouts) this.accounts[payout.who]?.payouts.push(payout);
    const batch: OracleBatch = { payouts, state: 'DRAFT' };
    this.batches.push(batch);
    return batch;
  }

  cancel(batch: OracleBatch): void {
    batch.state = 'CANCELLED';
    for (const payout of batch.payouts) payout.state = 'CANCELLED';
  }

  send(batch: OracleBatch): void {
    batch.state = 'SUBMITTING';
    for (const payout of batch.payouts) payout.state = 'SENDING';
  }

  /** The rail said that it has the batch. */
  sent(batch: OracleBatch): void {
    batch.state = 'SUBMITTED';
    this.settle();
  }

  settle(): void {
    for (const batch of this.batches) {
      const isOver = batch.payouts.every(({ state }) => ['PAID', 'FAILED', 'RETURNED'].includes(state));
      if (batch.state === 'SUBMITTED' && isOver) batch.state = 'SETTLED';
    }
  }

  private ofState(who: number, states: readonly string[]): readonly bigint[] {
    const payouts = this.accounts[who]?.payouts ?? [];
    return payouts.filter(({ state }) => states.includes(state)).map(({ amount }) => amount);
  }
}

export function sum(amounts: readonly bigint[]): bigint {
  return amounts.reduce((total, amount) => total + amount, 0n);
}
