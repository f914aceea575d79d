import { at } from './array.ts';
import { type ReferenceModel, ReferenceSequence, softmax } from './model.ts';
import type { WeightedAdapter } from './peft.ts';

export interface GreedyRequest {
  readonly model: ReferenceModel;
  readonly adapters: readonly WeightedAdapter[];
  readonly promptIds: readonly number[];
  readonly maxTokens: number;
  readonly ignoreEos: boolean;
}

export interface GreedyResult {
  /** Generated tokens only; an end-of-sequence token that stopped the run is left out. */
  readonly ids: number[];
  /** Log-probability of each generated token at temperature 1. */
  readonly logprobs: number[];
  /** Best minus second-best logit at each step: how much error the choice of token tolerates. */
  readonly margins: number[];
  readonly finishReason: 'stop' | 'length';
}

interface Choice {
  readonly id: number;
  readonly logprob: number;
  readonly margin: number;
}

/** The most likely token. Equal logits go to the lower id, as argmax does elsewhere. */
export function greedyChoice(logits: Float64Array): Choice {
  let id = -1;
  let best = -Infinity;
  let second = -Infinity;
  for (let i = 0; i < logits.length; i++) {
    const value = at(logits, i);
    if (value > best) {
      second = best;
      best = value;
      id = i;
    } else if (value > second) {
      second = value;
    }
  }
  let total = 0;
  for (const value of logits) total += Math.exp(value - best);
  return { id, logprob: -Math.log(total), margin: best - second };
}

function prefill(sequence: ReferenceSequence, promptIds: readonly number[]): Float64Array {
  let hidden: Float64Array | undefined;
  for (const id of promptIds) hidden = sequence.append(id);
  if (hidden === undefined) throw new Error('the prompt is empty');
  return sequence.logits(hidden);
}

export function referenceGreedy(request: GreedyRequest): GreedyResult {
  const { model, adapters, promptIds, maxTokens, ignoreEos } = request;
  const sequence = new ReferenceSequence(model, adapters);
  const ids: number[] = [];
  const logprobs: number[] = [];
  const margins: number[] = [];
  let logits = prefill(sequence, promptIds);
  while (ids.length < maxTokens) {
    const { id, logprob, margin } = greedyChoice(logits);
    if (!ignoreEos && model.config.eosTokenIds.includes(id))
      return { ids, logprobs, margins, finishReason: 'stop' };
    ids.push(id);
    logprobs.push(logprob);
    margins.push(margin);
    // The last token's successor is never asked for, so its forward pass is skipped.
    if (ids.length < maxTokens) logits = sequence.logits(sequence.append(id));
  }
  return { ids, logprobs, margins, finishReason: 'length' };
}

/** Full logits at every position of a token sequence; entry i predicts token i + 1. */
export function referenceLogits(
  model: ReferenceModel,
  adapters: readonly WeightedAdapter[],
  ids: readonly number[],
): Float64Array[] {
  const sequence = new ReferenceSequence(model, adapters);
  return ids.map((id) => sequence.logits(sequence.append(id)));
}

/**
 * Probabilities of the next token after `ids` at a positive temperature,
 * before any top-k or top-p cut, for statistical tests of a sampler.
 */
export function referenceSampleDistribution(
  model: ReferenceModel,
  adapters: readonly WeightedAdapter[],
  ids: readonly number[],
  temperature: number,
): Float64Array {
  const logits = prefill(new ReferenceSequence(model, adapters), ids);
  return softmax(logits.map((value) => value / temperature));
}
