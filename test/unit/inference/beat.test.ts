import { expect, test } from 'vitest';
import { Beat } from '../../../src/inference/beat.ts';

/** A beat whose timers fire when the test says so; firing one moves the time. */
function setup(chunksPerSecond: number, intervalMsMax = 100) {
  const timers: number[] = [];
  const fires: (() => void)[] = [];
  let nowMs = 5;
  const beat = new Beat(
    { chunksPerSecond, intervalMsMax },
    {
      clock: { monotonicMs: () => nowMs },
      pause: (ms) => {
        timers.push(ms);
        return new Promise((resolve) => {
          fires.push(() => {
            nowMs += ms;
            resolve();
          });
        });
      },
    },
  );
  /** Lets so many streams wait for one beat. */
  const round = async (streams: number): Promise<void> => {
    const waits = Array.from({ length: streams }, () => beat.wait(new AbortController().signal));
    fires.pop()?.();
    await Promise.all(waits);
  };
  return { beat, timers, fires, round, pass: (ms: number) => (nowMs += ms) };
}

test('all who wait share one timer, and the more they are the longer is the next one', async () => {
  const { timers, round } = setup(200);
  await round(1);
  await round(16);
  await round(16);
  await round(4);
  await round(1);
  expect(timers).toEqual([0, 5, 80, 80, 20]);
});

test('nobody waits longer than the longest interval', async () => {
  const { timers, round } = setup(200, 100);
  await round(1_000);
  await round(1_000);
  expect(timers).toEqual([0, 100]);
});

test('who comes when the interval is over does not wait for another', async () => {
  const { timers, round, pass } = setup(200);
  await round(4);
  pass(12);
  await round(4);
  pass(50);
  await round(4);
  expect(timers).toEqual([0, 8, 0]);
});

test('who is over does not wait, and the others still do', async () => {
  const { beat, fires } = setup(200);
  const [over, running] = [new AbortController(), new AbortController()];
  let others = 0;
  const other = beat.wait(running.signal).then(() => {
    others += 1;
  });
  const first = beat.wait(over.signal);
  over.abort();
  await first;
  await beat.wait(over.signal);
  expect(others).toBe(0);
  fires.pop()?.();
  await other;
});

test('without a bound nobody waits', async () => {
  const { beat, timers } = setup(0);
  await beat.wait(new AbortController().signal);
  expect(timers).toEqual([]);
});
