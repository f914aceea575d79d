import { type Bend, type Cause, causesOf, medianOf, type Point } from './analyse.ts';
import { bytes, figure, number, percent } from './format.ts';
import { STREAMS } from './plan.ts';
import { BEND_SHARE, type View } from './view.ts';

/** Where efficiency bends, and why, as far as the counts of the engine say: one paragraph for each law. */
export function bendSection(view: View): string {
  const laws = [
    ['uniform popularity', view.uniform, view.bend.uniform],
    ['Zipf popularity', view.zipf, view.bend.zipf],
  ] as const;
  return laws
    .filter(([, points]) => points.length > 1)
    .map(([law, points, bend]) => [bendSentence(law, points, bend), stepSentence(bend, view)].join(' '))
    .join('\n\n');
}

/** What bounds the distinct adapters of a step, and with them what a step can lose. */
export function boundSentence(view: View): string {
  const last = view.uniform.at(-1);
  const inUse = last === undefined ? null : medianOf(last, ({ engine }) => engine?.distinctInUse);
  if (last === undefined || inUse === null || last.adapters <= STREAMS) return '';
  return (
    `A step reads the adapters of its rows and no others. With ${STREAMS} streams that is ${STREAMS} at most, however many ` +
    `are registered: ${number(inUse, 1)} were in use at a time with ${adaptersText(last)}. What grows beyond that is only ` +
    'how often an adapter must be loaded.'
  );
}

function bendSentence(law: string, points: readonly Point[], { at }: Bend): string {
  const first = points[0];
  const last = points.at(-1);
  if (first === undefined || last === undefined) return '';
  const kept = percent(last.tokensPerSecond.median / first.tokensPerSecond.median);
  if (at === null) {
    return (
      `**With ${law} throughput does not bend**: at every measured number of adapters it is at least ` +
      `${percent(BEND_SHARE)} of that with ${adaptersText(first)}, and ${kept} with ${adaptersText(last)}.`
    );
  }
  return (
    `**With ${law} throughput bends at ${adaptersText(at)}**: from there on it stays below ` +
    `${percent(BEND_SHARE)} of that with ${adaptersText(first)}. With ${adaptersText(last)}, ${kept} are left.`
  );
}

function stepSentence({ steepest }: Bend, { noise }: View): string {
  if (steepest === null) return 'No step from one measured number to the next costs anything.';
  const { from, to, share } = steepest;
  const causes = causesOf(from, to).map((cause) => CAUSES[cause](from, to));
  const doubt =
    noise !== null && 1 - share <= noise.median
      ? ' The rounds of one point lie as far apart, so this may be noise.'
      : '';
  return (
    `The largest loss between neighbours is ${percent(1 - share)}, from ${adaptersText(from)} to ` +
    `${adaptersText(to)}. ${causes.join(' ')}${doubt}`
  );
}

const CAUSES: Readonly<Record<Cause, (from: Point, to: Point) => string>> = {
  pages: (from, to) =>
    `On the way the adapters in use at a time went from ${value(from, 'distinct')} to ${value(to, 'distinct')}. The ` +
    'backbone’s weights are read once for a step whoever runs, but the matrices of an adapter are read once for each ' +
    `distinct adapter. The model’s part of a step went from ${value(from, 'model')} to ${value(to, 'model')} ms.`,
  loads: (from, to) =>
    `On the way the loads went from ${value(from, 'loads')} to ${value(to, 'loads')} for 100 requests, because the ` +
    `host cache has room for about ${roomText(to)} of these adapters. A load reads, verifies and packs an adapter in a ` +
    `thread of its own, here ${value(to, 'loadMs')} ms in the median from asking to having it. No step waits for it, ` +
    'but the thread and the steps share the cores, and a request whose adapter is not there yet leaves its row empty.',
  unknown: () =>
    'Neither the adapters in use at a time nor the loads changed much on the way, so these data do not say why; it may ' +
    'be noise.',
};

const VALUES = {
  distinct: (point: Point) => medianOf(point, ({ engine }) => engine?.distinctInUse),
  model: (point: Point) => medianOf(point, ({ engine }) => engine?.stepMs.model),
  loads: (point: Point) =>
    scaled(
      medianOf(point, ({ loads }) => loads?.perRequest),
      100,
    ),
  loadMs: (point: Point) => medianOf(point, ({ loads }) => loads?.ms),
} as const;

function value(point: Point, name: keyof typeof VALUES): string {
  const found = VALUES[name](point);
  return found === null ? 'an unknown number' : figure(found);
}

function scaled(found: number | null, factor: number): number | null {
  return found === null ? null : found * factor;
}

/** Adapters of this point that the host cache holds. */
export function roomFor(point: Point): number | null {
  const budget = medianOf(point, ({ engine }) => engine?.hostCacheBudget);
  const size = medianOf(point, ({ loads }) => loads?.bytes);
  return budget === null || size === null ? null : Math.floor(budget / size);
}

function roomText(point: Point): string {
  const room = roomFor(point);
  return room === null ? 'an unknown number' : number(room);
}

export function adaptersText({ adapters }: { readonly adapters: number }): string {
  return adapters === 1 ? 'one adapter' : `${number(adapters)} adapters`;
}

/** How throughput with the most adapters compares with the most that the cache holds without loading. */
export function retentionSentence(view: View): string {
  const last = view.uniform.at(-1);
  const room = last === undefined ? null : roomFor(last);
  if (last === undefined || room === null) return '';
  const sentences = (
    [
      ['uniform', view.uniform],
      ['Zipf', view.zipf],
    ] as const
  ).flatMap(([law, points]) => {
    const fitting = points.findLast(({ adapters }) => adapters <= room);
    const most = points.at(-1);
    if (fitting === undefined || most === undefined || most.adapters <= room) return [];
    const kept = most.tokensPerSecond.median / fitting.tokensPerSecond.median;
    return [
      `${percent(kept)} under ${law} popularity (${number(most.adapters)} against ${number(fitting.adapters)})`,
    ];
  });
  if (sentences.length === 0) return '';
  const size = medianOf(last, ({ loads }) => loads?.bytes) ?? 0;
  return (
    `The host cache holds about ${number(room)} of these adapters (${bytes(size)} each). Having far more of them than ` +
    `fit, against the most measured that do, keeps ${sentences.join(' and ')} of the throughput.`
  );
}
