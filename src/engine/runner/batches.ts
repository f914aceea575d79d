import { invariant } from '../../kernel/errors.ts';
import { CACHE_SEGMENTS } from '../../kernel/graph.ts';
import type { RowWork } from '../runner.ts';
import type { AdapterBank } from './bank.ts';
import type { KvCache, KvClass } from './kv.ts';

/** A row of the step's work together with its index in the caller's list. */
export interface IndexedWork extends RowWork {
  readonly index: number;
}

/** A contiguous range of slots `[from, to)` of a capacity class. */
export interface CacheRange {
  readonly kvClass: KvClass;
  readonly from: number;
  readonly to: number;
}

/**
 * Lanes of attention for each token of a run of continuing chunks: attention is a fraction of what a token costs, so
 * twice of it is less than reading all weights for another run.
 */
const MAX_PADDING = 2;

/** Work that one model run serves. */
export interface Batch {
  readonly rows: readonly IndexedWork[];
  /** The caches that the rows read, one range for each class, at most {@link CACHE_SEGMENTS}; none without a past. */
  readonly caches: readonly CacheRange[];
}

/**
 * Splits a step's work into model runs (docs/decisions/0001-step-and-attention.md):
 * - rows that append one token run together, whatever their lengths, up to as many capacity classes as the graph has
 *   segments;
 * - first chunks need no cache and run together, apart by page count and by distance in the bank. Prefill is bound
 *   by arithmetic, so splitting costs it little, while pages in a gap of the bank's range would cost it a lot;
 * - longer chunks with a past run together likewise, as far as they stand next to each other in one capacity class
 *   and are of similar length: attention takes every slot of their range for a row of the longest one's tokens.
 */
export function splitIntoBatches(
  work: readonly RowWork[],
  cache: KvCache,
  bank: AdapterBank,
): readonly Batch[] {
  const indexed = work.map((row, index) => ({ ...row, index }));
  const decode = new Map<KvClass, IndexedWork[]>();
  const first: IndexedWork[] = [];
  const continuing: IndexedWork[] = [];
  const batches: Batch[] = [];
  for (const row of indexed) {
    if (row.tokens.length === 1) {
      const { kvClass } = cache.place(row.row);
      const rows = decode.get(kvClass) ?? [];
      rows.push(row);
      decode.set(kvClass, rows);
    } else (row.past === 0 ? first : continuing).push(row);
  }
  const classes = [...decode.values()].sort(byCapacity(cache));
  for (let from = 0; from < classes.length; from += CACHE_SEGMENTS) {
    const together = classes.slice(from, from + CACHE_SEGMENTS).map((rows) => bySlot(rows, cache));
    batches.push({ rows: together.flat(), caches: together.map((rows) => cacheRange(rows, cache)) });
  }
  for (const rows of clusterByBank(first, bank)) batches.push({ rows, caches: [] });
  for (const near of clusterByBank(continuing, bank)) {
    for (const rows of clusterBySlot(near, cache)) batches.push({ rows, caches: [cacheRange(rows, cache)] });
  }
  return batches;
}

/**
 * Rows of one class that stand close enough for one run: of the lanes that attention computes, `slots * longest`, no
 * more than {@link MAX_PADDING} for each token.
 */
function clusterBySlot(rows: readonly IndexedWork[], cache: KvCache): readonly (readonly IndexedWork[])[] {
  const located = rows
    .map((row) => ({ row, ...cache.place(row.row) }))
    .sort((a, b) => a.kvClass.capacity - b.kvClass.capacity || a.slot - b.slot);
  const clusters: { kvClass: KvClass; from: number; tokens: number; longest: number; rows: IndexedWork[] }[] =
    [];
  for (const { row, kvClass, slot } of located) {
    const length = row.tokens.length;
    const last = clusters.at(-1);
    if (last !== undefined && last.kvClass === kvClass) {
      const longest = Math.max(last.longest, length);
      if ((slot + 1 - last.from) * longest <= MAX_PADDING * (last.tokens + length)) {
        last.rows.push(row);
        last.tokens += length;
        last.longest = longest;
        continue;
      }
    }
    clusters.push({ kvClass, from: slot, tokens: length, longest: length, rows: [row] });
  }
  return clusters.map((cluster) => cluster.rows);
}

/** In the order of the lanes of attention, so that a run without gaps need not rearrange its tokens. */
function bySlot(rows: readonly IndexedWork[], cache: KvCache): readonly IndexedWork[] {
  return [...rows].sort((a, b) => cache.place(a.row).slot - cache.place(b.row).slot);
}

/** Smallest capacity first, so that neighbours in length share a run when there are too many classes for one. */
function byCapacity(cache: KvCache): (a: readonly IndexedWork[], b: readonly IndexedWork[]) => number {
  const capacity = ([row]: readonly IndexedWork[]): number =>
    row === undefined ? 0 : cache.place(row.row).kvClass.capacity;
  return (a, b) => capacity(a) - capacity(b);
}

function cacheRange(rows: readonly IndexedWork[], cache: KvCache): CacheRange {
  const places = rows.map((row) => cache.place(row.row));
  const slots = places.map((place) => place.slot);
  const kvClass = places[0]?.kvClass;
  invariant(kvClass !== undefined, 'a batch has a row');
  return { kvClass, from: Math.min(...slots), to: Math.max(...slots) + 1 };
}

function clusterByBank(rows: readonly IndexedWork[], bank: AdapterBank): readonly (readonly IndexedWork[])[] {
  const located = rows
    .map((row) => ({ row, slots: pageSlots(row, bank) }))
    .map(({ row, slots }) => ({
      row,
      pages: slots.length,
      low: Math.min(...slots),
      high: Math.max(...slots),
    }))
    .sort((a, b) => a.pages - b.pages || a.low - b.low);
  const clusters: IndexedWork[][] = [];
  let pages = -1;
  let high = 0;
  for (const item of located) {
    const last = clusters.at(-1);
    const joins = item.pages === pages && (pages === 0 || item.low <= high + 1);
    if (last !== undefined && joins) last.push(item.row);
    else clusters.push([item.row]);
    high = joins ? Math.max(high, item.high) : item.high;
    pages = item.pages;
  }
  return clusters;
}

/** Bank slots of all pages of a row's adapters. */
function pageSlots(row: RowWork, bank: AdapterBank): readonly number[] {
  return row.adapters.flatMap(({ adapter }) =>
    adapter.pages.map((_, page) => bank.slot(adapter.digest, page)),
  );
}
