// Whether an export takes the same memory whatever its rows: writes usage rows into an embedded Postgres of its own, exports
// a tenth of them and then all, in every format, each in a process of its own with a heap of 256 MB, and prints rows per
// second and peak memory.
// Run: npm run build && node bench/export-memory.mjs [rows, 1000000]
import { fork } from 'node:child_process';
import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { startEmbeddedPostgres } from '../dist/db/embedded.js';
import { openDatabase } from '../dist/db/open.js';
import { SOURCES } from '../dist/exports/sources.js';
import { writeExport } from '../dist/exports/write.js';

const SECRET = 'bench-secret-of-32-characters-or-more';
const TENANT = '0192f000-0000-7000-8000-0000000000aa';
const FROM = new Date('2026-01-01T00:00:00Z');
const mib = (bytes) => Math.round(bytes / 2 ** 20);

if (process.argv[2] === 'child') await child(JSON.parse(process.argv[3]));
else await parent(Number(process.argv[2] ?? 1_000_000));

/** Exports so many rows and says how that went. */
async function child({ adminUrl, dir, format, rows }) {
  const { database } = await openDatabase({ adminUrl, secret: SECRET });
  const path = join(dir, `out.${format}`);
  const extract = {
    source: SOURCES.usage,
    reach: { kind: 'TENANT', tenantId: TENANT },
    from: FROM,
    until: new Date(FROM.getTime() + rows),
  };
  const before = process.memoryUsage().rss;
  let peak = before;
  const timer = setInterval(() => {
    peak = Math.max(peak, process.memoryUsage().rss);
  }, 20);
  const started = performance.now();
  const written = await writeExport(database, extract, {
    path,
    format,
    signal: new AbortController().signal,
    // As a server does, which keeps what an export is gone on with from.
    onCheckpoint: () => {},
    onProgress: () => {
      peak = Math.max(peak, process.memoryUsage().rss);
    },
  });
  clearInterval(timer);
  const seconds = (performance.now() - started) / 1_000;
  await database.close();
  process.send({ rows: Number(written.rows), bytes: Number(written.bytes), seconds, before, peak });
  process.disconnect();
}

async function parent(rows) {
  const dir = await mkdtemp(join(tmpdir(), 'patchbay-export-bench-'));
  // Postgres runs as another user when this runs as root.
  await chmod(dir, 0o755);
  const postgres = await startEmbeddedPostgres({ dataDir: dir });
  try {
    const { adminUrl } = postgres;
    await fill(adminUrl, rows);
    for (const format of ['csv', 'jsonl', 'parquet']) {
      for (const count of [rows / 10, rows]) {
        const done = await run({ adminUrl, dir, format, rows: count });
        console.log(
          `${format.padEnd(8)} ${String(done.rows).padStart(9)} rows  ${String(mib(done.bytes)).padStart(5)} MiB  ` +
            `${Math.round(done.rows / done.seconds)} rows/s  peak ${mib(done.peak)} MiB, grown by ${mib(done.peak - done.before)} MiB`,
        );
      }
    }
  } finally {
    await postgres.stop();
    await rm(dir, { recursive: true, force: true });
  }
}

function run(task) {
  return new Promise((resolve, reject) => {
    // As much as the server gives the thread of an export (src/exports/thread.ts).
    const execArgv = ['--max-old-space-size=256'];
    const exporting = fork(new URL(import.meta.url), ['child', JSON.stringify(task)], { execArgv });
    exporting.once('message', resolve);
    exporting.once('exit', (code) => reject(new Error(`the export ended with ${code}`)));
  });
}

/** One request a millisecond. */
async function fill(adminUrl, rows) {
  const { database } = await openDatabase({ adminUrl, secret: SECRET, statementTimeoutMs: 0 });
  await database.querySystem('INSERT INTO tenant (id, name, slug, created_at) VALUES ($1, $2, $2, now())', [
    TENANT,
    'bench',
  ]);
  const step = 100_000;
  for (let first = 0; first < rows; first += step) {
    await database.querySystem(
      `INSERT INTO usage_record (
         id, tenant_id, key_id, instance_id, backbone_digest, prompt_tokens, cached_prompt_tokens, completion_tokens,
         priority_class, queue_us, prefill_us, decode_us, compute_us, bytes_loaded, finish_reason, admitted_at,
         first_token_at, ended_at, settled_by, hold_id, prompt_commitment, output_commitment, amount_nano, currency)
       SELECT (left(patchbay.uuidv7_floor(at)::text, 14) || '7000-8000-' || substr(md5(i::text), 1, 12))::uuid, $1, $1,
              $1, sha256('b'), 100 + i % 900, i % 100, i % 500, 'STANDARD', i, i, i, i, 0, 'stop', at, at, at, 'engine',
              $1, sha256(i::text::bytea), sha256(i::text::bytea), 1000 + i, 'USD'
       FROM (SELECT i, $2::timestamptz + i * interval '1 millisecond' AS at FROM generate_series($3::bigint, $4::bigint) i) r`,
      [TENANT, FROM, first, Math.min(first + step, rows) - 1],
    );
  }
  await database.close();
}
