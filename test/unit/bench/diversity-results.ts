import { planOf } from '../../../src/bench/diversity/plan.ts';
import type { PointSpec, Results, Sample } from '../../../src/bench/diversity/schema.ts';

/** What a made-up machine gives: throughput halves where adapters no longer fit. */
const ROOM = 100;

/** A sample of a system that the tests know everything about. */
export function sample(spec: PointSpec, round = 1): Sample {
  const missing = spec.adapters > ROOM ? 1 - ROOM / spec.adapters : 0;
  const speed = { patchbay: 600 / (1 + missing), processes: 650, swap: 600 / spec.adapters, peer: 200 };
  const tokensPerSecond = speed[spec.system] + round;
  const own = spec.system === 'patchbay';
  return {
    spec,
    round,
    tokensPerSecond,
    ttftMs: { p50: 50, p95: 100 + 10 * round },
    interTokenMs: { p50: 15, p95: 25 },
    rssBytes: spec.system === 'processes' ? spec.adapters * 3e8 : 5e8,
    engine: own
      ? {
          hostCacheBytes: Math.min(ROOM, spec.adapters) * 1e6,
          hostCacheBudget: ROOM * 1e6,
          bankBytes: 1e7,
          distinctInUse: Math.min(15, spec.adapters),
          stepMs: { total: 20, model: 18, adapter: 1, host: 1 },
        }
      : null,
    loads: own ? { perRequest: missing, ms: 12, threadMs: 8, bytes: 1e6, pages: 1 } : null,
    classes:
      spec.priorities === 'mixed'
        ? [{ priority: 'INTERACTIVE', requests: 5, ttftMs: { p50: 20, p95: 77 } }]
        : [],
    swap:
      spec.system === 'swap'
        ? {
            swapsPerRequest: spec.adapters === 1 ? 0 : 0.5,
            readMs: 1,
            mergeMs: 200,
            writeMs: 60,
            openMs: 90,
            batch: 2,
            inPlaceTokensPerSecond: 2 * tokensPerSecond,
          }
        : null,
    privateBytes: spec.system === 'processes' ? 2.5e8 : null,
  };
}

/** Results of the default plan on the made-up machine. */
export function madeUpResults(): Results {
  const { points } = planOf('default', { peer: true });
  return {
    format: 1,
    size: 'default',
    command: 'npm run bench:diversity',
    commit: 'abc1234',
    startedAt: '2026-01-01 00:00',
    minutes: 18,
    machine: {
      processor: 'a processor <of tests>',
      cores: 2,
      memoryBytes: 24 * 2 ** 30,
      node: '20.0.0',
      loadAverage: 0.1,
    },
    peerVersion: '1.2.3',
    load: {
      backbone: 'synthetic:30m',
      weightBytes: 1e8,
      promptTokens: 64,
      newTokens: 64,
      cacheBytes: 256 * 2 ** 20,
      seed: 1,
      rounds: 3,
    },
    pricePerHour: 0.1,
    samples: [1, 2, 3].flatMap((round) => points.map((point) => sample(point, round))),
    simulation: null,
  };
}
