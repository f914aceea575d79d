import type { SamplingParams } from '../port.ts';
import { largest } from './select.ts';

/**
 * The distribution that a draw is made from, before normalisation. `ids` rise; without filters it is null and every
 * token is a candidate.
 */
export interface Candidates {
  readonly ids: readonly number[] | null;
  /** `[vocab]` weights relative to the best token's, which is 1; only those of the candidates count. */
  readonly weights: Float64Array;
}

/** Shares of the best token's weight at which the search for a nucleus looks, before it takes all tokens. */
const NUCLEUS_CUTS = [Math.exp(-3), Math.exp(-6), Math.exp(-12), Math.exp(-24)] as const;

/**
 * Divides positive and multiplies negative logits of tokens already seen, in place.
 *
 * Source: Keskar et al., "CTRL", 2019, section 4.1, with the sign rule of Hugging Face's
 * `RepetitionPenaltyLogitsProcessor`; each token counts once however often it was seen.
 */
export function penalise(logits: Float32Array, seen: ReadonlySet<number>, penalty: number): void {
  for (const id of seen) {
    const x = logits[id];
    if (x !== undefined) logits[id] = x < 0 ? x * penalty : x / penalty;
  }
}

/**
 * Applies temperature, then top-k, then top-p over what top-k left (renormalised), then min-p.
 *
 * This is the order of Hugging Face `generate` (`_get_logits_processor`: temperature, top_k, top_p, min_p) and of
 * vLLM except that vLLM's newer sampler applies min-p before top-k; min-p compares with the best token, which
 * no other filter removes, so the two differ only in the mass that top-p counts. Equal logits rank by id, so the
 * outcome does not depend on a sort's stability. The best token always stays.
 *
 * @param logits after the repetition penalty
 * @param scratch `[vocab]`, overwritten
 */
export function candidates(
  logits: Float32Array,
  best: number,
  params: SamplingParams,
  scratch: Float64Array,
): Candidates {
  const max = logits[best] ?? 0;
  for (let i = 0; i < logits.length; i++)
    scratch[i] = Math.exp(((logits[i] ?? 0) - max) / params.temperature);
  let kept: number[] | null = null;
  if (params.topK > 0 && params.topK < logits.length) kept = largest(logits, params.topK);
  if (params.topP < 1) kept = nucleus(logits, scratch, kept, params.topP);
  if (params.minP > 0) {
    const within = (id: number): boolean => (scratch[id] ?? 0) >= params.minP;
    kept = kept === null ? idsWhere(logits.length, within) : kept.filter(within);
  }
  // Ranked by id, a draw's boundaries move continuously with the logits: noise in the last digit that swaps two
  // almost equal tokens in a ranking by weight cannot change the outcome of a draw far from every boundary.
  kept?.sort((a, b) => a - b);
  return { ids: kept, weights: scratch };
}

/**
 * Smallest set of best tokens whose mass reaches `topP` of the total. Only tokens above a cut are ranked; the cut
 * is lowered until they hold enough mass, and it never separates equal weights.
 *
 * @param ranked the tokens to choose from, best first; null means the whole vocabulary
 */
function nucleus(
  logits: Float32Array,
  weights: Float64Array,
  ranked: readonly number[] | null,
  topP: number,
): number[] {
  let total = 0;
  if (ranked === null) for (let i = 0; i < weights.length; i++) total += weights[i] ?? 0;
  else for (const id of ranked) total += weights[id] ?? 0;
  const wanted = topP * total;
  const order = ranked ?? aboveCut(logits, weights, wanted);
  const kept: number[] = [];
  let mass = 0;
  for (const id of order) {
    kept.push(id);
    mass += weights[id] ?? 0;
    if (mass >= wanted) break;
  }
  return kept;
}

function aboveCut(logits: Float32Array, weights: Float64Array, wanted: number): number[] {
  for (const cut of NUCLEUS_CUTS) {
    let mass = 0;
    for (let i = 0; i < weights.length; i++) {
      const weight = weights[i] ?? 0;
      if (weight >= cut) mass += weight;
    }
    if (mass >= wanted) {
      return byLogit(
        logits,
        idsWhere(weights.length, (id) => (weights[id] ?? 0) >= cut),
      );
    }
  }
  return byLogit(
    logits,
    idsWhere(weights.length, () => true),
  );
}

function byLogit(logits: Float32Array, ids: number[]): number[] {
  return ids.sort((a, b) => (logits[b] ?? 0) - (logits[a] ?? 0) || a - b);
}

function idsWhere(count: number, keep: (id: number) => boolean): number[] {
  const ids: number[] = [];
  for (let id = 0; id < count; id++) if (keep(id)) ids.push(id);
  return ids;
}
