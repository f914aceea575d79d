import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { BLOCK_TOKENS, TokenPool } from '../../../src/engine/runner/device/token-pool.ts';

function places(pool: TokenPool, row: number, tokens: number): number[] {
  return Array.from({ length: tokens }, (_, token) => pool.place(row, token));
}

describe('token pool', () => {
  test('no two rows share a place, none has the zeros, and all fit the capacity', () => {
    const lengths = fc.array(fc.integer({ min: 1, max: 100 }), { minLength: 1, maxLength: 20 });
    fc.assert(
      fc.property(lengths, lengths, (first, second) => {
        const pool = new TokenPool();
        const open = new Map<number, number>();
        for (const [index, tokens] of [...first, ...second].entries()) {
          const row = pool.open();
          pool.reserve(row, tokens);
          pool.written(row, tokens);
          open.set(row, tokens);
          const [oldest] = open.keys();
          if (index % 3 === 2 && oldest !== undefined) {
            pool.close(oldest);
            open.delete(oldest);
          }
          if (index % 5 === 4) pool.wiped();
        }
        const taken = [...open].flatMap(([row, tokens]) => places(pool, row, tokens));
        expect(new Set(taken).size).toBe(taken.length);
        expect(Math.min(...taken, BLOCK_TOKENS)).toBeGreaterThanOrEqual(BLOCK_TOKENS);
        expect(Math.max(...taken, 0)).toBeLessThan(pool.capacity);
        // What is still to be wiped belongs to nobody.
        expect(pool.dirtyPlaces().filter((place) => taken.includes(place))).toEqual([]);
      }),
    );
  });

  test('a closed row is wiped before its places are given away', () => {
    const pool = new TokenPool();
    const first = pool.open();
    pool.reserve(first, BLOCK_TOKENS + 3);
    pool.written(first, BLOCK_TOKENS + 3);
    const old = places(pool, first, BLOCK_TOKENS + 3);
    pool.close(first);
    expect(pool.dirtyPlaces()).toEqual(old);

    const second = pool.open();
    pool.reserve(second, 5);
    expect(old).not.toContain(pool.place(second, 0));
    pool.wiped();
    expect(pool.dirtyPlaces()).toEqual([]);
    const third = pool.open();
    pool.reserve(third, 5);
    expect(old).toContain(pool.place(third, 0));
  });
});
