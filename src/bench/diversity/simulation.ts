import { type DiversityLoad, fitCosts, simulateDiversity } from '../sim/diversity.ts';
import type { SimCosts } from '../sim/setup.ts';
import { medianOf, type Point, seriesOf } from './analyse.ts';
import { roomFor } from './causes.ts';
import { ONE_RANK, type Plan, STREAMS } from './plan.ts';
import type { Law, Results } from './schema.ts';

/** Requests of a run that only fits a cost. */
const FITTING_REQUESTS = 300;

/**
 * Simulates what was measured and what cannot be, with costs fitted to the measurements.
 * @returns null where too little was measured to fit to
 */
export function simulationOf(
  { samples, load }: Pick<Results, 'samples' | 'load'>,
  base: SimCosts,
  { simulated, simulatedRequests }: Pick<Plan, 'simulated' | 'simulatedRequests'>,
): Results['simulation'] {
  const measured = seriesOf(samples, {
    system: 'patchbay',
    law: 'uniform',
    ranks: ONE_RANK,
    priorities: 'one',
    streams: STREAMS,
  });
  const [first, last] = [measured[0], measured.at(-1)];
  if (first === undefined || last === undefined) return null;
  const room = roomFor(last);
  const bytes = medianOf(last, ({ loads }) => loads?.bytes);
  const pages = medianOf(last, ({ loads }) => loads?.pages);
  const loadMs = medianOf(last, ({ loads }) => loads?.threadMs);
  const fitting = measured.findLast(({ adapters }) => room !== null && adapters <= room);
  if (room === null || bytes === null || pages === null || loadMs === null || fitting === undefined)
    return null;
  const rate = ({ adapters, tokensPerSecond }: Point) => ({
    adapters,
    tokensPerSecond: tokensPerSecond.median,
  });
  const sim: DiversityLoad = {
    streams: STREAMS,
    requests: simulatedRequests,
    promptTokens: load.promptTokens,
    newTokens: load.newTokens,
    seed: load.seed,
  };
  const costs = fitCosts(
    {
      step: base.step,
      adapters: {
        pages,
        bytes,
        loadMs,
        // The time of copying follows the bytes.
        bankPageMs: (base.adapters.bankPageMs * bytes) / pages / (base.adapters.bytes / base.adapters.pages),
        hostAdapters: room,
      },
    },
    { ...sim, requests: Math.min(FITTING_REQUESTS, simulatedRequests) },
    { step: rate(first), page: rate(fitting), load: rate(last) },
  );
  const points = (['uniform', 'zipf'] satisfies Law[]).flatMap((law) =>
    simulated.map((adapters) => simulateDiversity(costs, sim, { adapters, law })),
  );
  return {
    requests: simulatedRequests,
    costs,
    fitted: { step: first.adapters, page: fitting.adapters, load: last.adapters },
    points,
  };
}
