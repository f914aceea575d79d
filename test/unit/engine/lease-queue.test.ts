import { expect, test } from 'vitest';
import { LeaseQueue, type Waiting } from '../../../src/engine/lease-queue.ts';
import { SortedList } from '../../../src/engine/sorted-list.ts';

function lease(number: number, digests: readonly string[], urgency = 0): Waiting {
  return { number, digests, urgency, bypassed: 0 };
}

/** Adapters in the order in which they would be loaded. */
function loadOrder(queue: LeaseQueue<Waiting>): string[] {
  const order: string[] = [];
  for (let next = queue.nextToLoad; next !== undefined; next = queue.nextToLoad) {
    order.push(next.digest);
    queue.moved(next.digest, 'loading');
  }
  return order;
}

test('a sorted list keeps its order and knows what it holds', () => {
  const list = new SortedList<number>((a, b) => a - b);
  for (const each of [5, 1, 4, 2, 3]) list.add(each);
  expect([...list]).toEqual([1, 2, 3, 4, 5]);
  expect([list.delete(3), list.delete(3), list.delete(1)]).toEqual([true, false, true]);
  expect([list.first, list.size]).toEqual([2, 3]);
});

test('adapters load by urgency, then by arrival, then as the lease names them', () => {
  const queue = new LeaseQueue<Waiting>();
  queue.add(lease(0, ['c', 'b'], 2));
  queue.add(lease(1, ['d'], 1));
  queue.add(lease(2, ['a'], 1));
  expect(loadOrder(queue)).toEqual(['d', 'a', 'c', 'b']);
});

test('an urgent lease pulls an adapter forward that others wait for, and lets it fall back when it goes', () => {
  const queue = new LeaseQueue<Waiting>();
  const urgent = lease(2, ['b'], -1);
  queue.add(lease(0, ['a']));
  queue.add(lease(1, ['b']));
  queue.add(urgent);
  expect(queue.nextToLoad?.digest).toBe('b');
  expect(queue.inWantedOrder(['x', 'a', 'b'])).toEqual(['b', 'a', 'x']);
  queue.remove(urgent);
  expect(queue.nextToLoad?.digest).toBe('a');
  expect(queue.inWantedOrder(['x', 'b', 'a'])).toEqual(['a', 'b', 'x']);
});

test('a lease is ready while all its adapters are resident', () => {
  const queue = new LeaseQueue<Waiting>();
  const blend = lease(0, ['a', 'b']);
  queue.add(blend);
  queue.moved('a', 'resident');
  expect(queue.ready).toBeUndefined();
  queue.moved('b', 'resident');
  expect(queue.ready).toBe(blend);
  queue.moved('a', 'absent');
  expect([queue.ready, queue.nextToLoad?.digest]).toEqual([undefined, 'a']);
  queue.moved('a', 'resident');
  expect(queue.ready).toBe(blend);
});

test('a promoted lease stands before more urgent ones, everywhere', () => {
  const queue = new LeaseQueue<Waiting>();
  const eldest = lease(0, ['a'], 5);
  const urgent = lease(1, ['b'], 1);
  queue.add(eldest);
  queue.add(urgent);
  expect([queue.front, queue.eldest]).toEqual([urgent, eldest]);
  queue.promote(eldest);
  expect(queue.front).toBe(eldest);
  expect(queue.wantedLater('b', 'a')).toBe(true);
  expect(loadOrder(queue)).toEqual(['a', 'b']);
  queue.moved('b', 'resident');
  queue.moved('a', 'resident');
  expect(queue.ready).toBe(eldest);
  expect([queue.remove(eldest), queue.remove(eldest)]).toEqual([true, false]);
  expect([queue.front, queue.ready]).toEqual([urgent, urgent]);
});

test('the size of a lease is known as far as any load has told it', () => {
  const queue = new LeaseQueue<Waiting>();
  const blend = lease(0, ['a', 'b']);
  queue.add(blend);
  queue.moved('a', 'landed');
  queue.sized('a', 10);
  queue.sized('a', 10);
  expect(queue.knownBytes(blend)).toBe(10);
  const later = lease(1, ['a']);
  queue.add(later);
  expect(queue.knownBytes(later)).toBe(10);
});
