// Whether the memory budget holds: a real server with little memory and more adapters than fit, offered four times what
// it can do. Every request must be answered or refused with a code, and the resident set must end near the budget.
// Run: npm run build && node bench/soak-memory.mjs [seconds] [memory] [registered]
import { once } from 'node:events';
import { mkdir, mkdtemp, rm, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { importOnce } from '../dist/backbone/imported.js';
import { syntheticCheckpoint } from '../dist/bench/synthetic.js';
import { syntheticStore } from '../dist/bench/synthetic-store.js';
import { prompts } from '../dist/bench/workload.js';
import { connectDatabase, startServer } from './server.mjs';

const seconds = Number(process.argv[2] ?? 100);
const memory = process.argv[3] ?? '1GB';
const registered = Number(process.argv[4] ?? 200);
const checkpoint = await syntheticCheckpoint('synthetic:30m');
const dataDir = await mkdtemp(join(tmpdir(), 'patchbay-soak-'));
const { manifest } = await importOnce({ dir: checkpoint, root: join(dataDir, 'backbones'), bits: 32 });
const { shape, digest: backboneDigest } = manifest;
const store = await syntheticStore({ shape, backboneDigest, ranks: new Array(registered).fill(16) });
await mkdir(join(dataDir, 'store'));
await symlink(join(store.root, 'adapters'), join(dataDir, 'store', 'adapters'));

const { server, graphqlUrl, keys } = await startServer(dataDir, {
  PATCHBAY_BACKBONE: checkpoint,
  PATCHBAY_MEMORY_BYTES: memory,
  PATCHBAY_MAX_CONTEXT: '512',
  PATCHBAY_MAX_ADAPTER_RANK: '16',
  PATCHBAY_MAX_QUEUE: '64',
  PATCHBAY_LOG_LEVEL: 'error',
});
const db = await connectDatabase(dataDir);
await db.query(
  `WITH wanted AS (
     SELECT digest, place - 1 AS place, gen_random_uuid() AS adapter_id
     FROM unnest($1::text[]) WITH ORDINALITY AS given(digest, place)
   ), owner AS (SELECT id FROM tenant WHERE slug = 'demo'
   ), adapters AS (
     INSERT INTO adapter (id, tenant_id, name, last_number, created_at)
     SELECT adapter_id, owner.id, 'soak-' || place, 1, now() FROM wanted, owner
   )
   INSERT INTO adapter_version (id, tenant_id, adapter_id, number, backbone_id, state, config_sha256, tensors_sha256,
     digest, rank_max, module_count, targets, parameters, bytes, created_at, ready_at)
   SELECT gen_random_uuid(), owner.id, adapter_id, 1, backbone.id, 'READY', wanted.digest, wanted.digest, wanted.digest, 16, 56,
     '{q_proj}', 1, 1, now(), now()
   FROM wanted, owner, backbone WHERE backbone.digest = $2`,
  [store.digests, backboneDigest],
);
await db.end();

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
    adapters: [{ adapter: `soak-${(number * 7919) % registered}` }],
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
