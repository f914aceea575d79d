// What proofs cost: processor time of requests that arrive at a pace, through the product's own inference, metering, pricing
// and Postgres, with receipts and without, alternating. The engine is one that answers at once, so that nothing hides the
// difference, which is then held against all processors. With --leaves, it also closes an epoch over so many receipts while
// requests go on at the pace, and tells how long that takes and how long a request then takes.
// Run: npm run build && npm run bench:proofs [-- --rate 8 --seconds 20 --rounds 3 --leaves 20000]
import { randomBytes, randomUUID } from 'node:crypto';
import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { cpus, loadavg, tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import pg from 'pg';
import { AccountBook } from '../dist/billing/account-book.js';
import { Pricer, recharge } from '../dist/billing/pricer.js';
import { startEmbeddedPostgres } from '../dist/db/embedded.js';
import { openDatabase } from '../dist/db/open.js';
import { INFERENCE_DEFAULTS, InferenceService } from '../dist/inference/service.js';
import { systemClock as clock } from '../dist/kernel/clock.js';
import { newId } from '../dist/kernel/ids.js';
import { LEDGER_DEFAULTS, LedgerService } from '../dist/ledger/service.js';
import { METERING_DEFAULTS, Metering } from '../dist/metering/metering.js';
import { pause } from '../dist/metering/periodic.js';
import { ensureDefaultPrice } from '../dist/pricing/default-price.js';
import { PriceResolver } from '../dist/pricing/resolver.js';
import { walletSigner } from '../dist/proofs/keys/wallet.js';
import { openProofs } from '../dist/proofs/open.js';
import { median, readFlags, spread } from './kit.mjs';
import { processorSeconds } from './processors.mjs';

const flags = readFlags({ warm: '45', rate: '8', seconds: '20', rounds: '3', new: '64', leaves: '0' });
const [warm, rate, seconds, rounds, newTokens] = [
  flags.warm,
  flags.rate,
  flags.seconds,
  flags.rounds,
  flags.new,
].map(Number);
const leaves = Number(flags.leaves);
const dataDir = await mkdtemp(join(tmpdir(), 'patchbay-proofs-'));
await chmod(dataDir, 0o755);
const server = await startEmbeddedPostgres({ dataDir });
const secret = 'a-secret-of-thirty-two-characters-for-bench';
const { database } = await openDatabase({ adminUrl: server.adminUrl, secret });
const admin = new pg.Client({ connectionString: server.adminUrl });
await admin.connect();

const backboneDigest = 'ab'.repeat(32);
const tenantId = newId(clock);
const version = {
  versionId: newId(clock),
  adapterId: newId(clock),
  ownerTenantId: tenantId,
  digest: 'cd'.repeat(32),
};
await admin.query(`INSERT INTO tenant (id, name, slug, created_at) VALUES ($1, 'bench', 'bench', now())`, [
  tenantId,
]);
const backboneId = randomUUID();
await admin.query(
  `INSERT INTO backbone (id, name, digest, family, shape, created_at) VALUES ($1, 'b', $2, 'llama', '{}', now())`,
  [backboneId, backboneDigest],
);
await admin.query(
  `INSERT INTO adapter (id, tenant_id, name, last_number, created_at) VALUES ($1, $2, 'bench', 1, now())`,
  [version.adapterId, tenantId],
);
await admin.query(
  `INSERT INTO adapter_version (id, tenant_id, adapter_id, number, backbone_id, state, config_sha256, tensors_sha256, digest,
     rank_max, module_count, targets, parameters, bytes, created_at, ready_at)
   VALUES ($1, $2, $3, 1, $4, 'READY', $5, $5, $5, 16, 1, '{q_proj}', 1, 1, now(), now())`,
  [version.versionId, tenantId, version.adapterId, backboneId, version.digest],
);
await ensureDefaultPrice({ database, clock }, { backboneDigest, currency: 'USD' });

/** Answers at once, as the adapters say that it should. */
const engine = {
  info: {
    backboneDigest,
    maxContext: 4_096,
    maxRank: 64,
    maxBlend: 4,
    eosTokenIds: [],
    shape: { vocabSize: 1_000 },
  },
  async submit(request, onEvent) {
    const tokens = Array.from({ length: request.stop.maxTokens }, (_, id) => ({ id, logprob: -1 }));
    const times = {
      queueMs: 1,
      prefillMs: 1,
      decodeMs: 1,
      computeMs: 1,
      bytesLoaded: 0,
      cachedPromptTokens: 0,
    };
    setImmediate(() => {
      onEvent({ kind: 'tokens', tokens, text: 'x', cachedPromptTokens: 0 });
      const counts = { promptTokens: request.promptIds.length, completionTokens: tokens.length };
      onEvent({
        kind: 'end',
        reason: 'length',
        text: '',
        usage: { ...counts, ...times, executed: request.adapters },
      });
    });
  },
  cancel() {},
};

const onError = (error) => {
  throw error;
};
const signer = walletSigner('11'.repeat(32));
const pace = { intervalMs: 0, leavesMax: 1_000_000 };
const proofs = await openProofs({ database, clock, signer, randomBytes, pause, onError }, pace);

/** A server's inside, with proofs or without. */
async function open(on) {
  const metering = new Metering(METERING_DEFAULTS, {
    database,
    clock,
    recharge,
    witness: on ? proofs.counters : null,
    onBackgroundError: (_task, error) => onError(error),
  });
  await metering.lease.ensure();
  const accounts = new AccountBook(new LedgerService(LEDGER_DEFAULTS, { database, clock }));
  const pricer = new Pricer({ resolver: new PriceResolver({ database, clock }), accounts, clock });
  const service = new InferenceService(
    { ...INFERENCE_DEFAULTS, maxBlendWeight: 16 },
    {
      engine,
      encoder: { tokenCharsMax: 2, encode: () => [], encodeChat: () => [] },
      adapters: { resolveForInference: async () => [{ ...version, weight: 1 }] },
      pricer,
      clock,
      randomBytes,
      recorder: metering.recorder,
      lease: metering.lease,
      receipts: on ? proofs.desk : null,
    },
  );
  return { metering, service };
}

const sides = { off: await open(false), on: await open(true) };
const caller = { tenantId, keyId: newId(clock), scopes: ['infer'] };

/** Sends requests at the pace; returns processor milliseconds of a request, of the program and of Postgres. */
async function drive(on, lasting) {
  const { service } = on ? sides.on : sides.off;
  const input = { promptIds: [1, 2, 3], adapters: [{ adapter: 'bench', weight: 1 }], maxTokens: newTokens };
  const before = await processorSeconds(process.pid);
  const started = performance.now();
  const count = Math.round(rate * lasting);
  const ends = [];
  for (let i = 0; i < count; i++) {
    await delay(Math.max(0, started + (i * 1_000) / rate - performance.now()));
    ends.push(service.generate(caller, { ...input, plainBackbone: false, idempotencyKey: randomUUID() }));
    // As a server does every five seconds.
    if (on && i % Math.max(1, Math.round(rate * 5)) === 0) await proofs.appender.run();
  }
  const last = (await Promise.all(ends)).at(-1);
  // Of the last one, because those before it are signed no later. All but a few clients ask later or not at all.
  if (((await last?.receipt?.()) != null) !== on) throw new Error('a receipt is missing, or there is one');
  if (on) await proofs.appender.run();
  const after = await processorSeconds(process.pid);
  if (before === null || after === null) throw new Error('There is no /proc here.');
  const each = (part) => ((after[part] - before[part]) * 1_000) / count;
  return { program: each('own'), postgres: each('under') };
}

/** Serves one request, and tells the milliseconds until its end. */
async function serve() {
  const input = { promptIds: [1, 2, 3], adapters: [{ adapter: 'bench', weight: 1 }], maxTokens: newTokens };
  const started = performance.now();
  const request = { ...input, plainBackbone: false, idempotencyKey: randomUUID() };
  await sides.on.service.generate(caller, request);
  return performance.now() - started;
}

/** Serves requests at the pace while something is done; how long each took, ascending. */
async function serveDuring(work) {
  let isDone = false;
  const done = work().finally(() => {
    isDone = true;
  });
  const started = performance.now();
  const taken = [];
  for (let i = 0; !isDone; i++) {
    await delay(Math.max(0, started + (i * 1_000) / rate - performance.now()));
    taken.push(serve());
  }
  await done;
  return (await Promise.all(taken)).toSorted((a, b) => a - b);
}

/** Closes an epoch over so many receipts, with requests at the pace. */
async function closeEpoch() {
  let left = leaves;
  const worker = async () => {
    while (left-- > 0) await serve();
  };
  await Promise.all(Array.from({ length: 128 }, worker));
  for (;;) {
    const { rows } = await admin.query('SELECT count(*)::integer AS waiting FROM receipt_pending');
    if (rows[0].waiting === 0) break;
    proofs.desk.wake();
    await delay(200);
  }
  await proofs.appender.run();
  const told = (taken) =>
    `p95 ${taken[Math.floor(taken.length * 0.95)].toFixed(0)} ms, longest ${taken.at(-1).toFixed(0)} ms of ${taken.length}`;
  const alone = await serveDuring(() => delay(seconds * 1_000));
  const started = performance.now();
  let closed = [];
  let took = 0;
  const meanwhile = await serveDuring(async () => {
    closed = await proofs.closer.run();
    took = performance.now() - started;
  });
  const size = closed.reduce((sum, epoch) => sum + epoch.size - epoch.firstSize, 0);
  console.log(
    `Closing ${closed.length} epoch(s) of ${size} leaves took ${(took / 1_000).toFixed(1)} s, load average ` +
      `${loadavg()[0].toFixed(1)}. Requests at ${rate}/s meanwhile: ${told(meanwhile)}; before: ${told(alone)}`,
  );
}

// Code that has run for less than a minute is slower than that of a server.
for (const on of [false, true]) await drive(on, warm);
const results = { off: [], on: [] };
for (let round = 0; round < rounds; round++) {
  for (const side of round % 2 === 0 ? ['off', 'on'] : ['on', 'off']) {
    const { program, postgres } = await drive(side === 'on', seconds);
    results[side].push(program + postgres);
    console.error(
      `round ${round + 1}, ${side}: ${program.toFixed(2)} ms program, ${postgres.toFixed(2)} ms Postgres`,
    );
  }
}
const pairs = results.on.map((on, round) => on - results.off[round]);
const cost = median(pairs);
const share = (cost * rate) / 10 / cpus().length;
console.log(
  `${rate} requests/s for ${seconds} s, ${rounds} rounds, ${cpus()[0].model}, ${cpus().length} processors, load average ` +
    `${loadavg()[0].toFixed(1)}.`,
);
console.log(
  `Processor time of a request: ${median(results.off).toFixed(2)} ms without proofs, ${median(results.on).toFixed(2)} ms with; ` +
    `the difference is ${spread(pairs)} ms, ${share.toFixed(2)} % of all processors (1 wanted)`,
);
if (leaves > 0) await closeEpoch();
await proofs.desk.close();
for (const { service, metering } of Object.values(sides)) {
  await service.drain({ graceMs: 0 });
  await metering.stop();
}
await admin.end();
await database.close();
await server.stop();
await rm(dataDir, { recursive: true, force: true });
process.exit(share <= 1 ? 0 : 1);
