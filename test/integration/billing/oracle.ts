import type { Uuid } from '../../../src/kernel/ids.ts';

/** What a token costs, in nano-units. */
export interface Rates {
  readonly versionId: Uuid;
  readonly fromMs: number;
  readonly input: bigint;
  readonly cached: bigint;
  readonly output: bigint;
}

/** Tokens of a request, when it is admitted or when it has ended. */
export interface Counts {
  readonly prompt: number;
  readonly cached: number;
  readonly output: number;
}

interface Admitted {
  readonly customer: number;
  /** Those that were in effect when it was admitted. */
  readonly rates: Rates;
  readonly most: bigint;
}

/** What each of the customers has, and what the platform got, as one would keep it in memory. */
export class ChargingOracle {
  readonly customers: { posted: bigint; held: bigint }[];
  platform = 0n;
  readonly #rates: Rates[] = [];
  readonly #open = new Map<number, Admitted>();

  constructor(customers: number, rates: Rates) {
    this.customers = Array.from({ length: customers }, () => ({ posted: 0n, held: 0n }));
    this.#rates.push(rates);
  }

  changePrice(rates: Rates): void {
    this.#rates.push(rates);
  }

  /** Moves money in, or out as far as there is some; whether it did. */
  move(customer: number, amount: bigint): boolean {
    const has = this.#of(customer);
    if (has.posted - has.held + amount < 0n) return false;
    has.posted += amount;
    return true;
  }

  /** Whether the request fits. It is known by its number until it has ended. */
  admit(number: number, customer: number, nowMs: number, { prompt, output }: Counts): boolean {
    const rates = this.#rates.findLast(({ fromMs }) => fromMs <= nowMs);
    if (rates === undefined) throw new Error('There is a price from the beginning on.');
    let dearer = rates.input;
    if (rates.cached > dearer) dearer = rates.cached;
    // Two lines of a prompt may each be rounded.
    const rounding = prompt > 1 && rates.input > 0n && rates.cached > 0n ? 1n : 0n;
    const most = BigInt(prompt) * dearer + rounding + BigInt(output) * rates.output;
    const has = this.#of(customer);
    if (most > has.posted - has.held) return false;
    has.held += most;
    this.#open.set(number, { customer, rates, most });
    return true;
  }

  /** Ends a request; answers what it cost and the price that it was pinned to. */
  end(number: number, { prompt, cached, output }: Counts): { readonly cost: bigint; readonly rates: Rates } {
    const admitted = this.#open.get(number);
    if (admitted === undefined) throw new Error('A request ends once.');
    this.#open.delete(number);
    const { customer, rates, most } = admitted;
    const cost =
      BigInt(prompt - cached) * rates.input + BigInt(cached) * rates.cached + BigInt(output) * rates.output;
    const has = this.#of(customer);
    has.held -= most;
    has.posted -= cost;
    this.platform += cost;
    return { cost, rates };
  }

  #of(customer: number): { posted: bigint; held: bigint } {
    const found = this.customers[customer];
    if (found === undefined) throw new Error(`There is no customer ${customer}.`);
    return found;
  }
}
