/** Idle flows that are remembered before those whose memory changes nothing are dropped. */
const SWEEP_AT = 1_024;

/** A client in the sense of fair queueing: a tenant in a class, or an adapter of a tenant in a class. */
export interface Flow {
  readonly id: string;
  /** Share relative to others'; positive. */
  readonly weight: number;
}

interface Account<F extends Flow> {
  readonly flow: F;
  /** The virtual token counter: service received, divided by the weight. Never falls. */
  counter: number;
  /** Sequences that wait. The flow is active while there are any. */
  waiting: number;
  /** Sequences that have not ended. */
  live: number;
  /** Number of its last activation; breaks ties, so that among equals the one that came first is served first. */
  turn: number;
}

/**
 * Virtual token counters of the flows of one level (VTC: Sheng et al., _Fairness in Serving Large Language Models_,
 * OSDI 2024, algorithm 2). Whoever has received the least goes first. A flow that comes back from idling is lifted to
 * the least counter among those that waited meanwhile, or, if nobody does, to that of the flow that waited last:
 * idling earns no credit.
 *
 * The least counter of active flows never falls (decision 10 needs that): counters only rise, and whoever joins is
 * lifted to it.
 */
export class FlowSet<F extends Flow> {
  readonly #accounts = new Map<string, Account<F>>();
  readonly #active = new Set<Account<F>>();
  readonly #make: (id: string) => F;
  #lastActive: Account<F> | null = null;
  #turns = 0;
  #idle = 0;

  constructor(make: (id: string) => F) {
    this.#make = make;
  }

  /** Flows that are remembered. */
  get size(): number {
    return this.#accounts.size;
  }

  /** Flows with sequences that wait. */
  active(): Iterable<{ readonly flow: F; readonly counter: number }> {
    return this.#active;
  }

  /** Flows whose sequences all run: they may send more, and would come back with this counter. */
  *running(): Iterable<{ readonly flow: F; readonly counter: number }> {
    const floor = this.#floor();
    for (const { flow, counter, waiting, live } of this.#accounts.values()) {
      if (live > 0 && waiting === 0) yield { flow, counter: Math.max(counter, floor) };
    }
  }

  /** The flow with that id as it is, without making it. */
  find(id: string): F | undefined {
    return this.#accounts.get(id)?.flow;
  }

  /** One more sequence of the flow waits; `isNew` when the flow has not seen it before. */
  enter(id: string, isNew: boolean): F {
    const account = this.#accounts.get(id) ?? this.#open(id);
    if (isNew) {
      if (account.live === 0 && account.waiting === 0) this.#idle -= 1;
      account.live += 1;
    }
    if (account.waiting === 0) {
      account.counter = Math.max(account.counter, this.#floor());
      account.turn = this.#turns++;
      this.#active.add(account);
    }
    account.waiting += 1;
    return account.flow;
  }

  /** One sequence of the flow waits no longer. */
  leave(id: string): void {
    const account = this.#accounts.get(id);
    if (account === undefined) return;
    account.waiting -= 1;
    if (account.waiting > 0) return;
    this.#active.delete(account);
    if (this.#active.size === 0) this.#lastActive = account;
  }

  charge(id: string, cost: number): void {
    const account = this.#accounts.get(id);
    if (account !== undefined) account.counter += cost / account.flow.weight;
  }

  /** One sequence of the flow has ended. */
  ended(id: string): void {
    const account = this.#accounts.get(id);
    if (account === undefined) return;
    account.live -= 1;
    if (account.live > 0) return;
    this.#idle += 1;
    if (this.#idle > SWEEP_AT) this.#sweep();
  }

  /** The counter that the flow has, or would have if it came now. */
  counter(id: string): number {
    const account = this.#accounts.get(id);
    if (account !== undefined && account.waiting > 0) return account.counter;
    return Math.max(account?.counter ?? 0, this.#floor());
  }

  /**
   * Active flows, least served first, as far as they are ahead of the first by at most `allowance`: who is further
   * ahead must not overtake those that do not fit at the moment. The others are sorted only when the first is not
   * enough: mostly it is, and every charge would move them anyway.
   */
  *inOrder(allowance: number): Iterable<F> {
    const first = this.#least();
    if (first === null) return;
    yield first.flow;
    const most = first.counter + allowance;
    const others: Account<F>[] = [];
    for (const account of this.#active) {
      if (account !== first && account.counter <= most) others.push(account);
    }
    others.sort((a, b) => a.counter - b.counter || a.turn - b.turn);
    for (const { flow } of others) yield flow;
  }

  #least(): Account<F> | null {
    let least: Account<F> | null = null;
    for (const account of this.#active) if (least === null || isBefore(account, least)) least = account;
    return least;
  }

  #floor(): number {
    return (this.#least() ?? this.#lastActive)?.counter ?? 0;
  }

  #open(id: string): Account<F> {
    const account = { flow: this.#make(id), counter: 0, waiting: 0, live: 0, turn: 0 };
    this.#accounts.set(id, account);
    this.#idle += 1;
    return account;
  }

  /**
   * Forgets idle flows. Those at or below the floor would be lifted to it when they come back, so nothing is lost with
   * them. Of the others, whose lead is forgiven thereby, the older half goes when they alone are too many.
   */
  #sweep(): void {
    const floor = this.#floor();
    const ahead: string[] = [];
    for (const [id, account] of this.#accounts) {
      if (account.live > 0) continue;
      if (account.counter <= floor) this.#accounts.delete(id);
      else ahead.push(id);
    }
    if (ahead.length > SWEEP_AT / 2) {
      for (const id of ahead.splice(0, ahead.length >> 1)) this.#accounts.delete(id);
    }
    this.#idle = ahead.length;
  }
}

function isBefore(a: { counter: number; turn: number }, b: { counter: number; turn: number }): boolean {
  return a.counter < b.counter || (a.counter === b.counter && a.turn < b.turn);
}
