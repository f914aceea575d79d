import { type ClassTargets, type PrefillShape, prefillMs } from './classes.ts';
import type { StepCostModel } from './cost-model.ts';
import type { Entry, SequenceSpec } from './entry.ts';
import { type ServiceWeights, startCost, tokenCost } from './service-cost.ts';

/** What sequences will take, as far as that can be said when they come. */
export class Appraisal {
  readonly #shape: PrefillShape;
  readonly #targets: ClassTargets;
  readonly #model: StepCostModel;
  readonly #weights: ServiceWeights;

  constructor(
    shape: PrefillShape,
    deps: {
      readonly targets: ClassTargets;
      readonly costs: StepCostModel;
      readonly weights: ServiceWeights;
    },
  ) {
    this.#shape = shape;
    this.#targets = deps.targets;
    this.#model = deps.costs;
    this.#weights = deps.weights;
  }

  /** The record of a sequence that comes now. */
  entry(spec: SequenceSpec): Entry {
    const cachedTokens = spec.cachedTokens ?? 0;
    const readMs = prefillMs(spec.promptTokens - cachedTokens, this.#model.costs, this.#shape);
    const entry: Entry = {
      ...spec,
      latestStartMs: spec.arrivedMs + this.#targets[spec.priority].ttftMs - readMs,
      serviceCost: 0,
      rowMs: readMs + spec.maxTokens * this.#model.recentMs,
      state: spec.adapters.length === 0 ? 'waiting' : 'pending',
      pages: [],
      bytesLoaded: 0,
      cachedTokens,
      processed: 0,
      known: spec.promptTokens,
      bypassed: 0,
      stalled: 0,
      started: false,
      holdsKv: false,
      computed: 0,
      preempted: 0,
      aged: false,
      stepped: false,
    };
    entry.serviceCost = this.serviceLeft(entry);
    return entry;
  }

  /** What the sequence is charged when it first starts. */
  startCost({ promptTokens, cachedTokens, pages, bytesLoaded }: Entry): number {
    const { prefillTokensPerStep } = this.#shape;
    const unread = { promptTokens: promptTokens - cachedTokens };
    return startCost(unread, pagesOf(pages), bytesLoaded, prefillTokensPerStep, this.#weights);
  }

  /** What it is charged for tokens that it generated. */
  tokensCost(tokens: number, pagesShare: number): number {
    return tokens * tokenCost(pagesShare, this.#weights);
  }

  /** What it will still be charged at most. */
  serviceLeft(entry: Entry): number {
    const tokens = entry.promptTokens + entry.maxTokens - entry.known;
    return (entry.started ? 0 : this.startCost(entry)) + this.tokensCost(tokens, pagesOf(entry.pages));
  }
}

/** Rank pages of several adapters. */
export function pagesOf(adapters: Entry['pages']): number {
  let sum = 0;
  for (const adapter of adapters) sum += adapter.pages;
  return sum;
}
