import { describe, expect, test } from 'vitest';
import { Random } from '../../../src/bench/sim/random.ts';
import { bank, fairness, fairnessBound, mixed, overload } from '../../../src/bench/sim/scenarios.ts';
import { DEFAULT_SIM_COSTS } from '../../../src/bench/sim/setup.ts';
import { traceOf } from '../../../src/bench/sim/trace.ts';

// Simulated time only: the figures are the same on every machine.
const OPTIONS = { costs: DEFAULT_SIM_COSTS, seed: 1, untilMs: 150_000 };

test('fair scheduling keeps its bound and isolates a quiet client; the others do not', () => {
  const [fair, , fcfs] = fairness(OPTIONS);
  if (fair === undefined || fcfs === undefined) throw new Error('a policy is missing');
  const bound = fairnessBound(OPTIONS.costs);
  expect(fair.tenantDifference).toBeLessThanOrEqual(bound);
  expect(fair.adapterDifference).toBeLessThanOrEqual(bound);
  expect(fair.overloadedMs / fair.withinMs).toBeLessThanOrEqual(1.5);
  expect(fair.tokensPerSecond / fcfs.tokensPerSecond).toBeGreaterThan(0.93);
  expect(fcfs.tenantDifference).toBeGreaterThan(bound);
  expect(fcfs.overloadedMs / fcfs.withinMs).toBeGreaterThan(5);
});

test('interactive requests are in time at 1.5 × capacity, and batch requests get what is left', () => {
  const [fair] = mixed(OPTIONS);
  expect(fair?.attainment).toBeGreaterThanOrEqual(0.99);
  expect((fair?.batchTokensPerSecond ?? 0) / (fair?.leftTokensPerSecond ?? 1)).toBeGreaterThanOrEqual(0.9);
});

test('early refusal keeps the goodput under overload', () => {
  const rows = new Map(overload(OPTIONS).map((row) => [row.load, row]));
  const at = (load: number): number => rows.get(load)?.goodput ?? 0;
  expect(at(3) / at(1)).toBeGreaterThanOrEqual(0.95);
  expect(rows.get(0.5)?.refusedShare).toBe(0);
  expect(rows.get(3)?.goodputUnrefused).toBeLessThan(at(3) / 2);
});

test('throughput has no cliff where adapters exceed the bank', () => {
  const rows = bank(OPTIONS);
  rows.forEach(({ tokensPerSecond }, index) => {
    const before = rows[index - 1]?.tokensPerSecond ?? tokensPerSecond;
    expect(tokensPerSecond / before).toBeGreaterThan(0.9);
  });
});

describe('traces', () => {
  test('follow their rates and are the same for the same seed', () => {
    const client = {
      name: 'c',
      priority: 'STANDARD',
      rate: (atMs: number) => (atMs % 100_000 < 50_000 ? 4 : 0),
      variation: 2,
      promptTokens: [1, 10],
      newTokens: [1, 10],
      adapters: { count: 8, zipf: 1 },
    } as const;
    const trace = traceOf([client], 1_000_000, 3);
    expect(traceOf([client], 1_000_000, 3)).toEqual(trace);
    expect(trace.length).toBeGreaterThan(1_700);
    expect(trace.length).toBeLessThan(2_300);
    expect(trace.filter(({ atMs }) => atMs % 100_000 > 52_000).length).toBeLessThan(trace.length / 10);
  });

  test('draw gaps of the given mean and spread, and popularity by rank', () => {
    const random = new Random(5);
    const gaps = Array.from({ length: 20_000 }, () => random.gamma(10, 0.5));
    const mean = gaps.reduce((sum, gap) => sum + gap, 0) / gaps.length;
    const variance = gaps.reduce((sum, gap) => sum + (gap - mean) ** 2, 0) / gaps.length;
    expect(mean).toBeCloseTo(10, 0);
    expect(Math.sqrt(variance) / mean).toBeCloseTo(0.5, 1);
    const ranks = Array.from({ length: 20_000 }, () => random.zipf(100, 1));
    const share = (rank: number): number => ranks.filter((each) => each === rank).length / ranks.length;
    expect(Math.min(...ranks)).toBe(0);
    expect(Math.max(...ranks)).toBeLessThan(100);
    expect(share(0) / share(3)).toBeGreaterThan(2.5);
  });
});
