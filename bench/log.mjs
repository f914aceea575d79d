// How fast the transparency log grows and proves, in an embedded Postgres that is durable as by default: leaves are loaded in
// bulk, then processes put up more and the log takes them in at the same time, then heads and leaves at random are proven, one
// proof after another. Every proof is checked. Run:
//   npm run build && npm run bench:log [-- --leaves 1000000 --seconds 20 --writers 2 --proofs 2000]
import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { cpus, loadavg, tmpdir, totalmem } from 'node:os';
import { join } from 'node:path';
import { SigningKey } from 'ethers/crypto';
import { computeAddress } from 'ethers/transaction';
import pg from 'pg';
import { startEmbeddedPostgres } from '../dist/db/embedded.js';
import { openDatabase } from '../dist/db/open.js';
import { systemClock } from '../dist/kernel/clock.js';
import { newId } from '../dist/kernel/ids.js';
import { logIdOf, treeHeadDigest } from '../dist/proofs/log/digest.js';
import { openLog } from '../dist/proofs/log/open.js';
import { extend, rootOfEdge } from '../dist/proofs/log/tiles.js';
import { leafHash } from '../dist/proofs/merkle/hash.js';
import { verifiesConsistency, verifiesInclusion } from '../dist/proofs/merkle/verify.js';
import { readFlags } from './kit.mjs';

const LEAVES_PER_SECOND_WANTED = 10_000;
const PROOF_MS_WANTED = 5;
/** Leaves that are put up in one transaction, as many as a round of metering under load has. */
const ROUND = 250;
/** Leaves that are loaded under one head. */
const CHUNK = 250_000;
const PREFIX = '0192f000-0000-7000-8000-';

const flags = readFlags({ leaves: '1000000', seconds: '20', writers: '2', proofs: '2000' });
const leaves = Number(flags.leaves);
const say = (line) => console.error(line);

const dataDir = await mkdtemp(join(tmpdir(), 'patchbay-log-'));
await chmod(dataDir, 0o755);
const server = await startEmbeddedPostgres({ dataDir });
const secret = 'a-secret-of-thirty-two-characters-for-bench';
const { database } = await openDatabase({ adminUrl: server.adminUrl, secret });
const admin = new pg.Client({ connectionString: server.adminUrl });
await admin.connect();

const key = new SigningKey(`0x${'11'.repeat(32)}`);
const signer = { address: computeAddress(key), sign: async (digest) => key.sign(digest).serialized };
const logId = logIdOf(`${PREFIX}0000000000ff`);
const { service, appender } = openLog({ logId }, { database, clock: systemClock, signer });

/** Writes the log as the appender would have left it, by fewer and larger statements. */
async function load() {
  const [hashIndex] = (
    await admin.query(`SELECT indexdef FROM pg_indexes WHERE indexname = 'log_leaf_leaf_hash_idx'`)
  ).rows;
  await admin.query('DROP INDEX log_leaf_leaf_hash_idx');
  let edge = [];
  for (let size = 0; size < leaves; ) {
    const next = Math.min(size + CHUNK, leaves);
    const { rows } = await admin.query(
      `WITH added AS (
         INSERT INTO log_leaf (position, entry_id, leaf_hash)
         SELECT n, ($3 || lpad(to_hex(n), 12, '0'))::uuid, sha256(int8send(n))
         FROM generate_series($1::bigint, $2::bigint - 1) n RETURNING position, leaf_hash)
       SELECT string_agg(leaf_hash, ''::bytea ORDER BY position) AS hashes FROM added`,
      [size, next, PREFIX],
    );
    const grown = extend(edge, size, rows[0].hashes);
    for (let at = 0; at < grown.tiles.length; at += 256) {
      const tiles = grown.tiles.slice(at, at + 256);
      await admin.query(
        `INSERT INTO log_tile (level, index, hashes, root)
         SELECT * FROM unnest($1::smallint[], $2::bigint[], $3::bytea[], $4::bytea[])`,
        ['level', 'index', 'hashes', 'root'].map((column) => tiles.map((tile) => tile[column])),
      );
    }
    [edge, size] = [grown.edge, next];
    const head = { root: rootOfEdge(edge), size, signedAtMs: systemClock.nowMs() };
    const signature = await signer.sign(treeHeadDigest(logId, head));
    await admin.query(
      'INSERT INTO log_head (size, root, signed_at, address, signature) VALUES ($1, $2, $3, $4, $5)',
      [size, head.root, new Date(head.signedAtMs).toISOString(), signer.address, signature],
    );
    say(`loaded ${size} leaves`);
  }
  await admin.query(hashIndex.indexdef);
  await admin.query('ANALYZE log_leaf, log_tile, log_head');
}

/** Leaves per second that are put up and taken in at once, until all are in the log. */
async function grow() {
  await admin.query('CHECKPOINT');
  const before = (await service.latest())?.size ?? 0;
  const started = performance.now();
  const ends = started + Number(flags.seconds) * 1_000;
  let writing = true;
  const write = async () => {
    while (performance.now() < ends) {
      const entries = Array.from({ length: ROUND }, () => newId(systemClock));
      const leaves = entries.map((entryId) => Buffer.from(leafHash(Buffer.from(entryId))));
      await database.queryReserved(
        'INSERT INTO log_queue (entry_id, leaf_hash) SELECT * FROM unnest($1::uuid[], $2::bytea[])',
        [entries, leaves],
        'queue',
      );
    }
  };
  let [inRuns, busyMs] = [0, 0];
  const append = async () => {
    for (;;) {
      const isLast = !writing;
      const from = performance.now();
      const heads = await appender.run();
      if (heads.length > 0) {
        busyMs += performance.now() - from;
        inRuns += heads.length;
      } else if (isLast) return;
    }
  };
  const writers = Array.from({ length: Number(flags.writers) }, write);
  await Promise.all([
    append(),
    Promise.all(writers).then(() => {
      writing = false;
    }),
  ]);
  const seconds = (performance.now() - started) / 1_000;
  const added = (await service.latest()).size - before;
  return { added, seconds, heads: inRuns, msPerHead: busyMs / inRuns };
}

/** Milliseconds of one proof after another, sorted. */
async function prove(one) {
  const times = [];
  const rounds = Number(flags.proofs);
  for (let round = -Math.ceil(rounds / 10); round < rounds; round += 1) {
    const took = await one();
    if (round >= 0) times.push(took);
  }
  return times.sort((a, b) => a - b);
}

const at = (times, part) => times[Math.min(times.length - 1, Math.floor(times.length * part))];
const below = (most) => Math.floor(Math.random() * most);

async function sizesOfHeads() {
  const { rows } = await admin.query('SELECT size::float8 AS size FROM log_head ORDER BY size');
  return rows.map(({ size }) => size);
}

async function timed(work) {
  const from = performance.now();
  const result = await work();
  return { took: performance.now() - from, result };
}

const cpu = cpus();
say(`load average ${loadavg()[0].toFixed(1)} at the start`);
await load();
const grown = await grow();
say(`took in ${grown.added} leaves in ${grown.seconds.toFixed(1)} s`);
const sizes = await sizesOfHeads();
const latest = sizes.at(-1);
const inclusion = (refOf) =>
  prove(async () => {
    const ref = await refOf();
    const { took, result } = await timed(() => service.inclusion(ref, null));
    const { leaf, index, path, head } = result;
    if (!verifiesInclusion({ leaf, index, size: head.size, root: head.root, path })) {
      throw new Error('a proof does not verify');
    }
    return took;
  });
const proofs = {
  'inclusion, by index': await inclusion(() => ({ kind: 'index', index: below(latest) })),
  'inclusion, by leaf hash': await inclusion(async () => {
    const { rows } = await admin.query('SELECT leaf_hash FROM log_leaf WHERE position = $1', [below(latest)]);
    return { kind: 'hash', hash: rows[0].leaf_hash };
  }),
  'consistency of two heads': await prove(async () => {
    const [first, second] = [below(sizes.length), below(sizes.length)].sort((a, b) => a - b);
    const { took, result } = await timed(() => service.consistency(sizes[first], sizes[second]));
    const claim = {
      ...{ first: result.first.size, firstRoot: result.first.root },
      ...{ second: result.second.size, secondRoot: result.second.root, path: result.path },
    };
    if (!verifiesConsistency(claim)) throw new Error('a proof does not verify');
    return took;
  }),
};
const { rows: stored } = await admin.query(
  `SELECT pg_size_pretty(sum(pg_total_relation_size(c))) AS size
   FROM unnest(ARRAY['log_leaf', 'log_tile', 'log_head']::regclass[]) c`,
);
await admin.end();
await database.close();
await server.stop();
await rm(dataDir, { recursive: true, force: true });

const rate = grown.added / grown.seconds;
console.log(`node bench/log.mjs ${process.argv.slice(2).join(' ')}`.trim());
console.log(
  `${cpu.length} × ${cpu[0].model}, ${(totalmem() / 2 ** 30).toFixed(0)} GiB, Node ${process.version}, ` +
    `load average ${loadavg()[0].toFixed(1)} at the end`,
);
console.log(
  `\n${flags.writers} writers of ${ROUND} leaves a transaction beside ${leaves} leaves: ${grown.added} leaves put up and ` +
    `taken in within ${grown.seconds.toFixed(1)} s, ${rate.toFixed(0)} a second; ${grown.heads} heads, ` +
    `${grown.msPerHead.toFixed(0)} ms each. ${latest} leaves take ${stored[0].size}.\n`,
);
console.log('| proofs, ms | p50 | p95 | p99 | longest |\n| --- | ---: | ---: | ---: | ---: |');
for (const [name, times] of Object.entries(proofs)) {
  const figures = [0.5, 0.95, 0.99, 1].map((part) => at(times, part).toFixed(2));
  console.log(`| ${name} | ${figures.join(' | ')} |`);
}
console.log('');

const slowest = Math.max(...Object.values(proofs).map((times) => at(times, 0.95)));
const goals = [
  [
    `growth: ${rate.toFixed(0)} leaves/s (${LEAVES_PER_SECOND_WANTED} wanted)`,
    rate >= LEAVES_PER_SECOND_WANTED,
  ],
  [`proofs, p95: ${slowest.toFixed(2)} ms (${PROOF_MS_WANTED} wanted)`, slowest < PROOF_MS_WANTED],
];
for (const [what, isReached] of goals) console.log(`${isReached ? 'reached' : 'MISSED'}: ${what}`);
process.exit(goals.every(([, isReached]) => isReached) ? 0 : 1);
