// Runs either engine once, in a process of its own, on the same shapes.
import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { prompts } from '../../dist/bench/workload.js';

const STREAMS = 16;
const PROMPT_TOKENS = 64;
const RANK = 16;
const SEED = 1;
const at = (path) => fileURLToPath(new URL(path, import.meta.url));
export const PATCHBAY = at('../../dist/cli.js');

/** Shapes that both engines run. */
export const load = { streams: STREAMS, promptTokens: PROMPT_TOKENS, newTokens: 64, rank: RANK, seed: SEED };

/** Runs a program of Node and returns its standard output. */
export function runNode(args, env = {}) {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, args, {
      env: { ...process.env, ...env },
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    let output = '';
    child.stdout.on('data', (chunk) => {
      output += chunk;
    });
    child.once('error', reject);
    child.once('close', (code) => {
      if (code === 0) resolve(output);
      else reject(new Error(`${args.slice(0, 3).join(' ')} ended with code ${code}`));
    });
  });
}

/** Adapter numbers of the streams of a workload. */
export function adaptersOf(workload) {
  return Array.from({ length: STREAMS }, (_, slot) => {
    if (workload === 'none') return null;
    return workload === 'identical' ? 0 : slot;
  });
}

/** The prompts that `patchbay bench engine` sends, by request number. */
export function promptsOf(shape, requests) {
  const promptOf = prompts(SEED, PROMPT_TOKENS, shape.vocabSize);
  return Array.from({ length: requests }, (_, number) => [...promptOf(number)]);
}

/** One run of node-llama-cpp. */
export async function runPeer(job) {
  const args = [at('peer.mjs'), JSON.stringify(job)];
  return JSON.parse(await runNode(args, { UV_THREADPOOL_SIZE: String(job.settings.uvThreads) }));
}

/** Arguments of Patchbay's own benchmark, as a user would type them. */
export function benchArguments({ backbone, bits, workload, requests }) {
  return [
    ...['bench', 'engine', '--backbone', backbone, '--workload', workload, '--bits', String(bits)],
    ...['--streams', String(STREAMS), '--requests', String(requests), '--prompt', String(PROMPT_TOKENS)],
    ...['--new', String(load.newTokens), '--rank', String(RANK), '--seed', String(SEED), '--json'],
  ];
}

/** One run of Patchbay. */
export async function runPatchbay(config, dataDir) {
  const output = await runNode([PATCHBAY, ...benchArguments(config)], { PATCHBAY_DATA_DIR: dataDir });
  return JSON.parse(output.trim().split('\n').at(-1));
}
