// By how much the logits of one sequence differ when it runs in other company, in other chunks, behind a reused beginning,
// with other threads or on another form of the graph, each compared with the run alone; and how often two tokens are that
// near to each other. Prints Markdown. Run: npm run build && node bench/numerics.mjs --help
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { importBackbone } from '../dist/backbone/import.js';
import { openText } from '../dist/backbone/text/open.js';
import { difference, margins, RecordingSampler } from '../dist/bench/numerics.js';
import { createInlineEngine } from '../dist/engine/loop.js';
import { createOnnxRunner } from '../dist/engine/runner/onnx-runner.js';
import { packAdapter } from '../dist/engine/runner/pack.js';
import { systemClock } from '../dist/kernel/clock.js';
import { readAdapters } from '../dist/replay/model.js';
import { PAGE_RANK } from '../dist/serving/layout.js';
import { packedGraphs } from '../dist/serving/packed-graphs.js';
import { multipliesBytesExactly } from '../dist/serving/processor.js';
import { readFlags } from './kit.mjs';

const given = readFlags({
  backbone: 'starter/backbone',
  adapters: 'starter/adapters',
  eval: 'starter/eval',
  cases: '12',
  output: '24',
  widths: '32,8,4',
});
const exactBytes = await multipliesBytesExactly(process.arch);
const tasks = (await readdir(given.adapters)).sort();
const lines = new Map();
for (const task of tasks) {
  const text = await readFile(join(given.eval, `${task}.jsonl`), 'utf8');
  lines.set(
    task,
    text
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line).prompt),
  );
}

/** Each task with its adapter, the plain backbone, and a blend with the adapter of the next task; some prompts are long. */
function requestsOf(text, digests) {
  const requests = [];
  for (const [number, task] of tasks.entries()) {
    const own = digests[number];
    const next = digests[(number + 1) % tasks.length];
    for (let index = 0; index < Number(given.cases); index++) {
      const all = lines.get(task);
      const prompt = index % 3 === 2 ? all.slice(index, index + 5).join(' ') : all[index];
      const uses = [
        [{ digest: own, weight: 1 }],
        [],
        [
          { digest: own, weight: 0.75 },
          { digest: next, weight: -0.5 },
        ],
        [{ digest: own, weight: 1 }],
      ][index % 4];
      requests.push({
        id: `r${requests.length}`,
        tenantId: 'bench',
        promptIds: text.encodePrompt(prompt),
        adapters: uses.toSorted((a, b) => (a.digest < b.digest ? -1 : 1)),
        sampling: { temperature: 0, topP: 1, topK: 0, minP: 0, repetitionPenalty: 1, seed: requests.length },
        stop: { maxTokens: Number(given.output), strings: [], tokenIds: [], ignoreEos: true },
        priority: 'STANDARD',
        topLogprobs: 1,
      });
    }
  }
  return requests;
}

async function measure(bits) {
  const root = await mkdtemp(join(tmpdir(), 'patchbay-numerics-'));
  const { dir, manifest } = await importBackbone({ dir: given.backbone, root, bits });
  const { shape, digest: backboneDigest } = manifest;
  const folders = tasks.map((task) => join(given.adapters, task));
  const adapters = await readAdapters(folders, shape, backboneDigest);
  const packed = new Map(adapters.map((one) => [one.digest, packAdapter(one, shape, PAGE_RANK)]));
  const requests = requestsOf(
    openText(dir, manifest),
    adapters.map(({ digest }) => digest),
  );

  async function run({ threads = 0, forms = true, together = false, warm = false, ...options }, answers) {
    const session = { intraOpThreads: threads, exactBytes, executionProviders: ['cpu'] };
    const { general, single } = await packedGraphs(dir, session);
    const runner = await createOnnxRunner(
      {
        ...session,
        graphs: forms ? { general, single } : { general },
        shape,
        maxContext: shape.maxPositions,
        kvBudgetBytes: 2 ** 40,
        pageRank: PAGE_RANK,
        bankPages: 256,
      },
      { clock: systemClock },
    );
    const sampler = new RecordingSampler(shape.vocabSize, answers);
    const engine = createInlineEngine(
      { maxBatch: 16, maxQueue: 10_000, maxWaitPercent: 0, ...options },
      {
        runner,
        sampler,
        loader: { load: async (digest) => packed.get(digest), close: async () => {} },
        decoderFactory: () => ({ push: () => '', end: () => '' }),
        clock: systemClock,
        backboneDigest,
        eosTokenIds: [],
      },
    );
    const tokens = new Map();
    const one = (request) =>
      new Promise((done, failed) => {
        const mine = [];
        const onEvent = (event) => {
          if (event.kind === 'tokens') mine.push(...event.tokens.map(({ id }) => id));
          else if (event.reason === 'length') done(tokens.set(request.sampling.seed, mine));
          else failed(new Error(`${request.id} ended with ${event.reason}`));
        };
        engine.submit(request, onEvent).catch(failed);
      });
    if (warm) {
      for (const request of requests) await one({ ...request, id: `warm-${request.id}` });
      sampler.rows.clear();
    }
    if (together) await Promise.all(requests.map(one));
    else for (const request of requests) await one(request);
    const { prefixes } = await engine.status();
    await engine.close({ graceMs: 0 });
    return { rows: sampler.rows, tokens, hits: prefixes.hits };
  }

  const base = await run({});
  const variants = {
    'the same again': {},
    'one thread': { threads: 1 },
    'two threads': { threads: 2 },
    'three threads': { threads: 3 },
    'prompts in chunks of 16': { prefillTokensPerStep: 16 },
    'prompts in chunks of 5': { prefillTokensPerStep: 5 },
    'the general graph alone': { forms: false },
    'beginnings reused': { prefixBytes: 2 ** 28, prefixBlockTokens: 8, warm: true },
    '16 in a batch': { together: true },
    'all of it': {
      together: true,
      warm: true,
      threads: 1,
      forms: false,
      prefillTokensPerStep: 37,
      prefixBytes: 2 ** 28,
      prefixBlockTokens: 8,
    },
  };
  const table = [];
  for (const [name, options] of Object.entries(variants)) {
    const other = await run(options, base.tokens);
    table.push([name, difference(base.rows, other.rows), other.hits]);
    console.error(bits, name, JSON.stringify(table.at(-1)));
  }
  await rm(root, { recursive: true, force: true });
  return { table, margins: margins(base.rows.values()) };
}

const scientific = (value) => (value === 0 ? '0' : value.toExponential(1));
for (const bits of given.widths.split(',').map(Number)) {
  const { table, margins: sorted } = await measure(bits);
  const below = (limit) => sorted.filter((margin) => margin < limit).length;
  console.log(
    `\n| ${bits} bits, ${sorted.length} positions | equal bit by bit | largest difference | another best token | which is behind by at most |`,
  );
  console.log('| --- | ---: | ---: | ---: | ---: |');
  for (const [name, { positions, same, largest, otherBest, furthestBehind }] of table) {
    console.log(
      `| ${name} | ${((100 * same) / positions).toFixed(1)} % | ${scientific(largest)} | ${otherBest} | ${scientific(furthestBehind)} |`,
    );
  }
  const shares = [1e-4, 1e-3, 1e-2, 0.1, 0.5].map((limit) => `${below(limit)} below ${limit}`);
  console.log(
    `\nMargins of the best token: ${shares.join(', ')}; the smallest is ${scientific(sorted[0] ?? 0)}.`,
  );
}
