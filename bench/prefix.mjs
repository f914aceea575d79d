// What reusing the beginnings of prompts is worth: a chat workload with one system prompt, with and without reuse,
// alternating; then prompts that share nothing, which shows what keeping them costs.
// Run: npm run build && node bench/prefix.mjs --help
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { importOnce } from '../dist/backbone/imported.js';
import { syntheticAdapter, syntheticCheckpoint } from '../dist/bench/synthetic.js';
import { prompts } from '../dist/bench/workload.js';
import { createInlineEngine } from '../dist/engine/loop.js';
import { packAdapter } from '../dist/engine/runner/pack.js';
import { systemClock } from '../dist/kernel/clock.js';
import { PAGE_RANK } from '../dist/serving/layout.js';
import { openRunner } from '../dist/serving/open-runner.js';

const flags = {
  backbone: 'synthetic:30m',
  streams: '16',
  requests: '64',
  rounds: '5',
  system: '256',
  user: '32',
  output: '32',
  adapters: '1',
  prefix: '256',
  seed: '1',
};
const options = Object.fromEntries(Object.keys(flags).map((name) => [name, { type: 'string' }]));
const { values } = parseArgs({ options: { ...options, help: { type: 'boolean' } } });
if (values.help) {
  const defaults = Object.entries(flags).map(([name, value]) => `--${name} ${value}`);
  console.log(`Flags with their defaults: ${defaults.join(' ')} (--prefix in MB, --adapters 0 is none)`);
  process.exit(0);
}
const given = { ...flags, ...values };
const number = (name) => Number(given[name]);

const dir = await syntheticCheckpoint(given.backbone);
const root = join(tmpdir(), 'patchbay-bench-backbones');
const backbone = await importOnce({ dir, root, bits: 32 });
const { shape, digest: backboneDigest } = backbone.manifest;

async function openEngine(prefixBytes) {
  const runner = await openRunner(
    backbone.dir,
    backbone.manifest,
    {
      maxContext: number('system') + number('user') + number('output'),
      kvBytes: 2 ** 30,
      bankBytes: 2 ** 30,
      intraOpThreads: 0,
      executionProviders: ['cpu'],
    },
    { clock: systemClock },
  );
  const loader = {
    load: async (digest) =>
      packAdapter(syntheticAdapter(shape, 16, Number(digest), digest), shape, PAGE_RANK),
    close: async () => {},
  };
  const limits = { maxBatch: number('streams'), maxQueue: 100_000, maxWaitPercent: 0 };
  return createInlineEngine(
    { ...limits, hostCacheBytes: 2 ** 30, prefixBytes },
    {
      runner,
      loader,
      decoderFactory: () => ({ push: () => '', end: () => '' }),
      clock: systemClock,
      backboneDigest,
      eosTokenIds: [],
      report: (error) => console.error(error),
    },
  );
}

let ids = 0;

function submit(engine, promptIds, adapter) {
  return new Promise((resolve, reject) => {
    const started = performance.now();
    let first = null;
    const request = {
      id: `r${ids++}`,
      tenantId: 'bench',
      promptIds,
      adapters: adapter === null ? [] : [{ digest: String(adapter), weight: 1 }],
      sampling: { temperature: 0, topP: 1, topK: 0, minP: 0, repetitionPenalty: 1, seed: 0 },
      stop: { maxTokens: number('output'), strings: [], tokenIds: [], ignoreEos: true },
      priority: 'STANDARD',
      topLogprobs: 0,
    };
    const onEvent = (event) => {
      first ??= performance.now() - started;
      if (event.kind !== 'end') return;
      if (event.reason === 'error') reject(new Error(event.error?.message));
      else resolve({ ttftMs: first, ...event.usage });
    };
    engine.submit(request, onEvent).catch(reject);
  });
}

/** Keeps all streams busy until every request has ended. */
async function play(engine, promptOf) {
  const ended = [];
  let next = 0;
  const started = performance.now();
  const stream = async (slot) => {
    while (next < number('requests')) {
      const adapter = number('adapters') === 0 ? null : slot % number('adapters');
      ended.push(await submit(engine, promptOf(next++), adapter));
    }
  };
  await Promise.all(Array.from({ length: number('streams') }, (_, slot) => stream(slot)));
  const seconds = (performance.now() - started) / 1000;
  const total = (key) => ended.reduce((sum, usage) => sum + usage[key], 0);
  const ttft = ended.map(({ ttftMs }) => ttftMs).toSorted((a, b) => a - b);
  return {
    rate: total('completionTokens') / seconds,
    ttft50: median(ttft),
    ttft95: ttft[Math.ceil(ttft.length * 0.95) - 1],
    cached: total('cachedPromptTokens') / total('promptTokens'),
  };
}

function median(list) {
  return list.toSorted((a, b) => a - b)[Math.floor((list.length - 1) / 2)] ?? 0;
}

async function compare(name, promptOf) {
  const rounds = [];
  for (let round = 0; round < number('rounds'); round++) {
    const pair = {};
    for (const side of round % 2 === 0 ? ['without', 'with'] : ['with', 'without']) {
      pair[side] = await play(engines[side], promptOf(round));
    }
    rounds.push(pair);
  }
  for (const side of ['without', 'with']) {
    const of = (key) => median(rounds.map((pair) => pair[side][key]));
    console.log(
      `${name}, ${side} reuse: first token ${of('ttft50').toFixed(0)} ms (p95 ${of('ttft95').toFixed(0)} ms), ` +
        `${of('rate').toFixed(0)} tokens/s, ${(of('cached') * 100).toFixed(1)} % of prompt tokens reused`,
    );
  }
  const ratio = (key) => median(rounds.map((pair) => pair.with[key] / pair.without[key])).toFixed(2);
  console.log(
    `${name}, with / without: first token ${ratio('ttft50')}, p95 ${ratio('ttft95')}, tokens/s ${ratio('rate')}`,
  );
}

console.log(
  `${given.backbone}, ${given.streams} streams, ${given.requests} requests a run, ${given.rounds} rounds, system prompt ` +
    `${given.system}, user ${given.user}, output ${given.output}, adapters ${given.adapters}, seed ${given.seed}`,
);
const engines = { without: await openEngine(0), with: await openEngine(number('prefix') * 2 ** 20) };
const length = number('system') + number('user');
// A prompt of its own for every request of every round, and one system prompt.
const own = (seed, tokens) => prompts(number('seed') * 1_000 + seed, tokens, shape.vocabSize);
const system = own(0, number('system'))(0);
const chat = (round) => (request) => [...system, ...own(1 + round, number('user'))(request)];
// The first runs allocate, load the adapters and keep the system prompt.
for (const engine of Object.values(engines)) await play(engine, chat(500));
await compare('one system prompt', chat);
await compare('nothing shared', (round) => own(600 + round, length));
for (const engine of Object.values(engines)) await engine.close({ graceMs: 0 });
