// How much slower a trivial GraphQL query is while the engine is fully loaded than while it is idle.
// Idle and loaded rounds alternate on one server; the figure is the median over rounds of the ratio of their p99.
// Run: npm run build && node bench/api-latency.mjs [rounds] [queries per round]
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createClient } from 'graphql-ws';
import WebSocket from 'ws';
import { startServer } from './server.mjs';

const rounds = Number(process.argv[2] ?? 5);
const queries = Number(process.argv[3] ?? 1000);
const streams = 16;

const dataDir = await mkdtemp(join(tmpdir(), 'patchbay-latency-'));
const { server, graphqlUrl, keys } = await startServer(dataDir);
const { demo } = keys;

const percentile = (values, share) => values.toSorted((a, b) => a - b)[Math.ceil(values.length * share) - 1];
const median = (values) => percentile(values, 0.5);

async function measure() {
  const times = [];
  for (let i = 0; i < queries; i++) {
    const started = performance.now();
    const response = await fetch(graphqlUrl, {
      method: 'POST',
      headers: { 'content-type': 'application/json', authorization: `Bearer ${demo.key}` },
      body: '{"query":"{ health { version } }"}',
    });
    await response.text();
    times.push(performance.now() - started);
  }
  return { p50: percentile(times, 0.5), p99: percentile(times, 0.99) };
}

const client = createClient({
  url: graphqlUrl.replace('http', 'ws'),
  webSocketImpl: WebSocket,
  connectionParams: { authorization: `Bearer ${demo.key}` },
});
const query =
  'subscription($input: InferInput!) { infer(input: $input) { ... on InferChunk { tokens { id } } } }';
let tokens = 0;

/** Keeps all streams busy until it is told to stop. */
function load() {
  let running = true;
  const one = async (slot) => {
    for (let n = 0; running; n++) {
      const input = {
        idempotencyKey: `latency-${slot}-${n}-${performance.now()}`,
        prompt: `Once upon a time ${slot}`,
        plainBackbone: true,
        maxTokens: 200,
        ignoreEos: true,
      };
      for await (const { data } of client.iterate({ query, variables: { input } })) {
        tokens += data?.infer.tokens?.length ?? 0;
        if (!running) break;
      }
    }
  };
  const done = Promise.all(Array.from({ length: streams }, (_, slot) => one(slot)));
  return async () => {
    running = false;
    await done;
  };
}

await measure();
const ratios = [];
for (let round = 0; round < rounds; round++) {
  const idle = await measure();
  const stop = load();
  const before = { tokens, at: performance.now() };
  const loaded = await measure();
  const rate = ((tokens - before.tokens) / (performance.now() - before.at)) * 1000;
  await stop();
  ratios.push(loaded.p99 / idle.p99);
  const show = ({ p50, p99 }) => `p50 ${p50.toFixed(2)} ms, p99 ${p99.toFixed(2)} ms`;
  console.log(`idle ${show(idle)}; under ${streams} streams (${rate.toFixed(0)} tokens/s) ${show(loaded)}`);
}
console.log(
  `p99 loaded / p99 idle: median ${median(ratios).toFixed(2)}, range ${Math.min(...ratios).toFixed(2)} to ${Math.max(...ratios).toFixed(2)}`,
);
await client.dispose();
server.kill('SIGTERM');
await once(server, 'exit');
await rm(dataDir, { recursive: true, force: true });
