import { describe, expect, it } from 'vitest';
import { PatchbayError } from '../../../src/kernel/errors.ts';
import {
  type GroupCommitOptions,
  GroupCommitter,
  type Patience,
} from '../../../src/metering/group-commit.ts';

interface Item {
  readonly id: number;
}

const DROP: Patience = { patienceMs: 100, afterwards: 'drop' };
const KEEP: Patience = { patienceMs: 100, afterwards: 'keep' };
const OPTIONS: GroupCommitOptions = { queueMax: 4, batchMax: 3, backoffMsMin: 10, backoffMsMax: 40 };

class Transient extends Error {}
class Timeout extends Transient {}

/** A committer whose writes wait for the test, over time that passes only in pauses. */
function setup(options: Partial<GroupCommitOptions> = {}, most = Number.POSITIVE_INFINITY) {
  const batches: number[][] = [];
  const pauses: number[] = [];
  const outcomes: (Error | null)[] = [];
  let gate: Promise<void> | null = null;
  let now = 0;
  const committer = new GroupCommitter<Item, Item>(
    { ...OPTIONS, ...options },
    {
      write: async (items) => {
        batches.push(items.map((item) => item.id));
        if (gate !== null) await gate;
        const failure = outcomes.shift();
        if (failure !== undefined && failure !== null) throw failure;
        if (items.some((item) => item.id < 0)) throw new Error('poison');
        if (items.some((item) => item.id >= 100) || items.length > most) throw new Timeout();
        return items;
      },
      isTransient: (error) => error instanceof Transient,
      isTooMuch: (error) => error instanceof Timeout,
      clock: { nowMs: () => now, monotonicMs: () => now },
      pause: async (ms) => {
        pauses.push(ms);
        now += ms;
      },
    },
  );
  /** Makes writes wait until the returned function is called. */
  const hold = (): (() => void) => {
    let open = (): void => {};
    gate = new Promise((resolve) => {
      open = () => {
        gate = null;
        resolve();
      };
    });
    return () => open();
  };
  return { committer, batches, pauses, outcomes, hold };
}

describe('the group committer', () => {
  it('writes together what comes while a round runs, in order, and at most a batch at once', async () => {
    const { committer, batches, hold } = setup({ queueMax: 10 });
    const release = hold();
    const first = committer.submit({ id: 1 }, DROP);
    await Promise.resolve();
    await Promise.resolve();
    const rest = [2, 3, 4, 5].map((id) => committer.submit({ id }, DROP));
    release();
    expect(await Promise.all([first, ...rest])).toEqual([1, 2, 3, 4, 5].map((id) => ({ id })));
    expect(batches).toEqual([[1], [2, 3, 4], [5]]);
  });

  it('refuses what exceeds the queue, but never what must be kept', async () => {
    const { committer, hold } = setup();
    const release = hold();
    const accepted = [1, 2, 3, 4].map((id) => committer.submit({ id }, DROP));
    expect(committer.full).toBe(true);
    await expect(committer.submit({ id: 5 }, DROP)).rejects.toMatchObject({ code: 'DATABASE_UNAVAILABLE' });
    const kept = committer.submit({ id: 6 }, KEEP);
    release();
    await Promise.all([...accepted, kept]);
    expect(committer.depth).toBe(0);
  });

  it('writes the same batch again after a transient failure, pausing longer each time up to a limit', async () => {
    const { committer, batches, pauses, outcomes } = setup();
    outcomes.push(...Array.from({ length: 4 }, () => new Transient()));
    await committer.submit({ id: 1 }, { patienceMs: 1_000, afterwards: 'drop' });
    expect(batches).toEqual([[1], [1], [1], [1], [1]]);
    expect(pauses).toEqual([10, 20, 40, 40]);
  });

  it('forgets what may be dropped when its patience ends', async () => {
    const { committer, outcomes } = setup();
    outcomes.push(...Array.from({ length: 5 }, () => new Transient()));
    await expect(committer.submit({ id: 1 }, DROP)).rejects.toBeInstanceOf(PatchbayError);
    await committer.flush();
    expect(committer.depth).toBe(0);
  });

  it('tells the submitter of a kept item, and writes it nevertheless', async () => {
    const { committer, batches, outcomes } = setup();
    outcomes.push(...Array.from({ length: 8 }, () => new Transient()));
    await expect(committer.submit({ id: 1 }, KEEP)).rejects.toMatchObject({ code: 'DATABASE_UNAVAILABLE' });
    expect(committer.depth).toBe(1);
    await committer.flush();
    expect(batches).toHaveLength(9);
    expect(committer.depth).toBe(0);
  });

  it('lets one bad item fail alone', async () => {
    const { committer } = setup();
    const results = await Promise.allSettled([1, -2, 3].map((id) => committer.submit({ id }, DROP)));
    expect(results.map((result) => result.status)).toEqual(['fulfilled', 'rejected', 'fulfilled']);
  });

  it('halves a round that takes the database too long', async () => {
    const { committer, batches, pauses } = setup({ batchMax: 4 }, 1);
    await Promise.all([1, 2, 3, 4].map((id) => committer.submit({ id }, DROP)));
    expect(batches).toEqual([[1, 2, 3, 4], [1, 2], [1], [2], [3, 4], [3], [4]]);
    expect(pauses).toEqual([]);
  });

  it('keeps nothing waiting behind an item that takes too long even alone', async () => {
    const { committer } = setup({ batchMax: 4, queueMax: 10 });
    const results = await Promise.allSettled([1, 100, 3, 4].map((id) => committer.submit({ id }, DROP)));
    expect(results.map((result) => result.status)).toEqual([
      'fulfilled',
      'rejected',
      'fulfilled',
      'fulfilled',
    ]);
  });

  it('tries once more when it is closed, and gives up rather than hang', async () => {
    const { committer, outcomes } = setup();
    outcomes.push(...Array.from({ length: 50 }, () => new Transient()));
    const kept = committer.submit({ id: 1 }, KEEP);
    const closed = committer.close();
    await expect(kept).rejects.toMatchObject({ code: 'DATABASE_UNAVAILABLE' });
    await closed;
    await expect(committer.submit({ id: 2 }, KEEP)).rejects.toMatchObject({ code: 'DATABASE_UNAVAILABLE' });
  });
});
