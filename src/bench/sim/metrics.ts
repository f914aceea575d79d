import type { ClassTargets } from '../../engine/classes.ts';
import type { SimRecord, SimResult } from './simulate.ts';

/** The value below which the given share of the values lies; 0 without values. */
export function quantile(values: readonly number[], share: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.max(0, Math.ceil(sorted.length * share) - 1)] ?? 0;
}

/** Output tokens per second. */
export function throughput({ records, endMs }: SimResult): number {
  return (records.reduce((sum, { tokens }) => sum + tokens, 0) / endMs) * 1_000;
}

/** Milliseconds from arrival to first token of every request that got one. */
export function ttfts(records: readonly SimRecord[]): number[] {
  return records.flatMap(({ request, firstMs }) => (firstMs === null ? [] : [firstMs - request.atMs]));
}

/** Whether a request was answered in time: its first token, and in the mean every further one. */
export function attained({ request, firstMs, endMs, tokens }: SimRecord, targets: ClassTargets): boolean {
  if (firstMs === null || endMs === null) return false;
  const target = targets[request.priority];
  const betweenMs = tokens > 1 ? (endMs - firstMs) / (tokens - 1) : 0;
  return firstMs - request.atMs <= target.ttftMs && betweenMs <= target.interTokenMs;
}

/** Tokens per second of requests that were answered in time. */
export function goodput(result: SimResult, targets: ClassTargets): number {
  const good = result.records.filter((record) => attained(record, targets));
  return (good.reduce((sum, { tokens }) => sum + tokens, 0) / result.endMs) * 1_000;
}
