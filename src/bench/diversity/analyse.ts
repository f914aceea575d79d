import type { Latency, Law, PointSpec, Results, Sample, System } from './schema.ts';

/** A figure over the rounds of a point. */
export interface Spread {
  readonly median: number;
  readonly least: number;
  readonly most: number;
}

/** A number of adapters, with what was measured there. */
export interface Point {
  readonly adapters: number;
  readonly tokensPerSecond: Spread;
  readonly ttft95: Spread | null;
  readonly gap95: Spread | null;
  readonly rssBytes: Spread;
  readonly samples: readonly Sample[];
}

/** Which points belong to one line of a plot. */
export interface SeriesKey {
  readonly system: System;
  readonly law: Law;
  readonly ranks: readonly number[];
  readonly priorities: PointSpec['priorities'];
  readonly streams: number;
}

/** Median, least and most; zeros where there is nothing. */
export function spread(values: readonly number[]): Spread {
  const sorted = values.toSorted((a, b) => a - b);
  const low = sorted[(sorted.length - 1) >> 1] ?? 0;
  const high = sorted[sorted.length >> 1] ?? 0;
  return { median: (low + high) / 2, least: sorted[0] ?? 0, most: sorted.at(-1) ?? 0 };
}

/** The points of a line, by number of adapters. With one adapter both laws are the same, and so is their point. */
export function seriesOf(samples: readonly Sample[], key: SeriesKey): Point[] {
  const byAdapters = new Map<number, Sample[]>();
  for (const sample of samples) {
    const { spec } = sample;
    const same =
      spec.system === key.system &&
      (spec.law === key.law || spec.adapters === 1) &&
      spec.ranks.join() === key.ranks.join() &&
      spec.priorities === key.priorities &&
      spec.streams === key.streams;
    if (same) byAdapters.set(spec.adapters, [...(byAdapters.get(spec.adapters) ?? []), sample]);
  }
  return [...byAdapters].sort(([a], [b]) => a - b).map(([adapters, own]) => pointOf(adapters, own));
}

function pointOf(adapters: number, samples: readonly Sample[]): Point {
  const p95 = (pick: (sample: Sample) => Latency | null): Spread | null => {
    const values = samples.flatMap((sample) => pick(sample)?.p95 ?? []);
    return values.length === 0 ? null : spread(values);
  };
  return {
    adapters,
    tokensPerSecond: spread(samples.map(({ tokensPerSecond }) => tokensPerSecond)),
    ttft95: p95(({ ttftMs }) => ttftMs),
    gap95: p95(({ interTokenMs }) => interTokenMs),
    rssBytes: spread(samples.map(({ rssBytes }) => rssBytes)),
    samples,
  };
}

/** The median over a point's rounds of something that not every sample has; null where none has it. */
export function medianOf(point: Point, pick: (sample: Sample) => number | null | undefined): number | null {
  const values = point.samples.flatMap((sample) => pick(sample) ?? []);
  return values.length === 0 ? null : spread(values).median;
}

/** Price of a million tokens on a machine that is paid by the hour and gives so many tokens a second. */
export function costPerMillion(pricePerHour: number, tokensPerSecond: number): number {
  return ((pricePerHour / 3_600) * 1_000_000) / tokensPerSecond;
}

/** Where a line leaves its beginning. */
export interface Bend {
  /** First number of adapters from which on throughput stays below the given share of that with the fewest. */
  readonly at: Point | null;
  /** Neighbours with the largest loss from one to the other; null when nothing is lost anywhere. */
  readonly steepest: { readonly from: Point; readonly to: Point; readonly share: number } | null;
}

/** Finds where throughput bends. */
export function bendOf(points: readonly Point[], share: number): Bend {
  const first = points[0];
  if (first === undefined) return { at: null, steepest: null };
  const limit = share * first.tokensPerSecond.median;
  const above = points.findLastIndex(({ tokensPerSecond }) => tokensPerSecond.median >= limit);
  const losses = points.slice(1).map((to, index) => {
    const from = points[index] ?? to;
    return { from, to, share: to.tokensPerSecond.median / from.tokensPerSecond.median };
  });
  const worst = losses.reduce<(typeof losses)[number] | null>(
    (found, loss) => (loss.share < (found?.share ?? 1) ? loss : found),
    null,
  );
  return { at: points[above + 1] ?? null, steepest: worst };
}

export type Cause = 'loads' | 'pages' | 'unknown';

/** Loads for each request that must come on top before they count as a reason. */
const MORE_LOADS = 0.1;
/** Factor by which the distinct adapters in use must grow before they count as one. */
const MORE_DISTINCT = 1.5;

/** What changed between two points that can make the second slower, as far as the engine's own counts say. */
export function causesOf(from: Point, to: Point): readonly Cause[] {
  const causes: Cause[] = [];
  const grew = (pick: (sample: Sample) => number | null | undefined) => {
    const [before, after] = [medianOf(from, pick), medianOf(to, pick)];
    return before === null || after === null ? null : { before, after };
  };
  const distinct = grew(({ engine }) => engine?.distinctInUse);
  if (distinct !== null && distinct.after > MORE_DISTINCT * distinct.before) causes.push('pages');
  const loads = grew((sample) => sample.loads?.perRequest);
  if (loads !== null && loads.after - loads.before > MORE_LOADS) causes.push('loads');
  return causes.length === 0 ? ['unknown'] : causes;
}

/** How far the rounds of a point lie apart, relative to their median: over all points the median, and the most. */
export function noiseOf(
  samples: readonly Sample[],
): { readonly median: number; readonly most: number } | null {
  const groups = new Map<string, number[]>();
  for (const { spec, tokensPerSecond } of samples) {
    const key = JSON.stringify(spec);
    groups.set(key, [...(groups.get(key) ?? []), tokensPerSecond]);
  }
  const widths = [...groups.values()]
    .filter((values) => values.length > 1)
    .map((values) => {
      const { least, most, median } = spread(values);
      return (most - least) / median;
    });
  if (widths.length === 0) return null;
  const { median, most } = spread(widths);
  return { median, most };
}

/** What a process for each adapter needs, by arithmetic from the processes that were measured. */
export interface ProcessArithmetic {
  readonly bytesEach: number;
  /** Throughput of the most processes that were measured: more of them share the same cores. */
  readonly tokensPerSecond: number;
  readonly measuredUpTo: number;
  readonly bytes: (adapters: number) => number;
  readonly machines: (adapters: number) => number;
  readonly costPerMillion: (adapters: number) => number;
}

/** Null where no processes were measured. */
export function processArithmetic(results: Results, points: readonly Point[]): ProcessArithmetic | null {
  const last = points.at(-1);
  const bytesEach = last === undefined ? null : medianOf(last, (sample) => sample.privateBytes);
  if (last === undefined || bytesEach === null) return null;
  const bytes = (adapters: number): number => adapters * bytesEach;
  const machines = (adapters: number): number =>
    Math.max(1, Math.ceil(bytes(adapters) / results.machine.memoryBytes));
  const tokensPerSecond = last.tokensPerSecond.median;
  return {
    bytesEach,
    tokensPerSecond,
    measuredUpTo: last.adapters,
    bytes,
    machines,
    costPerMillion: (adapters) => costPerMillion(results.pricePerHour * machines(adapters), tokensPerSecond),
  };
}
