// What diversity costs: measures, simulates, and writes docs/diversity.md with its plots and results.
// Run: npm run bench:diversity -- --help
import { execFileSync } from 'node:child_process';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { cpus, loadavg, totalmem } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { prepare } from '../bin/lib/steps.mjs';

const HELP = `npm run bench:diversity -- [options]

  --backbone NAME        synthetic:30m (default), synthetic:135m
  --quick                few points in one round, for a first look
  --full                 more points and rounds than the default; hours
  --rounds N             rounds over all points, 3 by default
  --render               make document and plots of the results that are there, without measuring
  --price-per-hour N     price of the machine, 0.10 by default; with --render too
  --cache MIB            host cache of adapters, 256 by default
  --seed N               1 by default
  --no-peer              leave node-llama-cpp out (it needs linux-x64 and is installed on first use)
  --out FOLDER           where diversity.md and diversity/ go, docs by default
`;
const here = (path) => fileURLToPath(new URL(path, import.meta.url));
const { values: flags } = parseArgs({
  allowNegative: true,
  options: {
    backbone: { type: 'string', default: 'synthetic:30m' },
    quick: { type: 'boolean', default: false },
    full: { type: 'boolean', default: false },
    rounds: { type: 'string' },
    render: { type: 'boolean', default: false },
    'price-per-hour': { type: 'string' },
    cache: { type: 'string', default: '256' },
    seed: { type: 'string', default: '1' },
    peer: { type: 'boolean', default: true },
    out: { type: 'string', default: here('../docs') },
    help: { type: 'boolean', default: false },
  },
});
if (flags.help) {
  process.stdout.write(HELP);
  process.exit(0);
}
const say = (text) => process.stderr.write(`${text}\n`);
const prepared = await prepare({ quiet: true });
if (prepared !== 0) process.exit(prepared);

const { planOf, roundOrder, ranksOf, storesOf } = await import('../dist/bench/diversity/plan.js');
const { resultsSchema } = await import('../dist/bench/diversity/schema.js');
const { render } = await import('../dist/bench/diversity/document.js');
const { simulationOf } = await import('../dist/bench/diversity/simulation.js');
const { syntheticBackbone } = await import('../dist/bench/store-engine.js');
const { syntheticStore } = await import('../dist/bench/synthetic-store.js');

const resultsPath = join(flags.out, 'diversity', 'results.json');
const price = Number(flags['price-per-hour'] ?? '0.10');

if (flags.render) {
  const known = resultsSchema.parse(JSON.parse(await readFile(resultsPath, 'utf8')));
  const priced = flags['price-per-hour'] === undefined ? known : { ...known, pricePerHour: price };
  await write(priced.simulation === null ? await simulated(priced) : priced);
} else {
  await write(await measure());
}

async function save(results) {
  await mkdir(dirname(resultsPath), { recursive: true });
  await writeFile(resultsPath, `${JSON.stringify(results, null, 1)}\n`);
}

async function write(results) {
  await save(results);
  for (const [path, content] of render(results)) await writeFile(join(flags.out, path), content);
  say(`Wrote ${join(flags.out, 'diversity.md')}.`);
}

async function measure() {
  const startedAt = new Date();
  const [loadAverage = 0] = loadavg();
  if (loadAverage > 0.7)
    say(`The load average is ${loadAverage.toFixed(1)}: a busy machine distorts everything.`);
  const size = flags.full ? 'full' : flags.quick ? 'quick' : 'default';
  const planned = planOf(size, { peer: flags.peer });
  const plan = { ...planned, rounds: Number(flags.rounds ?? planned.rounds) };
  const peer = flags.peer ? await openPeer() : null;
  const backbone = await syntheticBackbone(flags.backbone);
  const load = {
    backbone: flags.backbone,
    promptTokens: 64,
    newTokens: 64,
    cacheBytes: Number(flags.cache) * 2 ** 20,
    seed: Number(flags.seed),
    rounds: plan.rounds,
  };
  const { shape, digest: backboneDigest } = backbone.manifest;
  for (const spec of storesOf(plan.points).values()) {
    const onProgress = (done, total) =>
      done % 500 === 0 && say(`Adapter ${done} of ${total} of ranks ${spec.ranks}`);
    await syntheticStore({ shape, backboneDigest, ranks: ranksOf(spec), onProgress });
  }
  const samples = [];
  for (let round = 1; round <= plan.rounds; round++) {
    for (const spec of roundOrder(plan.points, round)) {
      const job = { spec, round, load };
      const sample = spec.system === 'peer' ? await peer.measure(job) : measureInChild(job);
      samples.push(sample);
      say(
        `round ${round}: ${spec.system}, ${spec.adapters} adapters, ${spec.law}, ranks ${spec.ranks}, ${spec.streams} streams, ` +
          `${spec.priorities} priority: ${sample.tokensPerSecond.toFixed(0)} tokens/s`,
      );
    }
  }
  const [processor] = cpus();
  const measured = {
    format: 1,
    size,
    command: [
      'npm run bench:diversity',
      ...(process.argv.length > 2 ? ['--', ...process.argv.slice(2)] : []),
    ].join(' '),
    commit: execFileSync('git', ['describe', '--always', '--dirty'], {
      cwd: here('.'),
      encoding: 'utf8',
    }).trim(),
    startedAt: startedAt.toISOString().slice(0, 16).replace('T', ' '),
    minutes: (Date.now() - startedAt.getTime()) / 60_000,
    machine: {
      processor: processor?.model.trim() ?? 'unknown processor',
      cores: cpus().length,
      memoryBytes: totalmem(),
      node: process.versions.node,
      loadAverage,
    },
    peerVersion: peer?.version ?? null,
    load: { ...load, weightBytes: backbone.manifest.dataBytes },
    pricePerHour: price,
    samples,
    simulation: null,
  };
  // Saved before anything is made of it, so that --render can go on from here.
  await save(measured);
  return simulated(measured);
}

async function simulated(results) {
  const costs = JSON.parse(await readFile(here('sim-costs.json'), 'utf8'));
  const plan = planOf(results.size, { peer: false });
  return resultsSchema.parse({ ...results, simulation: simulationOf(results, costs, plan) });
}

function measureInChild(job) {
  const args = [here('diversity/point.mjs'), JSON.stringify(job)];
  const output = execFileSync(process.execPath, args, {
    encoding: 'utf8',
    maxBuffer: 2 ** 26,
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  return JSON.parse(output);
}

async function openPeer() {
  const { installPeer, peerVersion } = await import('./peers/install.mjs');
  installPeer(say);
  const { measurePeer } = await import('./diversity/peer.mjs');
  return { measure: measurePeer, version: peerVersion() };
}
