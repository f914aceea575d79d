import {
  bendOf,
  noiseOf,
  type Point,
  type ProcessArithmetic,
  processArithmetic,
  seriesOf,
} from './analyse.ts';
import { MEAN_RANK, MIXED_RANKS, ONE_RANK, PRIORITY_STREAMS, STREAMS } from './plan.ts';
import type { Law, PointSpec, Results, SimulatedPoint, System } from './schema.ts';

/** Share of the throughput with one adapter below which efficiency counts as bent. */
export const BEND_SHARE = 0.9;

/** The lines that the plots and the text are about, picked from the samples. */
export interface View {
  readonly results: Results;
  readonly uniform: readonly Point[];
  readonly zipf: readonly Point[];
  readonly mixedRanks: { readonly uniform: readonly Point[]; readonly zipf: readonly Point[] };
  /** As many bytes as the mixed ranks, in one rank. */
  readonly meanRank: readonly Point[];
  /** More streams than rows. */
  readonly onePriority: readonly Point[];
  readonly mixedPriorities: readonly Point[];
  readonly processes: readonly Point[];
  readonly processArithmetic: ProcessArithmetic | null;
  readonly swap: { readonly uniform: readonly Point[]; readonly zipf: readonly Point[] };
  readonly peer: readonly Point[];
  readonly simulated: {
    readonly uniform: readonly SimulatedPoint[];
    readonly zipf: readonly SimulatedPoint[];
  };
  readonly bend: { readonly uniform: ReturnType<typeof bendOf>; readonly zipf: ReturnType<typeof bendOf> };
  readonly noise: ReturnType<typeof noiseOf>;
  /** Every number of adapters that was measured, for arithmetic beside the measurements. */
  readonly adapters: readonly number[];
}

/** Sorts the samples into lines. */
export function viewOf(results: Results): View {
  const { samples, simulation } = results;
  const points = (
    law: Law,
    change: {
      system?: System;
      ranks?: readonly number[];
      priorities?: PointSpec['priorities'];
      streams?: number;
    } = {},
  ) =>
    seriesOf(samples, {
      system: 'patchbay',
      law,
      ranks: ONE_RANK,
      priorities: 'one',
      streams: STREAMS,
      ...change,
    });
  const [uniform, zipf] = [points('uniform'), points('zipf')];
  const processes = points('uniform', { system: 'processes' });
  const simulated = (law: Law) => simulation?.points.filter((point) => point.law === law) ?? [];
  return {
    results,
    uniform,
    zipf,
    mixedRanks: {
      uniform: points('uniform', { ranks: MIXED_RANKS }),
      zipf: points('zipf', { ranks: MIXED_RANKS }),
    },
    meanRank: points('uniform', { ranks: MEAN_RANK }),
    onePriority: points('uniform', { streams: PRIORITY_STREAMS }),
    mixedPriorities: points('uniform', { streams: PRIORITY_STREAMS, priorities: 'mixed' }),
    processes,
    processArithmetic: processArithmetic(results, processes),
    swap: { uniform: points('uniform', { system: 'swap' }), zipf: points('zipf', { system: 'swap' }) },
    peer: points('uniform', { system: 'peer' }),
    simulated: { uniform: simulated('uniform'), zipf: simulated('zipf') },
    bend: { uniform: bendOf(uniform, BEND_SHARE), zipf: bendOf(zipf, BEND_SHARE) },
    noise: noiseOf(samples),
    adapters: uniform.map(({ adapters }) => adapters),
  };
}

/** The point of a line with exactly so many adapters. */
export function at(points: readonly Point[], adapters: number): Point | undefined {
  return points.find((point) => point.adapters === adapters);
}
