import { expect, test } from 'vitest';
import { chooseEvictions } from '../../../src/engine/eviction.ts';

const candidate = (digest: string, bytes: number, lastUsed: number) => ({ digest, bytes, lastUsed });

test('the least recently used leave first, and no more than needed', () => {
  const all = [candidate('new', 10, 3), candidate('old', 10, 1), candidate('middle', 10, 2)];
  expect(chooseEvictions(all, 10)).toEqual(['old']);
  expect(chooseEvictions(all, 15)?.toSorted()).toEqual(['middle', 'old']);
});

test('what a larger victim makes unnecessary is spared, the most recently used first', () => {
  const all = [candidate('a', 5, 1), candidate('b', 5, 2), candidate('large', 100, 3)];
  expect(chooseEvictions(all, 100)).toEqual(['large']);
  expect(chooseEvictions(all, 104)?.toSorted()).toEqual(['a', 'large']);
});

test('nothing leaves when nothing is needed or when it would not help', () => {
  expect(chooseEvictions([candidate('a', 5, 1)], 0)).toEqual([]);
  expect(chooseEvictions([candidate('a', 5, 1)], 6)).toBeNull();
});
