import { pageLayout } from '../kernel/graph.ts';
import type { ModelShape } from '../kernel/model.ts';

/**
 * Rank of one adapter page: an adapter of rank 8 takes one, one of rank 40 takes five. Wider pages would make fewer
 * groups of a step, and narrow adapters pay for ranks that they do not have.
 */
export const PAGE_RANK = 8;

/** Context length where the operator names none; longer ones cost memory that few use. */
const DEFAULT_MAX_CONTEXT = 8192;

/** Bytes of one page of an adapter. */
export function pageBytes(shape: ModelShape): number {
  return pageLayout(shape, PAGE_RANK).elements * Float32Array.BYTES_PER_ELEMENT;
}

/**
 * Most tokens of a sequence: what the backbone was trained for, and what the operator allows.
 * @param maxContext null takes up to 8192
 */
export function contextLength(shape: ModelShape, maxContext: number | null): number {
  return Math.min(shape.maxPositions, maxContext ?? DEFAULT_MAX_CONTEXT);
}
