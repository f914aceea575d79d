// Whether the memory budget holds: a real server with little memory and more adapters than fit, offered four times what
// it can do. Every request must be answered or refused with a code, and the resident set must end near the budget.
// Run: npm run build && node bench/soak-memory.mjs [seconds] [memory] [registered]
import { once } from 'node:events';
import { rm } from 'node:fs/promises';
import { prompts } from '../dist/bench/workload.js';
import { startSyntheticServer } from './synthetic-server.mjs';

const seconds = Number(process.argv[2] ?? 100);
const memory = process.argv[3] ?? '1GB';
const registered = Number(process.argv[4] ?? 200);
const { server, graphqlUrl, keys, dataDir, shape } = await startSyntheticServer({
  backbone: 'synthetic:30m',
  bits: 32,
  ranks: new Array(registered).fill(16),
  settings: {
    PATCHBAY_MEMORY_BYTES: memory,
    PATCHBAY_MAX_CONTEXT: '512',
    PATCHBAY_MAX_ADAPTER_RANK: '16',
    PATCHBAY_MAX_QUEUE: '64',
    PATCHBAY_LOG_LEVEL: 'error',
  },
});

async function ask(key, query, variables) {
  const response = await fetch(graphqlUrl, {
    method: 'POST',
    headers: { 'content-type': 'application/json', authorization: `Bearer ${key}` },
    body: JSON.stringify({ query, variables }),
  });
  const answer = await response.json();
  if (answer.errors !== undefined) throw new Error(JSON.stringify(answer.errors));
  return answer.data;
}
async function memoryNow() {
  const query =
    '{ engine { memory { total resident parts { name bytes } } kvCache { used } hostCache { used } } }';
  return (await ask(keys.operator.key, query)).engine;
}

const generate =
  'mutation ($input: InferInput!) { generate(input: $input) { userErrors { code } generation { finishReason } } }';
const outcomes = new Map();
let sent = 0;
async function one() {
  const number = sent++;
  const input = {
    idempotencyKey: crypto.randomUUID(),
    adapters: [{ adapter: `bench-${(number * 7919) % registered}` }],
    promptIds: prompts(1, 64 + ((number * 31) % 320), shape.vocabSize)(number),
    maxTokens: 16 + ((number * 17) % 64),
    ignoreEos: true,
  };
  const outcome = await ask(keys.demo.key, generate, { input }).then(
    ({ generate: { userErrors, generation } }) => userErrors[0]?.code ?? generation.finishReason,
    (error) => `failed: ${error.message.slice(0, 200)}`,
  );
  outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1);
}

const capacityMs = Math.max(10_000, seconds * 150);
const until = performance.now() + capacityMs;
await Promise.all(
  Array.from({ length: 16 }, async () => {
    while (performance.now() < until) await one();
  }),
);
const perSecond = (sent / capacityMs) * 1000;
console.log(
  `closed loop: ${perSecond.toFixed(1)} requests/s; now ${(4 * perSecond).toFixed(1)}/s for ${seconds} s`,
);
const mib = (bytes) => Math.round(Number(bytes) / 2 ** 20);
const running = [];
const started = performance.now();
let nextReport = 0;
let peak = 0;
for (let due = 0; performance.now() - started < seconds * 1000; due += 250 / perSecond) {
  await new Promise((resolve) => setTimeout(resolve, Math.max(0, started + due - performance.now())));
  running.push(one());
  if (performance.now() - started < nextReport) continue;
  nextReport += seconds * 100;
  const now = await memoryNow();
  peak = Math.max(peak, Number(now.memory.resident));
  console.log(
    `${Math.round((performance.now() - started) / 1000)} s: resident ${mib(now.memory.resident)} MiB, cache ${mib(now.hostCache.used)}, keys and values ${mib(now.kvCache.used)}`,
  );
}
const end = await memoryNow();
await Promise.all(running);
console.log(end.memory.parts.map(({ name, bytes }) => `${name} ${mib(bytes)}`).join(', '));
console.log(
  `at the end of the overload: resident ${mib(end.memory.resident)} MiB, highest seen ${mib(peak)}, budget ${mib(end.memory.total)} MiB: ` +
    `${((Number(end.memory.resident) / Number(end.memory.total)) * 100).toFixed(1)} %`,
);
console.log(`${sent} requests: ${[...outcomes].map(([name, count]) => `${name} ${count}`).join(', ')}`);
server.kill('SIGTERM');
await once(server, 'exit');
await rm(dataDir, { recursive: true, force: true });
