import { CACHE_SEGMENTS } from '../../kernel/graph.ts';
import type { ModelShape } from '../../kernel/model.ts';
import type { GraphBuilder } from './builder.ts';
import type { WeightBits } from './stored.ts';

/**
 * Which runs a graph serves. All forms compute the same and share their weights; a narrower one has fewer nodes, which
 * is most of what a decode step of a small model costs besides its products (docs/decisions/0016-graph-forms.md).
 */
export interface GraphForm {
  /**
   * `any`: rows of any number of tokens, with or without a past, in up to {@link CACHE_SEGMENTS} capacities.
   * `single`: every row appends one token to a cache of the same capacity, in the order of the cache's slots.
   */
  readonly rows: 'any' | 'single';
  /** Whether the graph takes adapters. With `single` rows, each has one of weight 1, and all have equally many pages. */
  readonly adapters: boolean;
}

/** Takes every run. */
export const GENERAL_FORM: GraphForm = { rows: 'any', adapters: true };

/** Numbers of the cache segments that a form has inputs for. */
export function segmentsOf(form: GraphForm): readonly number[] {
  return Array.from({ length: form.rows === 'any' ? CACHE_SEGMENTS : 1 }, (_, segment) => segment);
}

/** What every part of the graph needs to know. */
export interface Context {
  readonly g: GraphBuilder;
  readonly shape: ModelShape;
  readonly bits: WeightBits;
  readonly form: GraphForm;
  /** Names of the stored tensors. */
  readonly available: ReadonlySet<string>;
}
