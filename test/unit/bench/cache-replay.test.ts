import { expect, test } from 'vitest';
import {
  beladyHits,
  enginePolicy,
  gdsfPolicy,
  hitsBound,
  lruPolicy,
  replay,
} from '../../../src/bench/cache-replay.ts';
import { type CacheTraceName, cacheTrace } from '../../../src/bench/cache-traces.ts';

const UNIT = { bytes: () => 1, loadMs: () => 1 };
const NAMES = ['zipf', 'power', 'uniform', 'shifting', 'drifting', 'scan'] satisfies CacheTraceName[];

test('the offline optimum keeps what is needed soonest', () => {
  // Room for two. Least recently used would lose 1 to 3 and hit once.
  expect(beladyHits([1, 2, 3, 1, 3, 1], 2)).toBe(3 / 6);
  expect(replay([1, 2, 3, 1, 3, 1], UNIT, 2, lruPolicy()).hits).toBe(2 / 6);
});

test('the bound spends space and time on the cheapest intervals first', () => {
  // 1 is needed again after one request, 2 after three: room for one holds 1, and 2 for 3 of 3.
  expect(hitsBound([1, 1, 2, 3, 4, 2], UNIT, 1)).toBe(2 / 6);
  expect(hitsBound([1, 1, 2, 3, 4, 2], UNIT, 0.5)).toBeCloseTo((1 + 2 / 3) / 6, 12);
});

test('no policy beats the optimum, and the optimum not the bound', () => {
  for (const name of NAMES) {
    const trace = cacheTrace(name, { registered: 200, seed: 3 }, 3_000);
    const optimum = beladyHits(trace, 20);
    for (const policy of [lruPolicy(), gdsfPolicy(UNIT), enginePolicy(UNIT)]) {
      expect(replay(trace, UNIT, 20, policy).hits).toBeLessThanOrEqual(optimum);
    }
    expect(optimum).toBeLessThanOrEqual(hitsBound(trace, UNIT, 20));
  }
});

test('the engine’s policy beats recency where popularity is skewed, and loses nothing where it is not', () => {
  const gain = (name: CacheTraceName): number => {
    const trace = cacheTrace(name, { registered: 1_000, seed: 1 }, 10_000);
    const lru = replay(trace, UNIT, 50, lruPolicy());
    return replay(trace, UNIT, 50, enginePolicy(UNIT)).hits - lru.hits;
  };
  for (const name of ['zipf', 'power', 'scan'] satisfies CacheTraceName[])
    expect(gain(name)).toBeGreaterThan(0.04);
  for (const name of ['uniform', 'drifting', 'shifting'] satisfies CacheTraceName[]) {
    expect(gain(name)).toBeGreaterThan(-0.005);
  }
});

test('adapters that are cheaper to keep are kept where sizes differ', () => {
  const sizes = { bytes: (adapter: number) => (adapter % 2 === 0 ? 1 : 8), loadMs: () => 1 };
  const trace = cacheTrace('uniform', { registered: 100, seed: 2 }, 4_000);
  const engine = replay(trace, sizes, 50, enginePolicy(sizes));
  expect(engine.hits).toBeGreaterThan(replay(trace, sizes, 50, lruPolicy()).hits + 0.1);
});
