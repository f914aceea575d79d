// How long it takes to bring a cold adapter from the store to the engine's thread, and where the time goes.
// Files are in the page cache. Run: npm run build && node bench/adapter-load.mjs [synthetic:30m] [rank] [adapters]
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DEFAULT_ADAPTER_LIMITS as limits } from '../dist/adapter/limits.js';
import { loadLoraWeights } from '../dist/adapter/loader.js';
import { FsBlobStore } from '../dist/adapter/store/fs.js';
import { importOnce } from '../dist/backbone/imported.js';
import { syntheticCheckpoint } from '../dist/bench/synthetic.js';
import { syntheticStore } from '../dist/bench/synthetic-store.js';
import { packAdapter } from '../dist/engine/runner/pack.js';
import { PAGE_RANK } from '../dist/serving/layout.js';
import { createThreadLoader } from '../dist/serving/loader-thread.js';

const [backbone = 'synthetic:30m', rankText = '16', countText = '40'] = process.argv.slice(2);
const [rank, count] = [Number(rankText), Number(countText)];
const dir = await syntheticCheckpoint(backbone);
const { manifest } = await importOnce({ dir, root: join(tmpdir(), 'patchbay-bench-backbones'), bits: 32 });
const { shape, digest: backboneDigest } = manifest;
const made = await syntheticStore({ shape, backboneDigest, ranks: new Array(count).fill(rank) });
const store = new FsBlobStore({ root: made.root });
const context = { shape, backboneDigest, limits };

const spread = (values) => {
  const sorted = values.toSorted((a, b) => a - b);
  const at = (share) => (sorted[Math.floor((sorted.length - 1) * share)] ?? 0).toFixed(1);
  return `median ${at(0.5)} ms, 90 % ${at(0.9)} ms`;
};
const timed = async (work, times, cpuTimes = []) => {
  const started = performance.now();
  const cpu = process.cpuUsage();
  const result = await work();
  const { user, system } = process.cpuUsage(cpu);
  times.push(performance.now() - started);
  cpuTimes.push((user + system) / 1000);
  return result;
};

const warm = Math.ceil(count / 4);
const [read, readCpu, pack, packCpu, whole, latency] = [[], [], [], [], [], []];
let bytes = 0;
for (const [i, digest] of made.digests.entries()) {
  const keep = i < warm ? [[], [], [], []] : [read, readCpu, pack, packCpu];
  const weights = await timed(() => loadLoraWeights(store, digest, context), keep[0], keep[1]);
  bytes = (await timed(() => packAdapter(weights, shape, PAGE_RANK), keep[2], keep[3])).bytes;
}
const loader = createThreadLoader({
  storeRoot: made.root,
  shape,
  backboneDigest,
  limits,
  pageRank: PAGE_RANK,
  log: { level: 'silent', format: 'json' },
});
for (const [i, digest] of made.digests.entries()) {
  const adapter = await timed(() => loader.load(digest), i < warm ? [] : latency);
  if (i >= warm) whole.push(adapter.loadMs ?? 0);
}
await loader.close();
console.log(`${backbone}, rank ${rank}, float16 on disk, ${(bytes / 2 ** 20).toFixed(1)} MiB packed`);
console.log(`read, check and digest   ${spread(read)}; CPU ${spread(readCpu)}`);
console.log(`pack                     ${spread(pack)}; CPU ${spread(packCpu)}`);
console.log(`in the loader thread     ${spread(whole)}`);
console.log(`as the engine sees it    ${spread(latency)}`);
