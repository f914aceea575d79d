import type { PointSpec } from './schema.ts';

/** How much is measured. */
export type PlanSize = 'quick' | 'default' | 'full';

export interface Plan {
  readonly rounds: number;
  readonly points: readonly PointSpec[];
  /** Numbers of adapters in the simulator. */
  readonly simulated: readonly number[];
  readonly simulatedRequests: number;
}

export const STREAMS = 16;
/** Twice the rows of a step, so that somebody waits and a class can matter. */
export const PRIORITY_STREAMS = 32;
export const ONE_RANK: readonly number[] = [8];
export const MIXED_RANKS: readonly number[] = [8, 16, 40, 64];
/** The mean of the mixed ranks: the same bytes without the mix. */
export const MEAN_RANK: readonly number[] = [32];
/** More of them would fill ten gigabytes of disk for a comparison that needs none. */
const MEAN_RANK_MOST = 256;

interface Sizes {
  readonly rounds: number;
  readonly requests: number;
  readonly adapters: readonly number[];
  readonly mixed: readonly number[];
  readonly priorities: readonly number[];
  readonly processes: readonly number[];
  readonly swap: readonly number[];
  readonly peer: readonly number[];
  /** Requests of the systems that take seconds for each. */
  readonly slowRequests: number;
  readonly simulated: readonly number[];
  readonly simulatedRequests: number;
}

const SIMULATED = [1, 4, 16, 64, 256, 1_000, 2_000, 10_000, 30_000, 100_000];

const SIZES: Readonly<Record<PlanSize, Sizes>> = {
  quick: {
    rounds: 1,
    requests: 32,
    adapters: [1, 16, 128],
    mixed: [16],
    priorities: [16],
    processes: [1, 2],
    swap: [1, 128],
    peer: [1, 16],
    slowRequests: 16,
    simulated: [1, 16, 128, 2_000, 100_000],
    simulatedRequests: 500,
  },
  default: {
    rounds: 3,
    requests: 64,
    adapters: [1, 4, 16, 64, 256, 2_000],
    mixed: [16, 2_000],
    priorities: [16, 2_000],
    processes: [1, 2, 4],
    swap: [1, 16, 2_000],
    peer: [1, 16, 2_000],
    slowRequests: 24,
    simulated: SIMULATED,
    simulatedRequests: 3_000,
  },
  full: {
    rounds: 5,
    requests: 160,
    adapters: [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1_000, 2_000],
    mixed: [4, 16, 64, 256, 2_000],
    priorities: [1, 16, 256, 2_000],
    processes: [1, 2, 4, 8],
    swap: [1, 4, 16, 64, 2_000],
    peer: [1, 4, 16, 64, 2_000],
    slowRequests: 48,
    simulated: SIMULATED,
    simulatedRequests: 10_000,
  },
};

/** Everything that a run of this size measures, in the order of one round. */
export function planOf(size: PlanSize, systems: { readonly peer: boolean }): Plan {
  const sizes = SIZES[size];
  const { requests, slowRequests } = sizes;
  const base = {
    system: 'patchbay',
    law: 'uniform',
    ranks: [...ONE_RANK],
    priorities: 'one',
    streams: STREAMS,
    requests,
  } satisfies Omit<PointSpec, 'adapters'>;
  const points: PointSpec[] = [
    ...sizes.adapters.flatMap((adapters) => bothLaws({ ...base, adapters })),
    ...sizes.mixed.flatMap((adapters) => bothLaws({ ...base, adapters, ranks: [...MIXED_RANKS] })),
    ...sizes.mixed
      .filter((adapters) => adapters <= MEAN_RANK_MOST)
      .map((adapters) => ({ ...base, adapters, ranks: [...MEAN_RANK] })),
    ...sizes.priorities.flatMap((adapters): PointSpec[] => [
      { ...base, adapters, streams: PRIORITY_STREAMS },
      { ...base, adapters, streams: PRIORITY_STREAMS, priorities: 'mixed' },
    ]),
    ...sizes.processes.map((adapters): PointSpec => ({ ...base, adapters, system: 'processes' })),
    ...sizes.swap.flatMap((adapters) =>
      // With a single adapter nothing is swapped, so that run is as short as any other.
      bothLaws({ ...base, adapters, system: 'swap', requests: adapters === 1 ? requests : slowRequests }),
    ),
    ...(systems.peer
      ? sizes.peer.map(
          (adapters): PointSpec => ({ ...base, adapters, system: 'peer', requests: slowRequests }),
        )
      : []),
  ];
  return {
    rounds: sizes.rounds,
    points,
    simulated: sizes.simulated,
    simulatedRequests: sizes.simulatedRequests,
  };
}

/** A point under both laws of popularity; with one adapter they are the same. */
function bothLaws(point: PointSpec): PointSpec[] {
  return point.adapters === 1 ? [point] : [point, { ...point, law: 'zipf' }];
}

/**
 * In which order a round measures: every other round backwards, so that a machine that becomes slower or faster does
 * not favour what comes first.
 */
export function roundOrder(points: readonly PointSpec[], round: number): readonly PointSpec[] {
  return round % 2 === 1 ? points : points.toReversed();
}

/** The most adapters of each list of ranks: the stores that must be on disk. */
export function storesOf(points: readonly PointSpec[]): ReadonlyMap<string, PointSpec> {
  const most = new Map<string, PointSpec>();
  for (const point of points) {
    if (point.system === 'peer') continue;
    const key = point.ranks.join();
    if ((most.get(key)?.adapters ?? 0) < point.adapters) most.set(key, point);
  }
  return most;
}

/** Rank of every adapter of a point, by number. */
export function ranksOf({ adapters, ranks }: Pick<PointSpec, 'adapters' | 'ranks'>): number[] {
  return Array.from({ length: adapters }, (_, number) => ranks[number % ranks.length] ?? 0);
}
