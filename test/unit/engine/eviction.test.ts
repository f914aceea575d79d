import { expect, test } from 'vitest';
import { chooseEvictions, halfLife, withUse, worth } from '../../../src/engine/eviction.ts';
import { UseLedger } from '../../../src/engine/use-ledger.ts';

const candidate = (digest: string, bytes: number, value: number) => ({ digest, bytes, worth: value });

test('those worth least leave first, and no more than needed', () => {
  const all = [candidate('best', 10, 3), candidate('worst', 10, 1), candidate('middle', 10, 2)];
  expect(chooseEvictions(all, 10)).toEqual(['worst']);
  expect(chooseEvictions(all, 15)?.toSorted()).toEqual(['middle', 'worst']);
});

test('what a larger victim makes unnecessary is spared, the worthiest first', () => {
  const all = [candidate('a', 5, 1), candidate('b', 5, 2), candidate('large', 100, 3)];
  expect(chooseEvictions(all, 100)).toEqual(['large']);
  expect(chooseEvictions(all, 104)?.toSorted()).toEqual(['a', 'large']);
});

test('nothing leaves when nothing is needed or when it would not help', () => {
  expect(chooseEvictions([candidate('a', 5, 1)], 0)).toEqual([]);
  expect(chooseEvictions([candidate('a', 5, 1)], 6)).toBeNull();
});

test('a use counts half after a half-life', () => {
  const cost = { loadMs: 6, bytes: 3 };
  const once = withUse(undefined, 10, 100);
  expect(worth(once, cost, 10, 100)).toBe(2);
  expect(worth(once, cost, 110, 100)).toBe(1);
  expect(worth(withUse(once, 110, 100), cost, 110, 100)).toBe(3);
  expect(worth(undefined, cost, 10, 100)).toBe(0);
});

test('a larger cache remembers longer', () => {
  expect(halfLife(1_000)).toBe(8_000);
  expect(halfLife(1)).toBe(64);
});

/** Digests by worth, the least first. */
function ranked(ledger: UseLedger, sizes: Readonly<Record<string, number>>): string[] {
  return Object.entries(sizes)
    .map(([digest, bytes]) => ledger.candidate(digest, bytes, 10))
    .sort((a, b) => a.worth - b.worth)
    .map(({ digest }) => digest);
}

test('among equals the least recently used is worth least; more uses, a dearer load and fewer bytes raise the worth', () => {
  const ledger = new UseLedger();
  for (const digest of ['a', 'b', 'c']) ledger.loaded(digest, 10);
  for (const digest of ['a', 'b', 'c', 'a']) ledger.used(digest, 10);
  expect(ranked(ledger, { a: 1, b: 1, c: 1 })).toEqual(['b', 'c', 'a']);
  expect(ranked(ledger, { a: 1, b: 1, c: 4 })).toEqual(['c', 'b', 'a']);
  ledger.loaded('b', 1_000);
  expect(ranked(ledger, { a: 1, b: 1, c: 1 })).toEqual(['c', 'a', 'b']);
});

test('frequency outlives the eviction, and the memory of it is bounded', () => {
  const ledger = new UseLedger(2);
  for (const digest of ['hot', 'hot', 'cold']) ledger.used(digest, 10);
  ledger.unused('hot');
  expect(ranked(ledger, { hot: 1, cold: 1 })).toEqual(['cold', 'hot']);
  ledger.used('third', 10);
  expect(ledger.candidate('hot', 1, 10).worth).toBe(0);
});

test('an adapter that was loaded and never used is worth nothing', () => {
  const ledger = new UseLedger();
  ledger.loaded('prefetched', 1_000);
  ledger.used('used', 10);
  expect(ranked(ledger, { prefetched: 1, used: 1 })).toEqual(['prefetched', 'used']);
});
