// What the server adds to the engine: tokens per second through GraphQL subscriptions on one websocket, with metering on
// the embedded Postgres, against `patchbay bench engine` on the same shapes, alternating. The load generator shares the
// machine with the server, so the processor time of both is reported.
// Run: npm run build && node bench/graphql.mjs --help
import { once } from 'node:events';
import { rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createClient } from 'graphql-ws';
import WebSocket from 'ws';
import { prompts } from '../dist/bench/workload.js';
import { benchEngine, median, readFlags, spread } from './kit.mjs';
import { processorSeconds } from './processors.mjs';
import { startSyntheticServer } from './synthetic-server.mjs';

const given = readFlags({
  backbone: 'synthetic:30m',
  bits: '32',
  workload: 'distinct',
  streams: '16',
  requests: '64',
  prompt: '64',
  new: '64',
  rank: '16',
  rounds: '5',
});
const { backbone, bits, workload, rank } = given;
const [streams, requests, newTokens] = [given.streams, given.requests, given.new].map(Number);
const { server, graphqlUrl, keys, dataDir, shape } = await startSyntheticServer({
  backbone,
  bits: Number(bits),
  ranks: new Array(streams).fill(Number(rank)),
  settings: {},
});
const client = createClient({
  url: graphqlUrl.replace('http', 'ws'),
  webSocketImpl: WebSocket,
  connectionParams: { authorization: `Bearer ${keys.demo.key}` },
});
const query = `subscription ($input: InferInput!) {
  infer(input: $input) {
    ... on InferChunk { sequence text tokens { id logprob } }
    ... on InferFinished { finishReason usage { completionTokens } error { code } }
  }
}`;

function adapterOf(slot) {
  if (workload === 'none') return { plainBackbone: true };
  return { adapters: [{ adapter: `bench-${workload === 'identical' ? 0 : slot}` }] };
}

/** One subscription to its end; returns the tokens that came, which must be those that were metered. */
async function infer(slot, promptIds, maxTokens) {
  const input = {
    idempotencyKey: crypto.randomUUID(),
    ...adapterOf(slot),
    promptIds,
    maxTokens,
    ignoreEos: true,
  };
  let tokens = 0;
  let finished = null;
  for await (const { data, errors } of client.iterate({ query, variables: { input } })) {
    if (errors !== undefined) throw new Error(JSON.stringify(errors));
    tokens += data.infer.tokens?.length ?? 0;
    if (data.infer.finishReason !== undefined) finished = data.infer;
  }
  if (finished?.finishReason !== 'LENGTH' || finished.usage.completionTokens !== tokens) {
    throw new Error(`${tokens} tokens came, and the end says ${JSON.stringify(finished)}`);
  }
  return tokens;
}

/** Keeps all streams busy until every request has ended, as the engine's own bench does. */
async function drive(seed, count, maxTokens) {
  const promptOf = prompts(seed, Number(given.prompt), shape.vocabSize);
  const cpu = process.cpuUsage();
  const cpuOfServer = await processorSeconds(server.pid);
  const started = performance.now();
  let next = 0;
  let tokens = 0;
  const stream = async (slot) => {
    while (next < count) {
      const received = await infer(slot, promptOf(next++), maxTokens);
      tokens += received;
    }
  };
  await Promise.all(Array.from({ length: streams }, (_, slot) => stream(slot)));
  const seconds = (performance.now() - started) / 1000;
  const { user, system } = process.cpuUsage(cpu);
  const after = await processorSeconds(server.pid);
  const share = (part) => (after === null ? Number.NaN : (after[part] - cpuOfServer[part]) / seconds);
  return {
    rate: tokens / seconds,
    client: (user + system) / 1e6 / seconds,
    server: share('own'),
    postgres: share('under'),
  };
}

// The first requests load the adapters and allocate.
await drive(1_000, streams, 8);
const rounds = [];
const ownShape = { streams, requests, prompt: given.prompt, new: newTokens, rank };
async function engineRound() {
  return await benchEngine({ backbone, bits, workload, ...ownShape }, join(tmpdir(), 'patchbay-bench-data'));
}
for (let round = 0; round < Number(given.rounds); round++) {
  const pair = {};
  for (const side of round % 2 === 0 ? ['engine', 'graphql'] : ['graphql', 'engine']) {
    // Prompts of their own in every round, so that the server finds none of them among the beginnings it keeps.
    pair[side] = side === 'engine' ? await engineRound() : await drive(2_000 + round, requests, newTokens);
  }
  rounds.push({ engine: pair.engine.tokensPerSecond, ...pair.graphql });
  const { engine, rate, client: own, server: serving, postgres } = rounds.at(-1);
  console.error(
    `round ${round + 1}: engine ${engine.toFixed(0)}, GraphQL ${rate.toFixed(0)} tokens/s; processors busy: ` +
      `load generator ${own.toFixed(2)}, server ${serving.toFixed(2)}, Postgres ${postgres.toFixed(2)}`,
  );
}
const of = (key) => median(rounds.map((round) => round[key]));
console.log(
  `${backbone} ${bits}-bit, ${workload} adapters, ${streams} streams: GraphQL ÷ engine ` +
    `${spread(rounds.map(({ engine, rate }) => rate / engine))} (median and range of ${rounds.length} pairs); ` +
    `${of('rate').toFixed(0)} and ${of('engine').toFixed(0)} tokens/s`,
);
console.log(
  `Processors busy meanwhile: load generator ${of('client').toFixed(2)}, server ${of('server').toFixed(2)}, ` +
    `Postgres ${of('postgres').toFixed(2)}`,
);
await client.dispose();
server.kill('SIGTERM');
await once(server, 'exit');
await rm(dataDir, { recursive: true, force: true });
