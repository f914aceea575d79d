// What a lease costs in the host cache while thousands wait: time of one acquire with its release, and of granting
// all that wait, against their number. Run: npm run build && node bench/leases.mjs
import { AdapterCache } from '../dist/engine/adapter-cache.js';

const clock = { nowMs: () => 0, monotonicMs: () => performance.now() };
const turn = () => new Promise((resolve) => setImmediate(resolve));
const pages = [new Float32Array(1)];

/** A cache with room for 100 adapters, all held, and this many leases waiting for as many different ones. */
async function crowded(waiting) {
  const loader = { load: async (digest) => ({ digest, rank: 8, bytes: 1, pages }), close: async () => {} };
  const cache = new AdapterCache(
    { hostCacheBytes: 100, maxConcurrentLoads: 4, maxBypass: 64 },
    { loader, clock },
  );
  const held = Array.from({ length: 100 }, (_, i) => cache.acquire([`held-${i}`], 'tenant'));
  await Promise.all(held.map((lease) => lease.ready));
  const leases = Array.from({ length: waiting }, (_, i) =>
    cache.acquire([`wanted-${i}`], 'tenant', { urgency: i % 3 }),
  );
  await turn();
  return { cache, held, leases };
}

console.log('| waiting | one acquire and release | until all were granted, each |\n| ---: | ---: | ---: |');
for (const waiting of [100, 1_000, 10_000, 100, 1_000, 10_000]) {
  const { cache, held, leases } = await crowded(waiting);
  const probes = 2_000;
  let started = performance.now();
  for (let i = 0; i < probes; i++) cache.acquire([`probe-${i}`], 'tenant', { urgency: i % 3 }).release();
  const each = ((performance.now() - started) / probes) * 1000;
  started = performance.now();
  for (const lease of leases) void lease.ready.then(() => lease.release());
  for (const lease of held) lease.release();
  await Promise.all(leases.map((lease) => lease.ready));
  const drained = ((performance.now() - started) / waiting) * 1000;
  console.log(`| ${waiting} | ${each.toFixed(1)} µs | ${drained.toFixed(1)} µs |`);
  await cache.close();
}
