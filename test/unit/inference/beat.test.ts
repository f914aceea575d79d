import { expect, test } from 'vitest';
import { Beat } from '../../../src/inference/beat.ts';

/** A beat whose timers fire when the test says so. */
function setup(intervalMs: number, nowMs = 0) {
  const timers: { readonly ms: number; readonly fire: () => void }[] = [];
  const beat = new Beat(intervalMs, {
    clock: { monotonicMs: () => nowMs },
    pause: (ms) => new Promise((fire) => timers.push({ ms, fire })),
  });
  return { beat, timers };
}

test('all who wait share one timer, to the next multiple of the interval', async () => {
  const { beat, timers } = setup(40, 1_030);
  const { signal } = new AbortController();
  const over: string[] = [];
  const waits = ['a', 'b', 'c'].map((name) => beat.next(signal).then(() => over.push(name)));
  expect(timers.map(({ ms }) => ms)).toEqual([10]);
  expect(over).toEqual([]);
  timers[0]?.fire();
  await Promise.all(waits);
  expect(over).toEqual(['a', 'b', 'c']);
  void beat.next(signal);
  expect(timers).toHaveLength(2);
});

test('who is over does not wait, and the others still do', async () => {
  const { beat, timers } = setup(40);
  const [over, running] = [new AbortController(), new AbortController()];
  let others = 0;
  const other = beat.next(running.signal).then(() => {
    others += 1;
  });
  const first = beat.next(over.signal);
  over.abort();
  await first;
  await beat.next(over.signal);
  expect(others).toBe(0);
  timers[0]?.fire();
  await other;
});

test('an interval of zero makes nobody wait', async () => {
  const { beat, timers } = setup(0);
  await beat.next(new AbortController().signal);
  expect(timers).toEqual([]);
});
