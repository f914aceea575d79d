// Runs either engine once, in a process of its own, on the same shapes.
import { fileURLToPath } from 'node:url';
import { prompts } from '../../dist/bench/workload.js';
import { benchEngine, runNode } from '../kit.mjs';

const STREAMS = 16;
const PROMPT_TOKENS = 64;
const RANK = 16;
const SEED = 1;
const at = (path) => fileURLToPath(new URL(path, import.meta.url));

/** Shapes that both engines run. */
export const load = { streams: STREAMS, promptTokens: PROMPT_TOKENS, newTokens: 64, rank: RANK, seed: SEED };

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

/** One run of Patchbay. */
export function runPatchbay({ backbone, bits, workload, requests }, dataDir) {
  const shape = { prompt: PROMPT_TOKENS, new: load.newTokens, rank: RANK, seed: SEED };
  return benchEngine({ backbone, workload, bits, streams: STREAMS, requests, ...shape }, dataDir);
}
