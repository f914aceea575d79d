import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type BlockKeys, PrefixIndex, type PrefixOwner } from '../../../src/engine/prefix/prefix-index.ts';
import { PrefixStore, prefixOwner } from '../../../src/engine/prefix/prefix-store.ts';
import type { KvSnapshots } from '../../../src/engine/runner.ts';

const SEED = 20_261_124;

function owner(tenantId: string, root = 'r'): PrefixOwner {
  return { tenantId, root };
}

/** Every letter is a block. */
function keys(text: string): BlockKeys {
  return { count: text.length, key: (index) => text[index] ?? '' };
}

/** An index whose buffers hold the text up to their block. */
function filled(capacity: number) {
  const index = new PrefixIndex(capacity);
  const buffers = new Map<number, string>();
  const wiped: string[] = [];
  const keep = (who: PrefixOwner, text: string): void => {
    index.extend(who, keys(text), {
      fill: (slot, block) => {
        expect(buffers.has(slot)).toBe(false);
        buffers.set(slot, `${who.tenantId}/${who.root}/${text.slice(0, block + 1)}`);
      },
      wipe: (slot) => {
        wiped.push(buffers.get(slot) ?? '');
        buffers.delete(slot);
      },
    });
  };
  const use = (who: PrefixOwner, text: string): readonly (string | undefined)[] =>
    index.use(who, keys(text)).map((slot) => buffers.get(slot));
  return { index, keep, use, wiped };
}

describe('the index of prefixes', () => {
  test('finds the longest kept beginning, of the same owner only', () => {
    const { keep, use, index } = filled(10);
    keep(owner('t'), 'abc');
    keep(owner('t'), 'abd');
    expect(use(owner('t'), 'abdx')).toEqual(['t/r/a', 't/r/ab', 't/r/abd']);
    expect(use(owner('t'), 'b')).toEqual([]);
    expect(use(owner('u'), 'abc')).toEqual([]);
    expect(use(owner('t', 'other adapters'), 'abc')).toEqual([]);
    expect(index.size).toBe(4);
  });

  test('gives up the ends of what was not used for longest, and never what it is about to extend', () => {
    const { keep, use, wiped } = filled(4);
    keep(owner('t'), 'ab');
    keep(owner('t'), 'cd');
    use(owner('t'), 'ab');
    keep(owner('t'), 'x');
    expect(wiped).toEqual(['t/r/cd']);
    keep(owner('t'), 'ay');
    expect(wiped).toEqual(['t/r/cd', 't/r/c']);
    keep(owner('t'), 'pqrstu');
    expect(use(owner('t'), 'pqrstu')).toEqual(['t/r/p', 't/r/pq', 't/r/pqr', 't/r/pqrs']);
  });

  test('takes from the tenant that has most, so that many prompts of one push out nobody else’s few', () => {
    const { keep, use } = filled(6);
    keep(owner('small'), 'ab');
    for (const text of ['cd', 'ef', 'gh', 'ij']) keep(owner('large'), text);
    expect(use(owner('small'), 'ab')).toHaveLength(2);
    keep(owner('small'), 'abcdef');
    expect(use(owner('small'), 'abcdef')).toHaveLength(3);
  });

  test('a look that is only a prediction changes nothing', () => {
    const { index, keep, wiped } = filled(2);
    keep(owner('t'), 'a');
    keep(owner('t'), 'b');
    expect(index.peek(owner('t'), keys('a'))).toBe(1);
    keep(owner('t'), 'c');
    expect(wiped).toEqual(['t/r/a']);
  });

  test('a block that could not be filled is not kept, and its buffer is used for another', () => {
    const { index, keep, use } = filled(2);
    const wipe = (): void => {};
    const fill = (): void => {
      throw new Error('no');
    };
    expect(() => index.extend(owner('t'), keys('ab'), { fill, wipe })).toThrow('no');
    expect(use(owner('t'), 'ab')).toEqual([]);
    keep(owner('t'), 'ab');
    expect(use(owner('t'), 'ab')).toHaveLength(2);
  });

  test('over random use, what is found is what was kept for that owner, and nothing exceeds the capacity', () => {
    const text = fc.string({ unit: fc.constantFrom('a', 'b'), maxLength: 6 });
    const who = fc.record({ tenantId: fc.constantFrom('t', 'u', 'v'), root: fc.constantFrom('1', '2') });
    const command = fc.record({ who, text, keep: fc.boolean() });
    let found = 0;
    fc.assert(
      fc.property(
        fc.integer({ min: 0, max: 40 }),
        fc.array(command, { maxLength: 60, size: 'max' }),
        (capacity, all) => {
          const made = filled(capacity);
          const kept = new Set<string>();
          for (const each of all) {
            if (each.keep) {
              made.keep(each.who, each.text);
              for (let n = 1; n <= each.text.length; n++) {
                kept.add(`${each.who.tenantId}/${each.who.root}/${each.text.slice(0, n)}`);
              }
            } else {
              const blocks = made.use(each.who, each.text);
              blocks.forEach((block, n) => {
                expect(block).toBe(`${each.who.tenantId}/${each.who.root}/${each.text.slice(0, n + 1)}`);
                expect(kept.has(block ?? '')).toBe(true);
              });
              found += blocks.length;
              const next = `${each.who.tenantId}/${each.who.root}/${each.text.slice(0, blocks.length + 1)}`;
              const more = blocks.length < each.text.length && kept.has(next);
              if (kept.size <= capacity) expect(more).toBe(false);
            }
            expect(made.index.size).toBeLessThanOrEqual(capacity);
          }
        },
      ),
      { seed: SEED, numRuns: 500 },
    );
    expect(found).toBeGreaterThan(1_000);
  });
});

test('who may share is told by digests and weights in any order, tenant and backbone', () => {
  const a = { digest: 'a', weight: 1 };
  const b = { digest: 'b', weight: -0.5 };
  const first = prefixOwner('t', 'backbone', [a, b]);
  expect(prefixOwner('t', 'backbone', [b, a])).toEqual(first);
  for (const other of [
    prefixOwner('u', 'backbone', [a, b]),
    prefixOwner('t', 'another', [a, b]),
    prefixOwner('t', 'backbone', [a]),
    prefixOwner('t', 'backbone', [a, { ...b, weight: 0.5 }]),
    prefixOwner('t', 'backbone', []),
  ]) {
    expect(other).not.toEqual(first);
  }
});

describe('the store of prefixes', () => {
  const BLOCK_BYTES = 2 * 3 * 4 + 1024;

  /** A runner whose rows hold the same number for keys and values of all of their tokens. */
  function open(blocks: number) {
    const buffers = new Set<Float32Array>();
    const restored: number[][] = [];
    const snapshots: KvSnapshots = {
      floatsPerToken: 3,
      save: (row, from, into) => {
        expect([...into]).toEqual([0, 0, 0, 0, 0, 0]);
        buffers.add(into.fill(row * 100 + from));
      },
      restore: (_, found) => restored.push(found.map(([first = 0]) => first)),
    };
    const store = new PrefixStore({ prefixBytes: blocks * BLOCK_BYTES, prefixBlockTokens: 2 }, snapshots);
    return { store, buffers, restored };
  }

  test('restores whole blocks, leaves the last token to be computed, and counts', () => {
    const { store, restored } = open(10);
    store.keep(owner('t'), [1, 2, 3, 4, 5], 5, 7);
    expect(store.expected(owner('t'), [1, 2, 3, 4])).toBe(2);
    const hit = store.find(owner('t'), [1, 2, 3, 4, 5]);
    expect(hit?.tokens).toBe(4);
    if (hit !== null) store.restore(1, hit);
    expect(restored).toEqual([[700, 702]]);
    expect(store.find(owner('t'), [1, 2])).toBeNull();
    expect(store.use()).toEqual({
      bytesUsed: 2 * BLOCK_BYTES,
      bytesBudget: 10 * BLOCK_BYTES,
      hits: 1,
      tokens: 4,
    });
  });

  test('wipes what it gives up and never has more buffers than its budget', () => {
    const { store, buffers } = open(3);
    for (let row = 0; row < 20; row++) store.keep(owner(`t${row % 4}`), [row, row, 9, 9, 8, 8], 6, row);
    expect(buffers.size).toBe(3);
    expect(store.use().bytesUsed).toBe(3 * BLOCK_BYTES);
  });

  test('keeps nothing without bytes, or where keys and values stay on a device', () => {
    const { store, buffers } = open(0);
    store.keep(owner('t'), [1, 2, 3], 3, 1);
    expect(store.find(owner('t'), [1, 2, 3])).toBeNull();
    expect(buffers.size).toBe(0);
    const onDevice = new PrefixStore({ prefixBytes: 1e9, prefixBlockTokens: 2 }, undefined);
    onDevice.keep(owner('t'), [1, 2, 3], 3, 1);
    expect(onDevice.expected(owner('t'), [1, 2, 3])).toBe(0);
    expect(onDevice.use()).toMatchObject({ bytesUsed: 0, bytesBudget: 0 });
  });
});
