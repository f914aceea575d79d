import { costPerMillion, medianOf, type Point } from './analyse.ts';
import { bytes, figure, number, percent, ranged, table } from './format.ts';
import { at, type View } from './view.ts';

const SPEED_HEAD = ['adapters', 'tokens/s', 'first token, p95 (ms)', 'between tokens, p95 (ms)'];

function speed(point: Point): string[] {
  return [number(point.adapters), ranged(point.tokensPerSecond), ranged(point.ttft95), ranged(point.gap95)];
}

function orDash(value: number | null, format: (value: number) => string): string {
  return value === null ? '–' : format(value);
}

function price(view: View, point: Point): string {
  return figure(costPerMillion(view.results.pricePerHour, point.tokensPerSecond.median));
}

/** Patchbay under one law of popularity. */
export function patchbayTable(view: View, points: readonly Point[]): string {
  const first = points[0]?.tokensPerSecond.median ?? 0;
  return table(
    [
      ...SPEED_HEAD,
      'of the first',
      'resident',
      'host cache',
      'in use at a time',
      'loads per 100 requests',
      'cost/M',
    ],
    points.map((point) => [
      ...speed(point),
      percent(point.tokensPerSecond.median / first),
      bytes(point.rssBytes.median),
      orDash(
        medianOf(point, ({ engine }) => engine?.hostCacheBytes),
        bytes,
      ),
      orDash(
        medianOf(point, ({ engine }) => engine?.distinctInUse),
        figure,
      ),
      orDash(
        medianOf(point, ({ loads }) => loads?.perRequest),
        (loads) => number(loads * 100),
      ),
      price(view, point),
    ]),
  );
}

/** Mixed ranks beside one rank of the same mean. */
export function ranksTable({ uniform, meanRank, mixedRanks }: View): string {
  return table(
    ['adapters', 'one small rank', 'mean rank', 'mixed ranks', 'mixed ÷ mean rank', 'mixed ranks, Zipf'],
    mixedRanks.uniform.map((mixed) => {
      const [small, mean, zipf] = [uniform, meanRank, mixedRanks.zipf].map((points) =>
        at(points, mixed.adapters),
      );
      return [
        number(mixed.adapters),
        ranged(small?.tokensPerSecond ?? null),
        ranged(mean?.tokensPerSecond ?? null),
        ranged(mixed.tokensPerSecond),
        orDash(
          mean === undefined ? null : mixed.tokensPerSecond.median / mean.tokensPerSecond.median,
          (ratio) => number(ratio, 2),
        ),
        ranged(zipf?.tokensPerSecond ?? null),
      ];
    }),
  );
}

/** Mixed classes beside one. */
export function prioritiesTable({ onePriority, mixedPriorities }: View): string {
  const ofClass = (point: Point, priority: string): string =>
    orDash(
      medianOf(point, ({ classes }) => classes.find((one) => one.priority === priority)?.ttftMs.p95),
      figure,
    );
  return table(
    [
      'adapters',
      'tokens/s, one class',
      'tokens/s, three classes',
      'first token p95 (ms), one class',
      'INTERACTIVE',
      'STANDARD',
      'BATCH',
    ],
    mixedPriorities.map((mixed) => {
      const one = at(onePriority, mixed.adapters);
      return [
        number(mixed.adapters),
        ranged(one?.tokensPerSecond ?? null),
        ranged(mixed.tokensPerSecond),
        ranged(one?.ttft95 ?? null),
        ...['INTERACTIVE', 'STANDARD', 'BATCH'].map((priority) => ofClass(mixed, priority)),
      ];
    }),
  );
}

/** A process for each adapter: what was measured, then what follows by arithmetic. */
export function processesTable(view: View): string {
  const { processArithmetic: each, results } = view;
  const measured = view.processes.map((point) => [
    ...speed(point),
    `${bytes(point.rssBytes.median)}`,
    '1',
    price(view, point),
    'measured',
  ]);
  const derived =
    each === null
      ? []
      : view.adapters
          .filter((adapters) => adapters > each.measuredUpTo)
          .map((adapters) => [
            number(adapters),
            `${figure(each.tokensPerSecond)}`,
            '–',
            '–',
            bytes(each.bytes(adapters)),
            number(each.machines(adapters)),
            figure(each.costPerMillion(adapters)),
            'arithmetic',
          ]);
  const memory = bytes(results.machine.memoryBytes);
  return table([...SPEED_HEAD, 'memory', `machines of ${memory}`, 'cost/M', ''], [...measured, ...derived]);
}

/** The server that swaps merged weights. */
export function swapTable(view: View, points: readonly Point[]): string {
  return table(
    [
      ...SPEED_HEAD,
      'swaps per 100 requests',
      'batch',
      'read + merge + write + open (ms)',
      'in place, tokens/s',
      'cost/M',
    ],
    points.map((point) => {
      const part = (name: 'readMs' | 'mergeMs' | 'writeMs' | 'openMs'): string =>
        orDash(
          medianOf(point, ({ swap }) => swap?.[name]),
          (ms) => number(ms),
        );
      const swaps = medianOf(point, ({ swap }) => swap?.swapsPerRequest) ?? 0;
      return [
        ...speed(point),
        number(swaps * 100),
        orDash(
          medianOf(point, ({ swap }) => swap?.batch),
          (batch) => number(batch, 1),
        ),
        swaps === 0 ? '–' : [part('readMs'), part('mergeMs'), part('writeMs'), part('openMs')].join(' + '),
        orDash(
          medianOf(point, ({ swap }) => swap?.inPlaceTokensPerSecond),
          figure,
        ),
        price(view, point),
      ];
    }),
  );
}

/** The peer beside Patchbay at the same numbers of adapters. */
export function peerTable(view: View): string {
  return table(
    [...SPEED_HEAD, 'resident', 'cost/M', 'Patchbay ÷ peer, tokens/s'],
    view.peer.map((point) => {
      const own = at(view.uniform, point.adapters);
      return [
        ...speed(point),
        bytes(point.rssBytes.median),
        price(view, point),
        orDash(
          own === undefined ? null : own.tokensPerSecond.median / point.tokensPerSecond.median,
          (ratio) => number(ratio, 2),
        ),
      ];
    }),
  );
}

/** The simulator beside the measurements at the numbers of adapters that both have. */
export function simulationTable(view: View): string {
  const rows = view.simulated.uniform.map((point) => {
    const zipf = view.simulated.zipf.find(({ adapters }) => adapters === point.adapters);
    const cells = ([simulated, measured]: readonly [typeof zipf, Point | undefined]): string[] => [
      orDash(simulated?.tokensPerSecond ?? null, number),
      orDash(measured?.tokensPerSecond.median ?? null, number),
      orDash(simulated?.ttftMs.p95 ?? null, figure),
      orDash(simulated?.interTokenMs.p95 ?? null, figure),
      orDash(simulated?.loadsPerRequest ?? null, (loads) => number(loads * 100)),
    ];
    return [
      number(point.adapters),
      ...cells([point, at(view.uniform, point.adapters)]),
      ...cells([zipf, at(view.zipf, point.adapters)]),
    ];
  });
  const columns = ['tokens/s', '(measured)', 'first token p95', 'between p95', 'loads/100'];
  return table(
    ['adapters', ...columns.map((name) => `uniform: ${name}`), ...columns.map((name) => `Zipf: ${name}`)],
    rows,
  );
}
