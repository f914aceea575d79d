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

/** The search for a nucleus sorts tokens into buckets of this many per unit of logit / temperature, … */
const BUCKETS_PER_UNIT = 64;
/** … up to this many; the last one takes all the rest, whose weights are below e^-64. */
const BUCKETS = 64 * BUCKETS_PER_UNIT;

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
  const { temperature, topK, topP, minP } = params;
  for (let i = 0; i < logits.length; i++) {
    scratch[i] = Math.exp(((logits[i] ?? 0) - max) / temperature);
  }
  let kept: number[] | null = null;
  if (topK > 0 && topK < logits.length) {
    kept = largest(logits, topK);
    if (topP < 1) kept = nucleusOf(kept, scratch, topP);
    // By id, a draw's boundaries move continuously with the logits: noise in the last digit that swaps two almost
    // equal tokens in a ranking by weight cannot change the outcome of a draw far from every boundary.
    kept.sort((a, b) => a - b);
  } else if (topP < 1) {
    kept = nucleusOfAll(logits, scratch, max, temperature, topP);
  }
  if (minP > 0) {
    const within = (id: number): boolean => (scratch[id] ?? 0) >= minP;
    kept = kept === null ? idsWhere(logits.length, within) : kept.filter(within);
  }
  return { ids: kept, weights: scratch };
}

/** The first of the ranked tokens whose mass reaches `topP` of that of all ranked ones. */
function nucleusOf(ranked: readonly number[], weights: Float64Array, topP: number): number[] {
  let wanted = 0;
  for (const id of ranked) wanted += weights[id] ?? 0;
  wanted *= topP;
  const kept: number[] = [];
  let mass = 0;
  for (const id of ranked) {
    kept.push(id);
    mass += weights[id] ?? 0;
    if (mass >= wanted) break;
  }
  return kept;
}

/**
 * Smallest set of best tokens whose mass reaches `topP` of the whole vocabulary's, rising by id. Tokens are counted
 * into buckets by logit; only those of the one bucket in which the mass is reached are ranked.
 */
function nucleusOfAll(
  logits: Float32Array,
  weights: Float64Array,
  max: number,
  temperature: number,
  topP: number,
): number[] {
  const scale = BUCKETS_PER_UNIT / temperature;
  const bucketOf = (id: number): number =>
    Math.min(BUCKETS - 1, Math.floor((max - (logits[id] ?? 0)) * scale));
  const masses = new Float64Array(BUCKETS);
  for (let id = 0; id < weights.length; id++) {
    const bucket = bucketOf(id);
    masses[bucket] = (masses[bucket] ?? 0) + (weights[id] ?? 0);
  }
  const wanted = topP * masses.reduce((sum, mass) => sum + mass, 0);
  let mass = 0;
  let boundary = 0;
  while (boundary < BUCKETS - 1 && mass + (masses[boundary] ?? 0) < wanted) mass += masses[boundary++] ?? 0;
  const ranked = idsWhere(weights.length, (id) => bucketOf(id) === boundary).sort(
    (a, b) => (logits[b] ?? 0) - (logits[a] ?? 0) || a - b,
  );
  let last = ranked[0] ?? 0;
  for (const id of ranked) {
    last = id;
    mass += weights[id] ?? 0;
    if (mass >= wanted) break;
  }
  const cut = logits[last] ?? 0;
  return idsWhere(weights.length, (id) => {
    const logit = logits[id] ?? 0;
    return logit > cut || (logit === cut && id <= last);
  });
}

function idsWhere(count: number, keep: (id: number) => boolean): number[] {
  const ids: number[] = [];
  for (let id = 0; id < count; id++) if (keep(id)) ids.push(id);
  return ids;
}
