import { expect, test } from 'vitest';
import { ClaimLost, ClaimQueue, type ClaimWork } from '../../../src/db/claim-queue.ts';
import { PatchbayError } from '../../../src/kernel/errors.ts';
import { waitFor } from '../../kit/wait.ts';

/** Resolves when it is told to. */
function gate() {
  let open = (): void => {};
  const opened = new Promise<void>((resolve) => {
    open = resolve;
  });
  return { opened, open: () => open() };
}

/** Work on numbers that wait in a list, and what became of it. */
function workOn(waiting: number[], more: Partial<ClaimWork<number>> = {}) {
  const seen = { ran: [] as number[], concluded: [] as unknown[], errors: [] as unknown[] };
  const work: ClaimWork<number> = {
    claim: async () => waiting.shift() ?? null,
    renew: async () => true,
    run: async (claim) => void seen.ran.push(claim),
    conclude: (_claim, error) => async () => void seen.concluded.push(error),
    onError: (error) => seen.errors.push(error),
    ...more,
  };
  return { work, seen };
}

const OPTIONS = { concurrency: 1, pollMs: 600_000, renewMs: 600_000 };
const aborted = (signal: AbortSignal) =>
  new Promise<never>((_, reject) => {
    if (signal.aborted) reject(signal.reason);
    signal.addEventListener('abort', () => reject(signal.reason));
  });

test('everything that waits is worked off, so many at a time', async () => {
  let running = 0;
  let most = 0;
  const { work, seen } = workOn([1, 2, 3, 4, 5], {
    run: async (claim) => {
      running += 1;
      most = Math.max(most, running);
      await new Promise(setImmediate);
      running -= 1;
      seen.ran.push(claim);
    },
  });
  const queue = new ClaimQueue({ ...OPTIONS, concurrency: 2 }, work);
  queue.start();
  await waitFor(() => seen.ran.length === 5);
  await queue.close();
  expect(seen.ran.toSorted()).toEqual([1, 2, 3, 4, 5]);
  expect(most).toBe(2);
});

test('one that is announced while it looks is looked for again', async () => {
  const waiting: number[] = [];
  const looking = gate();
  let looks = 0;
  const { work, seen } = workOn(waiting, {
    claim: async () => {
      looks += 1;
      const found = waiting.shift() ?? null;
      if (looks === 1) await looking.opened;
      return found;
    },
  });
  const queue = new ClaimQueue(OPTIONS, work);
  queue.start();
  waiting.push(7);
  queue.wake();
  looking.open();
  await waitFor(() => seen.ran.length === 1);
  await queue.close();
  expect(seen.ran).toEqual([7]);
});

test('work on a claim that is lost is told so, and a look that fails is heard of', async () => {
  const waiting = [1];
  const { work, seen } = workOn(waiting, {
    claim: async () => {
      const found = waiting.shift();
      if (found === undefined) throw new Error('no answer');
      return found;
    },
    renew: async () => false,
    run: (_claim, signal) => aborted(signal),
  });
  const queue = new ClaimQueue({ ...OPTIONS, renewMs: 1 }, work);
  queue.start();
  await waitFor(() => seen.concluded.length === 1 && seen.errors.length === 1);
  await queue.close();
  expect(seen.concluded[0]).toBeInstanceOf(ClaimLost);
  expect(seen.errors).toEqual([new Error('no answer')]);
});

test('a queue that closes says so to what runs, waits for its end, and claims no more', async () => {
  const waiting = [1, 2];
  const begun = gate();
  const { work, seen } = workOn(waiting, {
    run: (_claim, signal) => {
      begun.open();
      return aborted(signal);
    },
  });
  const queue = new ClaimQueue(OPTIONS, work);
  queue.start();
  await begun.opened;
  expect(queue.closing).toBe(false);
  await queue.close();
  queue.wake();
  expect(queue.closing).toBe(true);
  expect(seen.concluded).toHaveLength(1);
  expect(waiting).toEqual([2]);
});

test('an end is decided once and written until the database takes it; another error is not tried again', async () => {
  const away = new PatchbayError('DATABASE_UNAVAILABLE', 'It is away.');
  const decided: unknown[] = [];
  const tries: number[] = [];
  const { work, seen } = workOn([1, 2], {
    run: async (claim) => {
      throw new Error(`no ${claim}`);
    },
    conclude: (claim, error) => {
      decided.push(error);
      return async () => {
        tries.push(claim);
        if (claim === 2) throw new Error('refused');
        if (tries.length < 3) throw away;
      };
    },
  });
  const queue = new ClaimQueue({ ...OPTIONS, pollMs: 1 }, work);
  queue.start();
  await waitFor(() => seen.errors.length === 1);
  await queue.close();
  expect(decided).toEqual([new Error('no 1'), new Error('no 2')]);
  expect(tries).toEqual([1, 1, 1, 2]);
  expect(seen.errors).toEqual([new Error('refused')]);
});
