import type { GeneratedToken } from '../engine/port.ts';
import { createSampler, type Draw, type Sampler } from '../engine/sampler.ts';

/** Logits of one sequence, one row for each token of its answer. */
export type Rows = readonly Float32Array[];

/**
 * Chooses greedily, or the tokens of answers that it is given, and keeps all logits that it chose from. Greedy requests
 * have no use for their seed, so it says which sequence a draw is of.
 */
export class RecordingSampler implements Sampler {
  readonly rows = new Map<number, Float32Array[]>();
  readonly #own: Sampler;
  readonly #answers: ReadonlyMap<number, readonly number[]>;

  /** @param answers by the seeds of the requests */
  constructor(vocabSize: number, answers: ReadonlyMap<number, readonly number[]> = new Map()) {
    this.#own = createSampler(vocabSize);
    this.#answers = answers;
  }

  sample(draw: Draw): GeneratedToken | null {
    const own = this.#own.sample(draw);
    const { seed } = draw.params;
    if (own === null || !(draw.logits instanceof Float32Array)) return own;
    const rows = this.rows.get(seed) ?? [];
    rows.push(Float32Array.from(draw.logits));
    this.rows.set(seed, rows);
    const given = this.#answers.get(seed)?.[draw.step];
    return given === undefined ? own : { ...own, id: given };
  }
}

/** How the logits of one run differ from those of another, over all positions of all sequences that both have. */
export interface Difference {
  readonly positions: number;
  /** Positions of which every logit has the same bits. */
  readonly same: number;
  /** The largest difference of a logit. */
  readonly largest: number;
  /** Positions at which another token is best. */
  readonly otherBest: number;
  /** By how much the first run's best token is above the other's best there, at most. */
  readonly furthestBehind: number;
}

export function difference(one: ReadonlyMap<number, Rows>, other: ReadonlyMap<number, Rows>): Difference {
  const total = { positions: 0, same: 0, largest: 0, otherBest: 0, furthestBehind: 0 };
  for (const [seed, rows] of one) {
    for (const [at, row] of rows.entries()) {
      const beside = other.get(seed)?.[at];
      if (beside === undefined) throw new Error(`sequence ${seed} has a position ${at} in both runs`);
      const largest = row.reduce((most, logit, id) => Math.max(most, Math.abs(logit - (beside[id] ?? 0))), 0);
      total.positions += 1;
      if (largest === 0) total.same += 1;
      const [own, others] = [bestTwo(row).best, bestTwo(beside).best];
      if (own !== others) total.otherBest += 1;
      total.furthestBehind = Math.max(total.furthestBehind, (row[own] ?? 0) - (row[others] ?? 0));
      total.largest = Math.max(total.largest, largest);
    }
  }
  return total;
}

/** By how much the best token of each position exceeds the second best, ascending. */
export function margins(rows: Iterable<Rows>): readonly number[] {
  return [...rows].flatMap((sequence) => sequence.map((row) => bestTwo(row).margin)).sort((a, b) => a - b);
}

function bestTwo(row: Float32Array): { readonly best: number; readonly margin: number } {
  let [best, first, second] = [0, Number.NEGATIVE_INFINITY, Number.NEGATIVE_INFINITY];
  for (const [id, logit] of row.entries()) {
    if (logit > first) [best, first, second] = [id, logit, first];
    else if (logit > second) second = logit;
  }
  return { best, margin: first - second };
}
