import { costPerMillion, medianOf, type Point, type Spread } from './analyse.ts';
import { MEAN_RANK, MIXED_RANKS, ONE_RANK } from './plan.ts';
import type { SimulatedPoint } from './schema.ts';
import { type Plot, type PlotPoint, type PlotSeries, svgPlot } from './svg.ts';
import type { View } from './view.ts';

/** Colours that people who confuse some can tell apart (Okabe and Ito). */
const COLOR = {
  uniform: '#0072b2',
  zipf: '#56b4e9',
  swap: '#d55e00',
  processes: '#009e73',
  peer: '#cc79a7',
  other: '#e69f00',
  ink: '#24292f',
} as const;

const X_LABEL = 'registered adapters';

/** The plots of docs/diversity.md, by file name. */
export function plotsOf(view: View): ReadonlyMap<string, string> {
  const plots: readonly (readonly [string, Plot])[] = [
    ['throughput.svg', throughput(view)],
    ['ttft.svg', firstToken(view)],
    ['inter-token.svg', interToken(view)],
    ['memory.svg', memory(view)],
    ['cost.svg', cost(view)],
    ['ranks.svg', ranks(view)],
    ['priorities.svg', priorities(view)],
  ];
  return new Map(plots.map(([name, plot]) => [name, svgPlot(plot)]));
}

type Pick<P> = (point: P) => Spread | number | null | undefined;

function series<P extends { readonly adapters: number }>(
  name: string,
  color: string,
  points: readonly P[],
  pick: Pick<P>,
  dashed = false,
): PlotSeries {
  const drawn = points.flatMap((point): PlotPoint[] => {
    const value = pick(point);
    if (value === null || value === undefined) return [];
    if (typeof value === 'number') return value > 0 ? [{ x: point.adapters, y: value }] : [];
    return [{ x: point.adapters, y: value.median, least: value.least, most: value.most }];
  });
  return { name, color, dashed, points: drawn };
}

/** The lines that every plot over systems has, by what to take of a point. */
function systems(view: View, pick: Pick<Point>): PlotSeries[] {
  return [
    series('Patchbay, uniform', COLOR.uniform, view.uniform, pick),
    series('Patchbay, Zipf', COLOR.zipf, view.zipf, pick),
    series('swap of merged weights', COLOR.swap, view.swap.uniform, pick),
    series('a process per adapter', COLOR.processes, view.processes, pick),
    series('node-llama-cpp', COLOR.peer, view.peer, pick),
  ];
}

function simulated(view: View, pick: Pick<SimulatedPoint>): PlotSeries[] {
  return [
    series('simulated, uniform', COLOR.uniform, view.simulated.uniform, pick, true),
    series('simulated, Zipf', COLOR.zipf, view.simulated.zipf, pick, true),
  ];
}

function throughput(view: View): Plot {
  const inPlace: Pick<Point> = (point) => medianOf(point, ({ swap }) => swap?.inPlaceTokensPerSecond);
  return {
    title: 'Output tokens per second',
    xLabel: X_LABEL,
    yLabel: 'tokens/s',
    yScale: 'linear',
    series: [
      ...systems(view, ({ tokensPerSecond }) => tokensPerSecond),
      series('swap in place (arithmetic)', COLOR.swap, view.swap.uniform, inPlace, true),
      ...simulated(view, ({ tokensPerSecond }) => tokensPerSecond),
    ],
  };
}

function firstToken(view: View): Plot {
  return {
    title: 'Time to the first token, 95th percentile',
    xLabel: X_LABEL,
    yLabel: 'milliseconds',
    yScale: 'log',
    series: [...systems(view, ({ ttft95 }) => ttft95), ...simulated(view, ({ ttftMs }) => ttftMs.p95)],
  };
}

function interToken(view: View): Plot {
  return {
    title: 'Time between tokens, 95th percentile',
    xLabel: X_LABEL,
    yLabel: 'milliseconds',
    yScale: 'log',
    series: [
      ...systems(view, ({ gap95 }) => gap95),
      ...simulated(view, ({ interTokenMs }) => interTokenMs.p95),
    ],
  };
}

const GIB = 2 ** 30;

function memory(view: View): Plot {
  const each = view.processArithmetic;
  const scaled = ({ median, least, most }: Spread): Spread => ({
    median: median / GIB,
    least: least / GIB,
    most: most / GIB,
  });
  const hostCache: Pick<Point> = (point) =>
    (medianOf(point, ({ engine }) => engine?.hostCacheBytes) ?? 0) / GIB;
  return {
    title: 'Resident memory',
    xLabel: X_LABEL,
    yLabel: 'GiB',
    yScale: 'log',
    series: [
      ...systems(view, ({ rssBytes }) => scaled(rssBytes)),
      series('Patchbay’s host cache, uniform', COLOR.other, view.uniform, hostCache),
      series(
        'processes (arithmetic)',
        COLOR.processes,
        arithmeticPoints(view),
        ({ adapters }) => (each === null ? null : each.bytes(adapters) / GIB),
        true,
      ),
    ],
  };
}

function cost(view: View): Plot {
  const { pricePerHour } = view.results;
  const each = view.processArithmetic;
  const price = ({ tokensPerSecond: { median, least, most } }: Point): Spread => ({
    median: costPerMillion(pricePerHour, median),
    least: costPerMillion(pricePerHour, most),
    most: costPerMillion(pricePerHour, least),
  });
  return {
    title: `Cost of a million output tokens at ${pricePerHour.toFixed(2)} an hour for a machine`,
    xLabel: X_LABEL,
    yLabel: 'price per million tokens',
    yScale: 'log',
    series: [
      ...systems(view, price),
      series(
        'processes (arithmetic)',
        COLOR.processes,
        arithmeticPoints(view),
        ({ adapters }) => each?.costPerMillion(adapters),
        true,
      ),
      ...simulated(view, ({ tokensPerSecond }) => costPerMillion(pricePerHour, tokensPerSecond)),
    ],
  };
}

/** Where arithmetic takes over from the last measured number of processes. */
function arithmeticPoints(view: View): readonly { readonly adapters: number }[] {
  const from = view.processArithmetic?.measuredUpTo ?? 1;
  return [from, ...view.adapters.filter((adapters) => adapters > from)].map((adapters) => ({ adapters }));
}

function ranks(view: View): Plot {
  const pick: Pick<Point> = ({ tokensPerSecond }) => tokensPerSecond;
  return {
    title: 'Output tokens per second by rank',
    xLabel: X_LABEL,
    yLabel: 'tokens/s',
    yScale: 'linear',
    series: [
      series(`rank ${ONE_RANK}, uniform`, COLOR.uniform, view.uniform, pick),
      series(`rank ${MEAN_RANK}, uniform`, COLOR.ink, view.meanRank, pick),
      series(`ranks ${MIXED_RANKS.join(', ')}, uniform`, COLOR.other, view.mixedRanks.uniform, pick),
      series(`ranks ${MIXED_RANKS.join(', ')}, Zipf`, COLOR.swap, view.mixedRanks.zipf, pick),
    ],
  };
}

function priorities(view: View): Plot {
  const ofClass =
    (priority: string): Pick<Point> =>
    (point) =>
      medianOf(point, ({ classes }) => classes.find((one) => one.priority === priority)?.ttftMs.p95);
  return {
    title: 'Time to the first token by class, 95th percentile',
    xLabel: X_LABEL,
    yLabel: 'milliseconds',
    yScale: 'log',
    series: [
      series('all STANDARD', COLOR.ink, view.onePriority, ({ ttft95 }) => ttft95),
      series('mixed: INTERACTIVE', COLOR.uniform, view.mixedPriorities, ofClass('INTERACTIVE')),
      series('mixed: STANDARD', COLOR.other, view.mixedPriorities, ofClass('STANDARD')),
      series('mixed: BATCH', COLOR.swap, view.mixedPriorities, ofClass('BATCH')),
    ],
  };
}
