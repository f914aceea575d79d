import type { GeneratedToken, SamplingParams, SequenceRequest, TokenLogprob } from './port.ts';
import type { LogitSummary } from './runner.ts';
import { type Candidates, candidates, penalise } from './sampling/filters.ts';
import { logitStats, logprob } from './sampling/logprobs.ts';
import { uniform } from './sampling/philox.ts';
import { largest } from './sampling/select.ts';

/** One draw: everything that its outcome depends on. */
export interface Draw {
  /** Raw logits, `[vocab]`, not modified; or their summary if {@link greedyOnly} holds for the request. */
  readonly logits: Float32Array | LogitSummary;
  readonly params: SamplingParams;
  /** Tokens of prompt and completion so far, for the repetition penalty. */
  readonly seen: ReadonlySet<number>;
  /** How many tokens this sequence has generated before. */
  readonly step: number;
  /** How many of the best alternatives to report. */
  readonly topLogprobs: number;
}

/** Whether a request takes the best token every time and asks for nothing else, so that a summary is enough for it. */
export function greedyOnly({
  sampling,
  topLogprobs,
}: Pick<SequenceRequest, 'sampling' | 'topLogprobs'>): boolean {
  return sampling.temperature === 0 && sampling.repetitionPenalty === 1 && topLogprobs === 0;
}

/** Chooses tokens. Holds scratch memory and nothing else: a draw's outcome depends on its arguments alone. */
export interface Sampler {
  /** The token, or null when a logit is not finite. */
  sample(draw: Draw): GeneratedToken | null;
}

/**
 * Makes a sampler. Order of the steps: repetition penalty, temperature, top-k, top-p, min-p (see
 * {@link candidates}); log-probabilities are those of the raw logits, as the model held them.
 *
 * @param vocabSize length of every row of logits
 */
export function createSampler(vocabSize: number): Sampler {
  const penalised = new Float32Array(vocabSize);
  const weights = new Float64Array(vocabSize);
  return {
    sample({ logits, params, seen, step, topLogprobs }) {
      if (!(logits instanceof Float32Array)) return bestOf(logits);
      const stats = logits.length === vocabSize ? logitStats(logits) : null;
      if (stats === null) return null;
      let scores = logits;
      let best = stats.best;
      if (params.repetitionPenalty !== 1) {
        penalised.set(logits);
        penalise(penalised, seen, params.repetitionPenalty);
        scores = penalised;
        best = argmax(penalised);
      }
      const id =
        params.temperature === 0
          ? best
          : pick(candidates(scores, best, params, weights), uniform(params.seed, step), best);
      const scored = (token: number): TokenLogprob => ({
        id: token,
        logprob: logprob(logits[token] ?? Number.NaN, stats),
      });
      if (topLogprobs === 0) return scored(id);
      return { ...scored(id), top: largest(logits, topLogprobs).map(scored) };
    },
  };
}

/** The best token of a summary, or null when the summary shows that a logit is not finite. */
function bestOf({ best, max, min, logSumExp }: LogitSummary): GeneratedToken | null {
  const finite = Number.isFinite(max) && Number.isFinite(min) && Number.isFinite(logSumExp);
  return finite ? { id: best, logprob: max - logSumExp } : null;
}

/** Index of the largest value; the lowest index wins ties. */
export function argmax(values: Float32Array): number {
  let best = 0;
  let max = values[0] ?? Number.NEGATIVE_INFINITY;
  for (let i = 1; i < values.length; i++) {
    const x = values[i] ?? Number.NEGATIVE_INFINITY;
    if (x > max) {
      max = x;
      best = i;
    }
  }
  return best;
}

/** Inverse of the cumulative distribution over ids at `u` in [0, 1); `fallback` if rounding ends the walk early. */
function pick({ ids, weights }: Candidates, u: number, fallback: number): number {
  let total = 0;
  if (ids === null) for (let i = 0; i < weights.length; i++) total += weights[i] ?? 0;
  else for (const id of ids) total += weights[id] ?? 0;
  const target = u * total;
  let mass = 0;
  if (ids === null) {
    for (let i = 0; i < weights.length; i++) {
      mass += weights[i] ?? 0;
      if (mass > target) return i;
    }
  } else {
    for (const id of ids) {
      mass += weights[id] ?? 0;
      if (mass > target) return id;
    }
  }
  return fallback;
}
