import { invariant } from '../../kernel/errors.ts';
import { CACHE_SEGMENTS } from '../../kernel/graph.ts';
import type { Batch } from './batches.ts';

/** The lanes of one cache segment. */
export interface LaneSegment {
  /** Bc. */
  readonly rows: number;
  /** Tc. */
  readonly capacity: number;
}

/** Where packed tokens stand in the lanes of attention. */
export interface LaneLayout {
  /** B. */
  readonly rows: number;
  /** S. */
  readonly width: number;
  /** Exactly {@link CACHE_SEGMENTS}; those that the run does not need have no rows. */
  readonly segments: readonly LaneSegment[];
  /** Lane of every row of the batch. */
  readonly laneOf: readonly number[];
  /** `[B, S]`, see the graph contract. */
  readonly laneIndex: BigInt64Array;
  /** `[N]`. */
  readonly unlaneIndex: BigInt64Array;
}

/**
 * Lays a batch out in lanes, cache segment by cache segment; in a segment a row's lane is its slot in the range. Lanes
 * of slots that do not take part repeat token 0, unread.
 */
export function laneLayout(batch: Batch): LaneLayout {
  const width = batch.rows.reduce((max, row) => Math.max(max, row.tokens.length), 0);
  const used = batch.caches.map(({ kvClass, from, to }) => ({ rows: to - from, capacity: kvClass.capacity }));
  if (batch.caches.length === 0) used.push({ rows: batch.rows.length, capacity: 0 });
  const empty = Array.from({ length: CACHE_SEGMENTS - used.length }, () => ({ rows: 0, capacity: 0 }));
  const rows = used.reduce((sum, segment) => sum + segment.rows, 0);
  const laneIndex = new BigInt64Array(rows * width);
  const tokens = batch.rows.reduce((sum, row) => sum + row.tokens.length, 0);
  const unlaneIndex = new BigInt64Array(tokens);
  const lanes = lanesOfRows(batch);
  const laneOf: number[] = [];
  let token = 0;
  batch.rows.forEach((row, index) => {
    const lane = batch.caches.length === 0 ? index : lanes.get(row.row);
    invariant(lane !== undefined, 'a row of a batch with caches stands in one of them');
    laneOf.push(lane);
    for (let s = 0; s < width; s++) {
      // Padding repeats the row's own last token, so nothing of another row can leak into its sums.
      laneIndex[lane * width + s] = BigInt(token + Math.min(s, row.tokens.length - 1));
    }
    for (let s = 0; s < row.tokens.length; s++) unlaneIndex[token + s] = BigInt(lane * width + s);
    token += row.tokens.length;
  });
  return { rows, width, segments: [...used, ...empty], laneOf, laneIndex, unlaneIndex };
}

function lanesOfRows(batch: Batch): ReadonlyMap<number, number> {
  const lanes = new Map<number, number>();
  let base = 0;
  for (const { kvClass, from, to } of batch.caches) {
    for (let slot = from; slot < to; slot++) {
      const id = kvClass.slots[slot];
      if (id !== undefined) lanes.set(id, base + slot - from);
    }
    base += to - from;
  }
  return lanes;
}

/** `[B, S]`: absolute positions; padding has some position of its row, lanes without a row have position 0. */
export function lanePositions(batch: Batch, lanes: LaneLayout): BigInt64Array {
  const positions = new BigInt64Array(lanes.rows * lanes.width);
  batch.rows.forEach((row, index) => {
    const first = (lanes.laneOf[index] ?? 0) * lanes.width;
    for (let s = 0; s < lanes.width; s++) {
      positions[first + s] = BigInt(row.past + Math.min(s, row.tokens.length - 1));
    }
  });
  return positions;
}

/**
 * The masks of all segments, `[Bc, S, Tc + S]` each: a token sees its row's past and the tokens of its row up to itself.
 */
export function attentionMasks(batch: Batch, lanes: LaneLayout): readonly Float32Array[] {
  const pastOf = new Array<number>(lanes.rows).fill(0);
  batch.rows.forEach((row, index) => {
    pastOf[lanes.laneOf[index] ?? 0] = row.past;
  });
  let base = 0;
  return lanes.segments.map(({ rows, capacity }) => {
    const keys = capacity + lanes.width;
    const mask = new Float32Array(rows * lanes.width * keys).fill(Number.NEGATIVE_INFINITY);
    for (let lane = 0; lane < rows; lane++) {
      const past = pastOf[base + lane] ?? 0;
      for (let s = 0; s < lanes.width; s++) {
        const row = (lane * lanes.width + s) * keys;
        mask.fill(0, row, row + past);
        mask.fill(0, row + capacity, row + capacity + s + 1);
      }
    }
    base += rows;
    return mask;
  });
}
