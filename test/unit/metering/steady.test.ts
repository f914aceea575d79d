import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { METERING_DEFAULTS, Metering, type MeteringDeps } from '../../../src/metering/metering.ts';
import { freeRecharge } from '../../kit/unpriced.ts';

const LEASE_MS = 3_000;

beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  vi.useRealTimers();
});

/** Metering on a database that answers each renewal after `renewalMs`; counts the fences that it was asked for. */
function setup() {
  const state = { renewalMs: 0, fences: 0 };
  const system: MeteringDeps['database']['querySystem'] = async (text) => {
    if (text.includes('SET fenced_at')) state.fences += 1;
    return [];
  };
  // The rows are what the lease reads of a registration and a renewal.
  const reserved = async (): Promise<object[]> => {
    await new Promise((resolve) => setTimeout(resolve, state.renewalMs));
    return [{ shard: 0 }];
  };
  const never = () => Promise.reject(new Error('Not expected here'));
  const database = { querySystem: system, withSystemPg: never, queryApp: never, withReservedPg: never };
  const clock = { nowMs: () => Date.now(), monotonicMs: () => performance.now() };
  return {
    state,
    metering: new Metering(
      { ...METERING_DEFAULTS, leaseMs: LEASE_MS },
      {
        database: { ...database, queryReserved: vi.fn().mockImplementation(reserved) },
        clock,
        recharge: freeRecharge,
      },
    ),
  };
}

describe('fencing others', () => {
  it('waits for a lease of steady renewals after the start', async () => {
    const { state, metering } = setup();
    const started = metering.start();
    await vi.advanceTimersByTimeAsync(0);
    await started;
    await vi.advanceTimersByTimeAsync(LEASE_MS - 100);
    expect(state.fences).toBe(0);
    await vi.advanceTimersByTimeAsync(LEASE_MS);
    expect(state.fences).toBeGreaterThan(0);
  });

  it('waits anew after a renewal that hung, which may have kept others from renewing', async () => {
    const { state, metering } = setup();
    const started = metering.start();
    await vi.advanceTimersByTimeAsync(0);
    await started;
    state.renewalMs = LEASE_MS;
    // The first renewal begins after a third of the lease, and ends a lease later.
    await vi.advanceTimersByTimeAsync(LEASE_MS / 3 + LEASE_MS + 1);
    state.renewalMs = 0;
    const before = state.fences;
    await vi.advanceTimersByTimeAsync(LEASE_MS - 100);
    expect(state.fences).toBe(before);
    await vi.advanceTimersByTimeAsync(LEASE_MS);
    expect(state.fences).toBeGreaterThan(before);
  });
});
