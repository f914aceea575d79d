// One run of node-llama-cpp in a process of its own: reads a job from its first argument, prints a result as JSON.
// No text is involved: prompts are token ids and so are the answers.
import { getLlama, LlamaLogLevel } from 'node-llama-cpp';

/**
 * @typedef {object} PeerJob
 * @property {string} model path of the GGUF file
 * @property {(string | null)[]} loras adapter of every stream
 * @property {boolean} separate a context for every stream, because their adapters differ
 * @property {string[]} [lorasOfRequests] adapter of every request, where a stream's adapter changes; contexts are then
 *   opened for the adapters that are asked for, one each, and up to `contexts` of them kept
 * @property {number} [contexts]
 * @property {number[][]} prompts one for every request
 * @property {number} newTokens
 * @property {import('./settings.mjs').PeerSettings} settings
 * @property {'F16' | 'F32'} kvType
 * @property {boolean} keepTokens whether the answer holds the tokens, and the probability of the first of each
 */

/** @type {PeerJob} */
const job = JSON.parse(process.argv[2] ?? '');
const { settings, loras, prompts } = job;

const llama = await getLlama({
  gpu: false,
  build: 'never',
  skipDownload: true,
  // No splitting of threads among contexts: each gets what the settings say.
  maxThreads: 0,
  logLevel: LlamaLogLevel.error,
});
const model = await llama.loadModel({ modelPath: job.model, gpuLayers: 0 });

const longest = Math.max(...prompts.map((prompt) => prompt.length)) + job.newTokens;
const open = (sequences, lora) =>
  model.createContext({
    sequences,
    contextSize: longest,
    batchSize: settings.batchSize,
    threads: settings.threads,
    flashAttention: settings.flashAttention,
    experimentalKvCacheKeyType: job.kvType,
    experimentalKvCacheValueType: job.kvType,
    ignoreMemorySafetyChecks: true,
    ...(lora === null ? {} : { lora }),
  });

/** The sequences of all streams, in one context or in one each. */
async function openSequences() {
  if (!job.separate) {
    const context = await open(loras.length, loras[0] ?? null);
    return loras.map(() => context.getSequence());
  }
  const sequences = [];
  for (const lora of loras) sequences.push((await open(1, lora)).getSequence());
  return sequences;
}

/** Contexts of one sequence by adapter; the one that was idle for longest makes room for another adapter's. */
function contextPool(size) {
  const idle = [];
  let count = 0;
  const take = (lora) => {
    const at = idle.findIndex((one) => one.lora === lora);
    return at === -1 ? undefined : idle.splice(at, 1)[0];
  };
  return {
    async acquire(lora) {
      const known = take(lora);
      if (known !== undefined) return known;
      if (count >= size) await idle.shift()?.context.dispose();
      else count += 1;
      const context = await open(1, lora);
      return { lora, context, sequence: context.getSequence() };
    },
    release: (one) => idle.push(one),
  };
}

/** Greedy tokens of one request by the generator that the library recommends. */
async function evaluate(sequence, prompt, count) {
  const tokens = [];
  const timesMs = [];
  for await (const token of sequence.evaluate(prompt, { temperature: 0, yieldEogToken: true })) {
    tokens.push(token);
    timesMs.push(performance.now());
    if (tokens.length === count) break;
  }
  return { tokens, timesMs };
}

/** The same with a call for every token. */
async function controlled(sequence, prompt, count) {
  const tokens = [];
  let input = prompt;
  while (tokens.length < count) {
    const last = input.length - 1;
    const request = [
      ...input.slice(0, last),
      [input[last], { generateNext: { token: true, options: { temperature: 0 } } }],
    ];
    const output = await sequence.controlledEvaluate(request);
    input = [output[last].next.token];
    tokens.push(input[0]);
  }
  return { tokens };
}

/** Tokens with their probabilities at temperature 1 before any filter, for the check. */
async function withProbabilities(sequence, prompt, count) {
  const tokens = [];
  const logprobs = [];
  let input = prompt;
  while (tokens.length < count) {
    const last = input.length - 1;
    const generateNext = { probabilities: true, options: { temperature: 1, topK: 0, topP: 1, minP: 0 } };
    const output = await sequence.controlledEvaluate([
      ...input.slice(0, last),
      [input[last], { generateNext }],
    ]);
    const { probabilities } = output[last].next;
    const [token, probability] = probabilities.entries().next().value;
    input = [token];
    tokens.push(token);
    logprobs.push(Math.log(probability));
  }
  return { tokens, logprobs };
}

const generate = job.keepTokens ? withProbabilities : settings.api === 'controlled' ? controlled : evaluate;

/** Keeps every stream busy until all of `requests` are answered. */
async function drive(sequences, requests, count) {
  const answers = [];
  let next = 0;
  const stream = async (sequence) => {
    while (next < requests.length) {
      const number = next++;
      const sentMs = performance.now();
      await sequence.clearHistory();
      answers[number] = { ...(await generate(sequence, requests[number], count)), sentMs };
    }
  };
  await Promise.all(sequences.map(stream));
  return answers;
}

/** The same with adapters that change from request to request on as many streams. */
async function driveChanging(requests, count) {
  const answers = [];
  const pool = contextPool(job.contexts ?? loras.length);
  let next = 0;
  const stream = async () => {
    while (next < requests.length) {
      const number = next++;
      const sentMs = performance.now();
      const one = await pool.acquire(job.lorasOfRequests[number]);
      await one.sequence.clearHistory();
      answers[number] = { ...(await generate(one.sequence, requests[number], count)), sentMs };
      pool.release(one);
    }
  };
  await Promise.all(loras.map(stream));
  return answers;
}

const changing = job.lorasOfRequests !== undefined;
const sequences = changing ? [] : await openSequences();
const run = (requests, count) =>
  changing ? driveChanging(requests, count) : drive(sequences, requests, count);
if (!job.keepTokens) await run(prompts.slice(0, loras.length), Math.min(8, job.newTokens));
const started = performance.now();
const answers = await run(prompts, job.newTokens);
const elapsedMs = performance.now() - started;
const outputTokens = answers.reduce((sum, { tokens }) => sum + tokens.length, 0);
const result = {
  outputTokens,
  elapsedMs,
  tokensPerSecond: (outputTokens / elapsedMs) * 1000,
  rssBytes: process.memoryUsage.rss(),
  // When each request was sent and each of its tokens came; `evaluate` alone says so.
  times: answers.map(({ sentMs, timesMs }) => ({ sentMs, timesMs: timesMs ?? [] })),
  ...(job.keepTokens ? { answers } : {}),
};
// The library keeps handles open for a while; the answer is complete when it is written.
process.stdout.write(`${JSON.stringify(result)}\n`, () => process.exit(0));
