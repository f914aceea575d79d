// Hit rates of the host cache's eviction on seeded traces, beside LRU, GDSF and the offline optimum.
// Run: npm run build && node bench/cache-hits.mjs [registered] [requests] [seed]
import {
  beladyHits,
  enginePolicy,
  gdsfPolicy,
  hitsBound,
  lruPolicy,
  replay,
} from '../dist/bench/cache-replay.js';
import { CACHE_TRACES, cacheTrace } from '../dist/bench/cache-traces.js';

const [registered, requests, seed] = [2000, 40_000, 1].map((fallback, i) =>
  Number(process.argv[i + 2] ?? fallback),
);
// In pages of rank 8. A load takes a fixed time and a time for each page, as measured (docs/operating/benchmarks.md).
const RANKS = [8, 16, 40, 64];
const laws = {
  'one rank': { pages: () => 1, capacity: registered / 20 },
  'ranks 8, 16, 40, 64': {
    pages: (adapter) => RANKS[(Math.imul(adapter + 1, 0x9e3779b1) >>> 0) % RANKS.length] / 8,
    capacity: (registered / 20) * 4,
  },
};

console.log(`${registered} registered, ${requests} requests, seed ${seed}; room for about 5 % of them`);
for (const [name, { pages, capacity }] of Object.entries(laws)) {
  const sizes = { bytes: pages, loadMs: (adapter) => 4 + 3 * pages(adapter) };
  console.log(`\n${name}: share of requests that hit (time of loads relative to LRU)`);
  console.log('| trace | LRU | GDSF | engine | offline |\n| --- | ---: | ---: | ---: | ---: |');
  for (const trace of Object.keys(CACHE_TRACES)) {
    const adapters = cacheTrace(trace, { registered, seed }, requests);
    const run = (policy) => replay(adapters, sizes, capacity, policy);
    const [lru, gdsf, engine] = [lruPolicy(), gdsfPolicy(sizes), enginePolicy(sizes)].map(run);
    const offline =
      name === 'one rank' ? beladyHits(adapters, capacity) : hitsBound(adapters, sizes, capacity);
    const percent = (share) => `${(share * 100).toFixed(1)} %`;
    const cell = ({ hits, loadMs }) => `${percent(hits)} (${(loadMs / lru.loadMs).toFixed(2)})`;
    console.log(
      `| ${trace} | ${percent(lru.hits)} | ${cell(gdsf)} | ${cell(engine)} | ${name === 'one rank' ? '' : '≤ '}${percent(offline)} |`,
    );
  }
}
