// Patchbay against node-llama-cpp on the same weights and shapes, taking turns, so that a machine whose speed changes
// changes both. Run: npm run build && npm run bench:peers -- --help
import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { loadavg, tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { installPeer, peerVersion } from './install.mjs';

const HELP = `npm run bench:peers -- [options]

  --backbone NAME     synthetic:30m (default), synthetic:135m or all
  --bits N            32 (default), 8 or all
  --workload NAME     none, identical, distinct or all (default)
  --rounds N          pairs of runs for each row, 3 by default
  --requests N        requests of a run on 16 streams, 48 by default
  --check             only check that both engines answer alike
  --no-check          do not check before timing
  --explore           time candidate settings of node-llama-cpp, and nothing else
  --json              machine-readable result on standard output instead of Markdown
`;

const here = fileURLToPath(new URL('.', import.meta.url));
const { values: flags } = parseArgs({
  allowNegative: true,
  options: {
    backbone: { type: 'string', default: 'synthetic:30m' },
    bits: { type: 'string', default: '32' },
    workload: { type: 'string', default: 'all' },
    rounds: { type: 'string', default: '3' },
    requests: { type: 'string', default: '48' },
    check: { type: 'boolean' },
    explore: { type: 'boolean', default: false },
    json: { type: 'boolean', default: false },
    help: { type: 'boolean', default: false },
  },
});

/** The values a flag stands for; `all` stands for every known one. */
function choice(flag, known) {
  const text = flags[flag];
  if (text === 'all') return known;
  const found = known.filter((value) => String(value) === text);
  if (found.length === 0) fail(`--${flag} must be one of ${known.join(', ')}, all; it is ${text}.`);
  return found;
}

function count(flag, least) {
  const value = Number(flags[flag]);
  if (!Number.isInteger(value) || value < least)
    fail(`--${flag} must be a whole number of at least ${least}.`);
  return value;
}

function fail(message) {
  process.stderr.write(`${message}\n`);
  process.exit(2);
}

const say = (text) => process.stderr.write(`${text}\n`);

if (flags.help) {
  process.stdout.write(HELP);
  process.exit(0);
}
const backbones = choice('backbone', ['synthetic:30m', 'synthetic:135m']);
const bitWidths = choice('bits', [32, 8]);
const workloads = choice('workload', ['none', 'identical', 'distinct']);
const rounds = count('rounds', 1);
const requests = count('requests', 16);
if (!existsSync(join(here, '../../dist/cli.js'))) fail('There is no dist/cli.js. Run npm run build first.');
installPeer(say);

const { adapterGguf, backboneGguf, checkpointOf } = await import('./convert.mjs');
const { adaptersOf, load, promptsOf, runPatchbay, runPeer } = await import('./engines.mjs');
const { bestSettings, candidateSettings } = await import('./settings.mjs');
const { byteBound, diversity, markdown, summarize } = await import('./table.mjs');
const { compareEngines } = await import('./check.mjs');

const cache = join(tmpdir(), 'patchbay-peers');
const dataDir = join(cache, 'data');

/** Everything of a job but the settings. */
async function peerJob(checkpoint, folder, bits, workload) {
  const slots = adaptersOf(workload);
  const loras = [];
  for (const slot of slots) {
    loras.push(slot === null ? null : await adapterGguf(checkpoint, load.rank, slot, folder));
  }
  return {
    model: await backboneGguf(checkpoint, bits === 32 ? 'F32' : 'Q8_0', folder),
    loras,
    separate: workload === 'distinct',
    prompts: promptsOf(checkpoint.shape, requests),
    newTokens: load.newTokens,
    kvType: 'F16',
    keepTokens: false,
  };
}

/** The fastest of `rounds` runs of each candidate: whatever else runs on the machine only ever slows one down. */
async function explore(job, label, workload) {
  const results = candidateSettings(workload).map((settings) => ({ settings, tokensPerSecond: 0 }));
  for (let round = 0; round < rounds; round++) {
    for (const result of results) {
      const { tokensPerSecond } = await runPeer({ ...job, settings: result.settings });
      result.tokensPerSecond = Math.max(result.tokensPerSecond, tokensPerSecond);
      say(`${label}: ${tokensPerSecond.toFixed(0)} tokens/s with ${JSON.stringify(result.settings)}`);
    }
  }
  results.sort((a, b) => b.tokensPerSecond - a.tokensPerSecond);
  return { label, results };
}

async function check(checkpoint, folder, backbone) {
  await mkdir(folder, { recursive: true });
  for (const { adapter, same, tokens, largest, ties } of await compareEngines(checkpoint, folder, dataDir)) {
    say(
      `${backbone} in F32, ${adapter ? 'one adapter' : 'no adapter'}: ${same} of ${tokens} greedy tokens are equal, ` +
        `${ties} prompts part at a near-tie; log probabilities differ by ${largest.toExponential(1)} at most.`,
    );
  }
}

// Threads of both engines spin while they wait, the peer's most, so another busy process distorts every ratio.
const [busy = 0] = loadavg();
if (busy > 0.7 && flags.check !== true) {
  say(`The load average is ${busy.toFixed(1)}: ratios of a machine that is busy say nothing.`);
}

const summaries = [];
const diversities = [];
const explored = [];
for (const backbone of backbones) {
  const checkpoint = await checkpointOf(backbone);
  const folder = join(cache, backbone.replace(':', '-'));
  if (flags.check === true || (flags.check === undefined && !flags.explore)) {
    await check(checkpoint, folder, backbone);
  }
  if (flags.check === true) continue;
  for (const bits of bitWidths) {
    const runs = workloads.map((workload) => ({ backbone, bits, workload, requests, pairs: [] }));
    // A round goes through all workloads, so that Patchbay's own columns are near one another in time too.
    for (let round = 0; round < (flags.explore ? 1 : rounds); round++) {
      for (const run of runs) {
        const label = `${backbone} ${bits}-bit ${run.workload}`;
        const job = await peerJob(checkpoint, folder, bits, run.workload);
        if (flags.explore) {
          explored.push(await explore(job, label, run.workload));
          continue;
        }
        const peer = await runPeer({ ...job, settings: bestSettings(run.workload) });
        const own = await runPatchbay(run, dataDir);
        run.pairs.push({ peer: peer.tokensPerSecond, patchbay: own.tokensPerSecond });
        say(
          `${label}, round ${round + 1}: node-llama-cpp ${peer.tokensPerSecond.toFixed(0)}, ` +
            `Patchbay ${own.tokensPerSecond.toFixed(0)} tokens/s`,
        );
      }
    }
    if (flags.explore) continue;
    summaries.push(...runs.map(summarize));
    const bound = byteBound(checkpoint.shape, bits, load.rank, load.streams);
    const own = diversity(runs, { backbone, bits }, bound);
    if (own !== null) diversities.push(own);
  }
}

if (flags.explore) {
  process.stdout.write(`${JSON.stringify(explored, null, flags.json ? 0 : 2)}\n`);
} else if (summaries.length > 0) {
  const commit = execFileSync('git', ['describe', '--always', '--dirty'], {
    cwd: here,
    encoding: 'utf8',
  }).trim();
  const command = ['npm run bench:peers --', ...process.argv.slice(2)].join(' ');
  const report = { summaries, diversities, command, peerVersion: peerVersion(), commit, loadBefore: busy };
  process.stdout.write(flags.json ? `${JSON.stringify(report)}\n` : `\n${markdown(report)}`);
}
