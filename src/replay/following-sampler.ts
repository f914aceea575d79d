import type { GeneratedToken } from '../engine/port.ts';
import { createSampler, type Draw, type Sampler } from '../engine/sampler.ts';
import { penalise } from '../engine/sampling/filters.ts';
import { logitStats, logprob } from '../engine/sampling/logprobs.ts';
import { largest } from '../engine/sampling/select.ts';

/** One token of an answer, beside what this run holds best in its place. */
export interface Place {
  /** Counts the answer's tokens from 0. */
  readonly at: number;
  /** The answer's token. */
  readonly given: number;
  /** The token with the largest logit here, after the repetition penalty. */
  readonly best: number;
  /** By how much the best logit exceeds the second best. */
  readonly margin: number;
  /** By how much the best logit exceeds that of the answer's token; 0 where they are one, infinite for what is no token, and no number where scores are not finite. */
  readonly behind: number;
}

/**
 * Takes the answer's tokens whatever it would choose itself, and notes both. So every place is judged behind the same
 * tokens as in the first run: one difference does not make all that follows differ, and what does differ is counted.
 * Behind the end of the answer it chooses as the engine does.
 */
export class FollowingSampler implements Sampler {
  readonly places: Place[] = [];
  readonly #answer: readonly number[];
  readonly #own: Sampler;

  constructor(answer: readonly number[], vocabSize: number) {
    this.#answer = answer;
    this.#own = createSampler(vocabSize);
  }

  sample(draw: Draw): GeneratedToken | null {
    const own = this.#own.sample(draw);
    const given = this.#answer[draw.step];
    const { logits } = draw;
    if (own === null || given === undefined || !(logits instanceof Float32Array)) return own;
    const scores = scoresOf(logits, draw);
    const [best = 0, second = 0] = largest(scores, 2);
    const top = scores[best] ?? Number.NaN;
    // Of scores that are not finite, such as under a penalty near 0, none is behind another.
    const behind = Number.isFinite(top) ? top - (scores[given] ?? Number.NEGATIVE_INFINITY) : Number.NaN;
    this.places.push({ at: draw.step, given, best, margin: top - (scores[second] ?? Number.NaN), behind });
    const stats = logitStats(logits);
    // What is not in the vocabulary cannot be followed.
    if (stats === null || behind === Number.POSITIVE_INFINITY) return own;
    return { id: given, logprob: logprob(logits[given] ?? Number.NaN, stats) };
  }
}

/** The logits that a greedy choice is made from. */
function scoresOf(logits: Float32Array, { params, seen }: Draw): Float32Array {
  if (params.repetitionPenalty === 1) return logits;
  const scores = Float32Array.from(logits);
  penalise(scores, seen, params.repetitionPenalty);
  return scores;
}
