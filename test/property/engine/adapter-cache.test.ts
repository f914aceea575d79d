import fc from 'fast-check';
import { expect, test } from 'vitest';
import { AdapterCache, type AdapterLease } from '../../../src/engine/adapter-cache.ts';
import type { AdapterLoader, PackedAdapter } from '../../../src/engine/runner.ts';
import { nextTurn } from '../../kit/fake-engine.ts';
import { fakeAdapter, ManualClock } from '../../kit/fake-runner.ts';

/** fast-check prints seed and path of a failure; with the same seed it fails again. */
const SEED = 20_261_124;
const DIGESTS = ['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h'];

const traceArb = fc.record({
  leases: fc.array(
    fc.record({
      digests: fc.uniqueArray(fc.constantFrom(...DIGESTS), { minLength: 1, maxLength: 3 }),
      urgency: fc.integer({ min: 0, max: 3 }),
    }),
    { minLength: 1, maxLength: 40 },
  ),
  /** What happens, one after another; numbers choose among what is possible. */
  actions: fc.array(
    fc.record({ kind: fc.constantFrom('acquire', 'acquire', 'load', 'release'), pick: fc.nat(1_000) }),
    { maxLength: 160 },
  ),
  sizes: fc.tuple(...DIGESTS.map(() => fc.integer({ min: 20, max: 100 }))),
  maxConcurrentLoads: fc.integer({ min: 1, max: 3 }),
  maxBypass: fc.integer({ min: 0, max: 4 }),
});

/** Holds every load back until it is told to end it. */
class HeldLoader implements AdapterLoader {
  readonly held: { readonly digest: string; readonly end: () => void }[] = [];
  readonly #bytes: (digest: string) => number;
  most = 0;

  constructor(bytes: (digest: string) => number) {
    this.#bytes = bytes;
  }

  load(digest: string): Promise<PackedAdapter> {
    return new Promise((resolve) => {
      const end = (): void => resolve(fakeAdapter(digest, 1, this.#bytes(digest)));
      this.held.push({ digest, end });
      this.most = Math.max(this.most, this.held.length);
    });
  }

  end(pick: number): void {
    this.held.splice(pick % this.held.length, 1)[0]?.end();
  }

  async close(): Promise<void> {}
}

interface Asked {
  readonly number: number;
  readonly lease: AdapterLease;
  state: 'waiting' | 'granted' | 'released';
  overtaken: number;
}

test('random traces: bytes and loads stay bounded, every lease is granted, and later ones overtake it boundedly', async () => {
  await fc.assert(
    fc.asyncProperty(traceArb, async (trace) => {
      const loader = new HeldLoader((digest) => trace.sizes[DIGESTS.indexOf(digest)] ?? 0);
      const hostCacheBytes = 300;
      const cache = new AdapterCache({ ...trace, hostCacheBytes }, { loader, clock: new ManualClock() });
      const all: Asked[] = [];
      const waiting = (): Asked[] => all.filter(({ state }) => state === 'waiting');
      const acquire = (): void => {
        const { digests, urgency } = trace.leases[all.length] ?? { digests: [], urgency: 0 };
        if (digests.length === 0) return;
        const lease = cache.acquire(digests, 'tenant', { urgency });
        const asked: Asked = { number: all.length, lease, state: 'waiting', overtaken: 0 };
        all.push(asked);
        lease.ready.then(
          () => {
            asked.state = 'granted';
          },
          () => {},
        );
      };
      const release = (pick: number): void => {
        const granted = all.filter(({ state }) => state === 'granted');
        const one = granted[pick % Math.max(1, granted.length)];
        if (one === undefined) return;
        one.state = 'released';
        one.lease.release();
      };
      const check = (): void => {
        const resident = cache.residents();
        expect(resident.reduce((sum, { bytes }) => sum + bytes, 0)).toBeLessThanOrEqual(hostCacheBytes);
        expect(loader.most).toBeLessThanOrEqual(trace.maxConcurrentLoads);
        const pins = resident.reduce((sum, { inUse }) => sum + inUse, 0);
        const held = all.filter(({ state }) => state === 'granted');
        expect(pins).toBe(
          held.reduce((sum, { number }) => sum + (trace.leases[number]?.digests.length ?? 0), 0),
        );
      };
      // Where no load is in flight, the eldest can only lack room, and then the bound is exact.
      const shortOfRoom = (): Asked | undefined => (loader.held.length === 0 ? waiting()[0] : undefined);
      const act = async (action: () => void): Promise<void> => {
        const eldest = shortOfRoom();
        const ungranted = new Set(waiting());
        action();
        await nextTurn();
        if (eldest !== undefined && shortOfRoom() === eldest) {
          eldest.overtaken += all.filter((each) => each.state === 'granted' && ungranted.has(each)).length;
          expect(eldest.overtaken).toBeLessThanOrEqual(trace.maxBypass);
        }
        check();
      };
      for (const { kind, pick } of trace.actions) {
        if (kind === 'acquire') await act(acquire);
        else if (kind === 'load') await act(() => loader.end(pick));
        else await act(() => release(pick));
      }
      while (all.length < trace.leases.length) acquire();
      // Loads end and granted leases end: then all the others are granted too.
      for (let turn = 0; waiting().length > 0; turn++) {
        expect(turn).toBeLessThan(1_000);
        await act(() => loader.end(turn));
        await act(() => release(turn));
      }
      await cache.close();
    }),
    { seed: SEED, numRuns: 300 },
  );
});

test('urgent leases without end overtake a lease that they hold up only boundedly often', async () => {
  const maxBypass = 3;
  const loader = new HeldLoader(() => 100);
  const cache = new AdapterCache(
    { hostCacheBytes: 200, maxConcurrentLoads: 1, maxBypass },
    { loader, clock: new ManualClock() },
  );
  let granted = false;
  let grantedUrgent = 0;
  const first = cache.acquire(['z'], 'tenant', { urgency: 5 });
  const patient = cache.acquire(['patient'], 'tenant', { urgency: 9 });
  void patient.ready.then(() => {
    granted = true;
  });
  for (let i = 0; !granted && i < 50; i++) {
    const urgent = cache.acquire([`u${i}`], 'tenant', { urgency: 0 });
    void urgent.ready.then(() => {
      grantedUrgent += 1;
      urgent.release();
    });
    loader.end(0);
    await nextTurn();
    await nextTurn();
    first.release();
  }
  expect(granted).toBe(true);
  expect(grantedUrgent).toBeGreaterThanOrEqual(maxBypass);
  expect(grantedUrgent).toBeLessThanOrEqual(2 * maxBypass + 2);
});
