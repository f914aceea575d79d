// Whether rows of registered adapters cost anything: a real server on the embedded Postgres, whose demo tenant owns more
// and more adapters (rows that share the bytes of the starter's), asked for one token with adapters drawn at random.
// Run: npm run build && node bench/registered-rows.mjs [requests]
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connectDatabase, startServer } from './server.mjs';

const requests = Number(process.argv[2] ?? 300);
const dataDir = await mkdtemp(join(tmpdir(), 'patchbay-rows-'));
const { server, graphqlUrl, keys } = await startServer(dataDir);
const db = await connectDatabase(dataDir);

/** Registers adapters `row-…` up to a count, each with one version that is a copy of a starter adapter's. */
async function register(from, to) {
  await db.query(
    `WITH base AS (
       SELECT v.*, row_number() OVER (ORDER BY v.id) - 1 AS place, count(*) OVER () AS many
       FROM adapter_version v JOIN adapter a ON a.id = v.adapter_id
       WHERE v.state = 'READY' AND a.name NOT LIKE 'row-%'
     ), wanted AS (
       SELECT n, gen_random_uuid() AS adapter_id FROM generate_series($1::int, $2::int - 1) n
     ), adapters AS (
       INSERT INTO adapter (id, tenant_id, name, last_number, created_at)
       SELECT adapter_id, (SELECT tenant_id FROM base LIMIT 1), 'row-' || n, 1, now() FROM wanted
     )
     INSERT INTO adapter_version (id, tenant_id, adapter_id, number, backbone_id, state, config_sha256, tensors_sha256,
       digest, rank_max, module_count, targets, parameters, bytes, created_at, ready_at)
     SELECT gen_random_uuid(), b.tenant_id, w.adapter_id, 1, b.backbone_id, 'READY', b.config_sha256, b.tensors_sha256,
       b.digest, b.rank_max, b.module_count, b.targets, b.parameters, b.bytes, now(), now()
     FROM wanted w JOIN base b ON b.place = w.n % b.many`,
    [from, to],
  );
  await db.query('VACUUM ANALYZE adapter; ');
  await db.query('VACUUM ANALYZE adapter_version');
}

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

const generate = 'mutation ($input: InferInput!) { generate(input: $input) { userErrors { code message } } }';
async function measure(rows) {
  const times = [];
  for (let i = 0; i < requests; i++) {
    const input = {
      idempotencyKey: crypto.randomUUID(),
      adapters: [{ adapter: `row-${Math.floor(Math.random() * rows)}` }],
      promptIds: [5, 6, 7, 8],
      maxTokens: 1,
      ignoreEos: true,
    };
    const started = performance.now();
    const { generate: answer } = await ask(keys.demo.key, generate, { input });
    times.push(performance.now() - started);
    if (answer.userErrors.length > 0) throw new Error(JSON.stringify(answer.userErrors));
  }
  const { engine } = await ask(keys.operator.key, '{ engine { memory { resident } hostCache { used } } }');
  const sorted = times.toSorted((a, b) => a - b);
  const at = (share) => `${sorted[Math.floor((sorted.length - 1) * share)].toFixed(1)} ms`;
  const mib = (bytes) => `${(Number(bytes) / 2 ** 20).toFixed(0)} MiB`;
  console.log(
    `| ${rows} | ${at(0.5)} | ${at(0.9)} | ${mib(engine.memory.resident)} | ${mib(engine.hostCache.used)} |`,
  );
}

console.log('| registered | one token, median | 90 % | resident | host cache |');
console.log('| ---: | ---: | ---: | ---: | ---: |');
let registered = 0;
for (const rows of [100, 100, 1_000, 10_000, 100_000, 100_000]) {
  if (rows > registered) await register(registered, rows);
  registered = rows;
  await measure(rows);
}
await db.end();
server.kill('SIGTERM');
await once(server, 'exit');
await rm(dataDir, { recursive: true, force: true });
