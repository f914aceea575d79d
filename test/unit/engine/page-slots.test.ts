import { describe, expect, test } from 'vitest';
import { PageSlots, ZERO_SLOT } from '../../../src/engine/runner/device/page-slots.ts';
import type { PackedAdapter } from '../../../src/engine/runner.ts';

function adapter(digest: string, pages: number): PackedAdapter {
  return {
    digest,
    rank: 16 * pages,
    bytes: 0,
    pages: Array.from({ length: pages }, () => new Float32Array(1)),
  };
}

describe('page slots', () => {
  test('a page is written once while it stays', () => {
    const slots = new PageSlots(8);
    expect(slots.activate([adapter('a', 2)]).writes).toHaveLength(2);
    expect(slots.activate([adapter('a', 2)]).writes).toEqual([]);
    expect(slots.slot('a', 0)).not.toBe(slots.slot('a', 1));
    expect([slots.slot('a', 0), slots.slot('a', 1)]).not.toContain(ZERO_SLOT);
  });

  test('the bank grows by doubling up to its limit, then the page unused for longest makes room', () => {
    const slots = new PageSlots(6);
    expect(slots.activate([adapter('a', 1)]).capacity).toBe(5);
    expect(slots.activate([adapter('b', 4)]).capacity).toBe(7);
    slots.activate([adapter('c', 1)]);
    slots.activate([adapter('a', 1)]);
    const [write] = slots.activate([adapter('d', 1)]).writes;
    expect([...slots.heldPages().keys()].toSorted()).toEqual(['a', 'b', 'c', 'd']);
    expect(() => slots.slot('b', 0)).toThrow();
    expect(write?.slot).toBe(slots.slot('d', 0));
  });

  test('pages that this step needs are not evicted for one another', () => {
    const slots = new PageSlots(2);
    slots.activate([adapter('a', 1), adapter('b', 1)]);
    slots.activate([adapter('c', 1), adapter('a', 1)]);
    expect([...slots.heldPages().keys()].toSorted()).toEqual(['a', 'c']);
    expect(() => slots.activate([adapter('x', 3)])).toThrow();
  });

  test('pages whose write failed are not held', () => {
    const slots = new PageSlots(4);
    slots.forget(slots.activate([adapter('a', 2)]).writes);
    expect(slots.heldPages()).toEqual(new Map());
    expect(slots.activate([adapter('a', 2)]).writes).toHaveLength(2);
  });
});
