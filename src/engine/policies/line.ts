import { invariant } from '../../kernel/errors.ts';
import type { SequenceView } from '../policy.ts';

/** Total order of sequences: negative when the first goes first. Must not change while they wait. */
export type Order = (a: SequenceView, b: SequenceView) => number;

export function byArrival(a: SequenceView, b: SequenceView): number {
  return a.key - b.key;
}

/** Least slack first. Times to go are compared, since the difference of two infinite ones is not a number. */
export function bySlack(a: SequenceView, b: SequenceView): number {
  if (a.latestStartMs < b.latestStartMs) return -1;
  if (a.latestStartMs > b.latestStartMs) return 1;
  return a.key - b.key;
}

/** Waiting sequences in order, with the sums that predictions need. Finding is logarithmic. */
export class Line {
  readonly #order: Order;
  readonly #sequences: SequenceView[] = [];
  #rowMs = 0;
  #serviceCost = 0;

  constructor(order: Order) {
    this.#order = order;
  }

  get sequences(): readonly SequenceView[] {
    return this.#sequences;
  }

  get size(): number {
    return this.#sequences.length;
  }

  get first(): SequenceView | undefined {
    return this.#sequences[0];
  }

  /** Row occupation of all of them, in milliseconds. */
  get rowMs(): number {
    return this.#rowMs;
  }

  get serviceCost(): number {
    return this.#serviceCost;
  }

  add(sequence: SequenceView): void {
    this.#sequences.splice(this.#find(sequence), 0, sequence);
    this.#rowMs += sequence.rowMs;
    this.#serviceCost += sequence.serviceCost;
  }

  remove(sequence: SequenceView): void {
    const at = this.#find(sequence);
    invariant(this.#sequences[at]?.key === sequence.key, 'who leaves a line stands in it');
    this.#sequences.splice(at, 1);
    // Sums of fractions drift; an empty line is the chance to start over.
    this.#rowMs = this.#sequences.length === 0 ? 0 : this.#rowMs - sequence.rowMs;
    this.#serviceCost = this.#sequences.length === 0 ? 0 : this.#serviceCost - sequence.serviceCost;
  }

  /** Where the sequence stands, or would. */
  #find(sequence: SequenceView): number {
    let from = 0;
    let to = this.#sequences.length;
    while (from < to) {
      const middle = (from + to) >> 1;
      const other = this.#sequences[middle];
      if (other !== undefined && this.#order(other, sequence) < 0) from = middle + 1;
      else to = middle;
    }
    return from;
  }
}
