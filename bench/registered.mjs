// Whether registered adapters cost anything: S-LoRA's workload with few and with many of them under one popularity law,
// alternating, through the server's own loader thread. Then the first token of cold and of warm adapters, one request
// at a time. Run: npm run build && node bench/registered.mjs --help
import { parseArgs } from 'node:util';
import { sloraRequests } from '../dist/bench/slora.js';
import { openStoreEngine, submitGreedy, syntheticBackbone } from '../dist/bench/store-engine.js';
import { syntheticStore } from '../dist/bench/synthetic-store.js';
import { prompts } from '../dist/bench/workload.js';

const flags = {
  backbone: 'synthetic:30m',
  registered: '64,2000',
  ranks: '8',
  alphas: '1,0.1',
  requests: '160',
  rounds: '3',
  rate: '200',
  cv: '1',
  input: '8,64',
  output: '8,64',
  streams: '16',
  cache: '256',
  cold: '30',
  seed: '1',
};
const options = Object.fromEntries(Object.keys(flags).map((name) => [name, { type: 'string' }]));
const { values } = parseArgs({ options: { ...options, help: { type: 'boolean' } } });
if (values.help) {
  console.log(
    `Flags with their defaults: ${Object.entries(flags)
      .map(([k, v]) => `--${k} ${v}`)
      .join(' ')}`,
  );
  process.exit(0);
}
const given = { ...flags, ...values };
const numbers = (name) => given[name].split(',').map(Number);
const number = (name) => numbers(name)[0];

const backbone = await syntheticBackbone(given.backbone);
const { shape, digest: backboneDigest } = backbone.manifest;
const most = Math.max(...numbers('registered'));
const ranks = Array.from({ length: most }, (_, i) => numbers('ranks')[i % numbers('ranks').length]);
const onProgress = (done, total) => done % 250 === 0 && console.error(`adapter ${done} of ${total}`);
const store = await syntheticStore({ shape, backboneDigest, ranks, onProgress });

const openEngine = () =>
  openStoreEngine({
    backbone,
    maxContext: numbers('input').at(-1) + numbers('output').at(-1),
    rows: number('streams'),
    cacheBytes: number('cache') * 2 ** 20,
    storeRoot: store.root,
  });
const submit = ({ engine }, digest, promptIds, newTokens) =>
  submitGreedy(engine, { digest, promptIds, newTokens });

async function play(one, law, seed) {
  const requests = sloraRequests({ ...law, seed }, number('requests'));
  const promptOf = (i, length) => prompts(seed, length, shape.vocabSize)(i);
  const before = one.loads.count;
  const started = performance.now();
  const running = requests.map(async ({ atMs, adapter, promptTokens, newTokens }, i) => {
    await new Promise((resolve) => setTimeout(resolve, atMs));
    return submit(one, store.digests[adapter], promptOf(i, promptTokens), newTokens);
  });
  const ended = await Promise.all(running);
  const seconds = (performance.now() - started) / 1000;
  return {
    rate: ended.reduce((sum, { tokens }) => sum + tokens, 0) / seconds,
    ttft: median(ended.map(({ ttftMs }) => ttftMs)),
    loads: (one.loads.count - before) / requests.length,
  };
}

function median(list) {
  return list.toSorted((a, b) => a - b)[Math.floor((list.length - 1) / 2)] ?? 0;
}

console.log(
  `${given.backbone}, ranks ${given.ranks}, ${given.streams} streams, ${given.requests} requests a run, Gamma arrivals at ` +
    `${given.rate}/s with cv ${given.cv}, input ${given.input}, output ${given.output}, host cache ${given.cache} MB`,
);
const [few, many] = [await openEngine(), await openEngine()];
for (const alpha of numbers('alphas')) {
  const law = {
    alpha,
    rate: number('rate'),
    cv: number('cv'),
    input: numbers('input'),
    output: numbers('output'),
  };
  const [fewLaw, manyLaw] = numbers('registered').map((adapters) => ({ ...law, adapters }));
  // The first pair fills the caches and is not counted.
  await play(few, fewLaw, 1_000 + number('seed'));
  await play(many, manyLaw, 1_000 + number('seed'));
  const pairs = [];
  for (let round = 0; round < number('rounds'); round++) {
    const seed = number('seed') + round;
    const pair = round % 2 === 0 ? [await play(few, fewLaw, seed)] : [];
    const other = await play(many, manyLaw, seed);
    pairs.push([pair[0] ?? (await play(few, fewLaw, seed)), other]);
  }
  const show = (side) => {
    const of = (key) => median(pairs.map((pair) => pair[side][key]));
    return `${of('rate').toFixed(0)} tokens/s, ${(of('loads') * 100).toFixed(0)} loads per 100 requests, TTFT ${of('ttft').toFixed(0)} ms`;
  };
  const ratios = pairs.map(([a, b]) => b.rate / a.rate);
  console.log(
    `power(${alpha}): ${numbers('registered')[0]} registered: ${show(0)}; ${numbers('registered')[1]} registered: ${show(1)}; ` +
      `ratio ${median(ratios).toFixed(3)} (${ratios.map((ratio) => ratio.toFixed(3)).join(', ')})`,
  );
}

const promptOf = prompts(99, 32, shape.vocabSize);
const rows = [];
for (let i = 0; i < number('cold'); i++) {
  // From the back: the power law has left these cold.
  const digest = store.digests[most - 1 - i];
  many.loads.lastMs.delete(digest);
  const cold = await submit(many, digest, promptOf(i), 2);
  const loadMs = many.loads.lastMs.get(digest);
  const warm = await submit(many, digest, promptOf(i + 10_000), 2);
  if (loadMs !== undefined)
    rows.push({ over: cold.ttftMs - warm.ttftMs - loadMs, cold: cold.ttftMs, warm: warm.ttftMs, loadMs });
}
const col = (key) => median(rows.map((row) => row[key])).toFixed(1);
console.log(
  `first token alone, ${rows.length} cold adapters of ${(many.loads.bytes / many.loads.count / 2 ** 20).toFixed(1)} MiB: cold ${col('cold')} ms, warm ${col('warm')} ms, load ${col('loadMs')} ms, ` +
    `cold - warm - load: median ${col('over')} ms, most ${Math.max(...rows.map(({ over }) => over)).toFixed(1)} ms`,
);
await few.engine.close({ graceMs: 0 });
await many.engine.close({ graceMs: 0 });
