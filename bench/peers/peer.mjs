// One run of node-llama-cpp in a process of its own: reads a job from its first argument, prints a result as JSON.
// No text is involved: prompts are token ids and so are the answers.
import { getLlama, LlamaLogLevel } from 'node-llama-cpp';

/**
 * @typedef {object} PeerJob
 * @property {string} model path of the GGUF file
 * @property {(string | null)[]} loras adapter of every stream
 * @property {boolean} separate a context for every stream, because their adapters differ
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

/** The sequences of all streams, in one context or in one each. */
async function openSequences() {
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
  if (!job.separate) {
    const context = await open(loras.length, loras[0] ?? null);
    return loras.map(() => context.getSequence());
  }
  const sequences = [];
  for (const lora of loras) sequences.push((await open(1, lora)).getSequence());
  return sequences;
}

/** Greedy tokens of one request by the generator that the library recommends. */
async function evaluate(sequence, prompt, count) {
  const tokens = [];
  for await (const token of sequence.evaluate(prompt, { temperature: 0, yieldEogToken: true })) {
    tokens.push(token);
    if (tokens.length === count) break;
  }
  return { tokens };
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
      await sequence.clearHistory();
      answers[number] = await generate(sequence, requests[number], count);
    }
  };
  await Promise.all(sequences.map(stream));
  return answers;
}

const sequences = await openSequences();
if (!job.keepTokens) await drive(sequences, prompts.slice(0, sequences.length), Math.min(8, job.newTokens));
const started = performance.now();
const answers = await drive(sequences, prompts, job.newTokens);
const elapsedMs = performance.now() - started;
const outputTokens = answers.reduce((sum, { tokens }) => sum + tokens.length, 0);
const result = {
  outputTokens,
  elapsedMs,
  tokensPerSecond: (outputTokens / elapsedMs) * 1000,
  ...(job.keepTokens ? { answers } : {}),
};
// The library keeps handles open for a while; the answer is complete when it is written.
process.stdout.write(`${JSON.stringify(result)}\n`, () => process.exit(0));
