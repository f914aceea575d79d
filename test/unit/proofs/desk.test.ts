import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import type { Uuid } from '../../../src/kernel/ids.ts';
import { pause } from '../../../src/metering/periodic.ts';
import { DESK_DEFAULTS, ReceiptDesk } from '../../../src/proofs/receipts/desk.ts';
import type { IssuedReceipt } from '../../../src/proofs/receipts/issuer.ts';

const id = (n: number): Uuid => `0192f000-0000-7000-8000-${n.toString(16).padStart(12, '0')}`;

const receiptOf = (requestId: Uuid): IssuedReceipt => ({
  requestId,
  tenantId: id(0),
  opened: [],
  view: () => ({
    logId: Buffer.alloc(32),
    requestId,
    commitments: Buffer.alloc(0),
    opened: [],
    batch: { size: 1, index: 0, path: Buffer.alloc(0), signedAt: 1, signature: '0x' },
    inclusion: null,
    documents: [],
  }),
});

function openDesk(
  options: { readonly issue?: (ids: readonly Uuid[]) => Promise<readonly IssuedReceipt[]> } = {},
) {
  const batches: (readonly Uuid[])[] = [];
  const errors: unknown[] = [];
  let lostRounds = 0;
  const issue = options.issue ?? ((ids) => Promise.resolve(ids.map(receiptOf)));
  const desk = new ReceiptDesk(DESK_DEFAULTS, {
    issuer: {
      batchMax: 3,
      issue: (ids) => {
        batches.push(ids);
        return issue(ids);
      },
      issueLost: () => {
        lostRounds += 1;
        return Promise.resolve(0);
      },
    },
    documents: { published: () => Promise.resolve([]) },
    clock: { monotonicMs: () => Date.now() },
    pause,
    onError: (error) => errors.push(error),
  });
  return { desk, batches, errors, lostRounds: () => lostRounds };
}

beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  vi.useRealTimers();
});

describe('the desk', () => {
  test('signs at once after a pause, and what settles within the next second together', async () => {
    const { desk, batches } = openDesk();
    desk.settled(id(1));
    await vi.advanceTimersByTimeAsync(0);
    expect(batches).toEqual([[id(1)]]);
    desk.settled(id(2));
    const third = desk.settled(id(3));
    await vi.advanceTimersByTimeAsync(999);
    expect(batches).toHaveLength(1);
    await vi.advanceTimersByTimeAsync(1);
    expect(batches).toEqual([[id(1)], [id(2), id(3)]]);
    expect(await third()).toContain(id(3));
    await vi.advanceTimersByTimeAsync(5_000);
    desk.settled(id(4));
    await vi.advanceTimersByTimeAsync(0);
    expect(batches).toHaveLength(3);
    await desk.close();
  });

  test('signs no more at once than a batch holds', async () => {
    const { desk, batches } = openDesk();
    for (let n = 0; n < 8; n += 1) desk.settled(id(n));
    await vi.advanceTimersByTimeAsync(DESK_DEFAULTS.betweenMs);
    expect(batches.map((batch) => batch.length)).toEqual([1, 3, 3, 1]);
    await desk.close();
  });

  test('answers null to who waits too long, and to who asks for what another process has signed', async () => {
    let answer: (receipts: readonly IssuedReceipt[]) => void = () => {};
    const { desk } = openDesk({
      issue: () =>
        new Promise((resolve) => {
          answer = resolve;
        }),
    });
    const first = desk.settled(id(1));
    const late = first();
    await vi.advanceTimersByTimeAsync(DESK_DEFAULTS.patienceMs);
    expect(await late).toBeNull();
    answer([]);
    await vi.advanceTimersByTimeAsync(0);
    expect(await first()).toBeNull();
    await desk.close();
  });

  test('tries again what failed, and says so', async () => {
    let isDown = true;
    const { desk, batches, errors } = openDesk({
      issue: (ids) => (isDown ? Promise.reject(new Error('down')) : Promise.resolve(ids.map(receiptOf))),
    });
    const text = desk.settled(id(1))();
    await vi.advanceTimersByTimeAsync(0);
    expect(errors).toHaveLength(1);
    isDown = false;
    desk.wake();
    await vi.advanceTimersByTimeAsync(DESK_DEFAULTS.betweenMs);
    expect(batches).toEqual([[id(1)], [id(1)]]);
    expect(await text).toContain(id(1));
    await desk.close();
  });

  test('looks for what was left behind now and then, whether or not something settles', async () => {
    const { desk, lostRounds, batches } = openDesk();
    for (let second = 0; second < 11; second += 1) {
      desk.wake();
      await vi.advanceTimersByTimeAsync(1_000);
    }
    expect(lostRounds()).toBe(3);
    expect(batches).toEqual([]);
    await desk.close();
  });

  test('signs at its end what it has not yet, without waiting', async () => {
    const { desk, batches } = openDesk();
    desk.settled(id(1));
    await vi.advanceTimersByTimeAsync(0);
    desk.settled(id(2));
    const closing = desk.close();
    await vi.advanceTimersByTimeAsync(0);
    await closing;
    expect(batches).toEqual([[id(1)], [id(2)]]);
  });
});
