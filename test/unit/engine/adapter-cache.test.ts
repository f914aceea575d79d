import { expect, test } from 'vitest';
import { AdapterCache, type AdapterLease } from '../../../src/engine/adapter-cache.ts';
import { TenantLoads } from '../../../src/engine/tenant-loads.ts';
import { type FakeAdapterSpec, FakeLoader, nextTurn } from '../../kit/fake-engine.ts';
import { ManualClock } from '../../kit/fake-runner.ts';

function cache(
  specs: Record<string, FakeAdapterSpec> = {},
  options: { readonly hostCacheBytes?: number; readonly maxConcurrentLoads?: number } = {},
) {
  const loader = new FakeLoader(specs);
  const made = new AdapterCache(
    { hostCacheBytes: 300, maxConcurrentLoads: 2, maxBypass: 3, ...options },
    { loader, clock: new ManualClock() },
  );
  return { cache: made, loader };
}

/** Whether the lease is ready once everything that can happen has happened. */
async function ready(lease: AdapterLease): Promise<boolean> {
  let settled = false;
  lease.ready.then(
    () => {
      settled = true;
    },
    () => {},
  );
  for (let i = 0; i < 20; i++) await nextTurn();
  return settled;
}

test('one load serves all who want the adapter, and is billed to the first of each tenant', async () => {
  const { cache: made, loader } = cache({ a: { turns: 3 } });
  const leases = [made.acquire(['a'], 't'), made.acquire(['a'], 't'), made.acquire(['a'], 't')];
  await Promise.all(leases.map((lease) => lease.ready));
  expect(loader.loads).toEqual(['a']);
  expect(leases.map((lease) => lease.bytesLoaded)).toEqual([100, 0, 0]);
  const other = [made.acquire(['a'], 'u'), made.acquire(['a'], 'u')];
  await Promise.all(other.map((lease) => lease.ready));
  expect(other.map((lease) => lease.bytesLoaded)).toEqual([100, 0]);
  expect(loader.loads).toEqual(['a']);
  for (const lease of other) lease.release();
  expect(made.residents()).toEqual([{ digest: 'a', rank: 8, bytes: 100, inUse: 3 }]);
});

test('when the first has gone, the oldest who still waits is billed', async () => {
  const { cache: made } = cache({ a: { turns: 3 } });
  const first = made.acquire(['a'], 't');
  const second = made.acquire(['a'], 't');
  first.release();
  await second.ready;
  expect(second.bytesLoaded).toBe(100);
});

test('a pinned adapter is never evicted: what needs its room waits until it is released', async () => {
  const { cache: made } = cache({ big: { bytes: 250 } });
  const held = made.acquire(['a'], 't');
  await held.ready;
  const waiting = made.acquire(['big'], 't');
  expect(await ready(waiting)).toBe(false);
  expect(made.residents().map(({ digest }) => digest)).toEqual(['a']);
  held.release();
  expect(await ready(waiting)).toBe(true);
  expect(made.residents().map(({ digest }) => digest)).toEqual(['big']);
});

test('the least recently used unpinned adapter makes room', async () => {
  const { cache: made, loader } = cache();
  for (const digest of ['a', 'b', 'c', 'a', 'd']) {
    const lease = made.acquire([digest], 't');
    await lease.ready;
    lease.release();
  }
  expect(loader.loads).toEqual(['a', 'b', 'c', 'd']);
  expect(made.residents().map(({ digest }) => digest)).toEqual(['a', 'c', 'd']);
  expect(made.bytesUsed).toBe(300);
});

test('an adapter, and a blend, larger than the whole cache are refused', async () => {
  const { cache: made } = cache({ huge: { bytes: 301 }, half: { bytes: 200 } });
  const code = expect.objectContaining({ code: 'ENGINE_TOO_LARGE' });
  await expect(made.acquire(['huge'], 't').ready).rejects.toEqual(code);
  await expect(made.acquire(['half', 'a', 'b'], 't').ready).rejects.toEqual(code);
  const next = made.acquire(['a', 'b', 'c'], 't');
  expect(await ready(next)).toBe(true);
});

test('a blend that is too large is refused even if others had its parts loaded', async () => {
  const { cache: made } = cache({ big: { bytes: 250 }, part: { bytes: 60 } });
  const part = made.acquire(['part'], 't');
  await part.ready;
  const big = made.acquire(['big'], 't');
  expect(await ready(big)).toBe(false);
  // `part` is pinned and `big` is loaded but has no room: no load will ever tell the blend its size.
  const blend = made.acquire(['big', 'part'], 't');
  big.release();
  part.release();
  await expect(blend.ready).rejects.toEqual(expect.objectContaining({ code: 'ENGINE_TOO_LARGE' }));
});

test('a failed load ends everyone who waits for it, and is tried again for the next one', async () => {
  const { cache: made, loader } = cache({ bad: { fails: true, turns: 1 } });
  const code = expect.objectContaining({ code: 'ADAPTER_LOAD_FAILED' });
  const both = [made.acquire(['bad', 'a'], 't'), made.acquire(['bad'], 't')];
  for (const lease of both) await expect(lease.ready).rejects.toEqual(code);
  await expect(made.acquire(['bad'], 't').ready).rejects.toEqual(code);
  expect(loader.loads.filter((digest) => digest === 'bad')).toHaveLength(2);
});

test('a loader that answers with another version is not believed', async () => {
  const { cache: made, loader } = cache();
  const load = loader.load.bind(loader);
  loader.load = () => load('other');
  await expect(made.acquire(['a'], 't').ready).rejects.toEqual(
    expect.objectContaining({ code: 'ADAPTER_LOAD_FAILED' }),
  );
});

test('blends that want more than fits together do not wait for each other', async () => {
  const { cache: made } = cache({}, { maxConcurrentLoads: 4 });
  const first = made.acquire(['a', 'b'], 't');
  const second = made.acquire(['c', 'd'], 't');
  expect(await ready(first)).toBe(true);
  expect(await ready(second)).toBe(false);
  first.release();
  expect(await ready(second)).toBe(true);
});

test('blends that wait do not evict and load parts of each other in turn', async () => {
  const { cache: made, loader } = cache({}, { maxConcurrentLoads: 4, hostCacheBytes: 400 });
  const held = made.acquire(['x', 'y'], 't');
  await held.ready;
  const blends = [
    made.acquire(['a', 'b', 'c', 'd'], 't'),
    made.acquire(['e', 'f', 'g'], 't'),
    made.acquire(['g', 'h', 'i'], 't'),
  ];
  for (const blend of blends) expect(await ready(blend)).toBe(false);
  expect(loader.loads.length).toBeLessThan(20);
  held.release();
  for (const blend of blends) {
    expect(await ready(blend)).toBe(true);
    blend.release();
  }
});

test('no more loads than allowed run at once, and a waiting head is not shut out by adapters without room', async () => {
  const { cache: made, loader } = cache({ x: { turns: 5 }, y: { turns: 5 }, z: { turns: 5 } });
  const leases = ['x', 'y', 'z'].map((digest) => made.acquire([digest], 't'));
  await nextTurn();
  expect(loader.loads).toEqual(['x', 'y']);
  for (const lease of leases) expect(await ready(lease)).toBe(true);
  // Everything is pinned; two loads land without room and fill both slots.
  const first = made.acquire(['p'], 't');
  const second = made.acquire(['q'], 't');
  const third = made.acquire(['r'], 't');
  expect(await ready(first)).toBe(false);
  first.release();
  second.release();
  expect(await ready(third)).toBe(false);
  leases[0]?.release();
  expect(await ready(third)).toBe(true);
});

test('an adapter without room gives up its slot when the oldest lease needs it to load', async () => {
  const specs = { big: { bytes: 250, turns: 2 }, held: { bytes: 200 } };
  const { cache: made } = cache(specs, { maxConcurrentLoads: 1 });
  const part = made.acquire(['part'], 't');
  await part.ready;
  part.release();
  const held = made.acquire(['held'], 't');
  await held.ready;
  const gone = made.acquire(['big'], 't');
  const blend = made.acquire(['part', 'other'], 't');
  const big = made.acquire(['big'], 't');
  // `big` lands for its second user, has no room, and fills the only slot, while `part` is kept for the blend.
  gone.release();
  expect(await ready(blend)).toBe(false);
  held.release();
  expect(await ready(blend)).toBe(true);
  expect(await ready(big)).toBe(false);
  blend.release();
  expect(await ready(big)).toBe(true);
});

test('a lease that waits for room is overtaken a bounded number of times by users of a hot adapter', async () => {
  const { cache: made } = cache({ big: { bytes: 250 } });
  let hot = made.acquire(['a'], 't');
  await hot.ready;
  const big = made.acquire(['big'], 't');
  expect(await ready(big)).toBe(false);
  let overtaken = 0;
  for (;;) {
    const next = made.acquire(['a'], 't');
    if (!(await ready(next))) break;
    overtaken += 1;
    hot.release();
    hot = next;
    expect(overtaken).toBeLessThan(10);
  }
  expect(overtaken).toBe(3);
  hot.release();
  expect(await ready(big)).toBe(true);
});

test('what a tenant is billed does not depend on what another tenant keeps in memory', async () => {
  const billed = async (spied: readonly string[]): Promise<readonly number[]> => {
    const { cache: made } = cache();
    const use = async (digest: string, tenant: string): Promise<number> => {
      const lease = made.acquire([digest], tenant);
      await lease.ready;
      lease.release();
      return lease.bytesLoaded;
    };
    const bytes: number[] = [];
    // The spy uses its copy, pushes it out with others, and looks whether it had to be loaded again.
    for (const digest of ['a', 'a', 'b', 'c', 'd', 'a', 'd']) {
      for (const other of spied) await use(other, 'victim');
      bytes.push(await use(digest, 'spy'));
    }
    return bytes;
  };
  const alone = await billed([]);
  expect(alone).toEqual([100, 0, 100, 100, 100, 100, 0]);
  expect(await billed(['a'])).toEqual(alone);
  expect(await billed(['x', 'y', 'z'])).toEqual(alone);
});

test('whoever was idle longest is forgotten first when there is too much to remember', () => {
  const loads = new TenantLoads({ hostCacheBytes: 1_000, maxRemembered: 3 });
  expect(loads.use('t', 'a', 100)).toBe(100);
  expect(loads.use('u', 'a', 100)).toBe(100);
  expect(loads.use('t', 'b', 100)).toBe(100);
  expect(loads.use('v', 'a', 100)).toBe(100);
  expect([loads.use('t', 'a', 100), loads.use('t', 'b', 100)]).toEqual([0, 0]);
  expect(loads.use('u', 'a', 100)).toBe(100);
});

test('releasing twice, or before the load is done, leaves no pin behind', async () => {
  const { cache: made } = cache({ a: { turns: 2 } });
  const early = made.acquire(['a'], 't');
  early.release();
  const lease = made.acquire(['a'], 't');
  await lease.ready;
  lease.release();
  lease.release();
  early.release();
  expect(made.residents()).toEqual([{ digest: 'a', rank: 8, bytes: 100, inUse: 0 }]);
});
