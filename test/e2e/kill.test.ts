import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { z } from 'zod';
import { pushAdapter } from '../../src/adapter/push.ts';
import { hashIdempotencyKey } from '../../src/inference/input.ts';
import { outputCommitment } from '../../src/metering/commitment.ts';
import { reconcile as reconcileMoney } from '../../src/reconciliation/reconcile.ts';
import { findRollupDifferences } from '../../src/usage/consistency.ts';
import { MIN_MARGIN } from '../golden/kit.ts';
import { createTestDatabase, type TestDatabase } from '../kit/postgres.ts';
import { waitFor } from '../kit/wait.ts';
import { referenceGreedy } from '../reference/generate.ts';
import { loadModel } from '../reference/model.ts';
import { loadAdapter } from '../reference/peft.ts';
import { graphql, openSocket } from './client.ts';
import { type RunningServer, startServer } from './server.ts';

/** Kills in one run of the test; the soak sets more. */
const KILLS = Number(process.env['PATCHBAY_SOAK_KILLS'] ?? 5);
const SEED = Number(process.env['PATCHBAY_SOAK_SEED'] ?? Date.now() % 1_000_000);
/** Requests of a round: the first waits for its whole answer, the next three stream on adapters, the rest without. */
const STREAMS = 6;
const ON_ADAPTERS = [1, 2, 3];
const LANES = 2;
/** Streams that are checked at the same time afterwards. */
const VERIFIERS = 12;
const MAX_TOKENS = 160;
/** Few enough that about half of the whole answers are complete before the kill. */
const MAX_TOKENS_WHOLE = 24;
/** Tokens that were committed and not delivered in 95 of 100 streams, at most. */
const UNDELIVERED_P95_MAX = 8;
// Long enough that a process on a busy machine is not taken for dead while it lives.
const LEASE_MS = 4_000;
const BACKBONE = fileURLToPath(new URL('../fixtures/golden/llama-tied', import.meta.url));
const ADAPTERS = ['all_r8', 'qv_r3'] as const;
const reference = loadModel(BACKBONE);
const folderOf = (adapter: string): string => join(BACKBONE, 'adapters', adapter);
const references = new Map<string, ReturnType<typeof loadAdapter>>(
  ADAPTERS.map((adapter) => [adapter, loadAdapter(folderOf(adapter))]),
);

/** An adapter of a request, and the share of it that its owner must be recorded with. */
interface Use {
  readonly adapter: (typeof ADAPTERS)[number];
  readonly weight: number;
  readonly share: readonly [numerator: string, denominator: string];
}

const ONE: readonly Use[] = [{ adapter: 'all_r8', weight: 1, share: ['1', '1'] }];
const BLEND: readonly Use[] = [
  { adapter: 'all_r8', weight: 1, share: ['2', '3'] },
  { adapter: 'qv_r3', weight: -0.5, share: ['1', '3'] },
];

/** What one request's client knows. */
interface Stream {
  readonly idempotencyKey: string;
  readonly promptIds: readonly number[];
  readonly uses: readonly Use[];
  readonly maxTokens: number;
  /** Whether the client waits for the whole answer. */
  readonly whole: boolean;
  requestId: string | null;
  readonly tokens: number[];
  finished: { readonly replayed: boolean; readonly completionTokens: number } | null;
}

interface RecordRow {
  readonly id: string;
  readonly completion_tokens: number;
  readonly prompt_tokens: number;
  readonly output_commitment: Buffer;
  readonly salt: Buffer;
}

interface ShareRow {
  readonly request_id: string;
  readonly digest: string;
  readonly share_numerator: string;
  readonly share_denominator: string;
  readonly completion_tokens: number;
}

/** Everything that the database knows of a request. */
interface Facts {
  readonly record: RecordRow;
  readonly shares: readonly ShareRow[];
  /** Token counts whose delivery was committed, other than by the record, in their order. */
  readonly commits: readonly number[];
}

/**
 * Writes down what the protocol's tables forget: every request that was ever admitted, and every commit of progress.
 * It happens in the transactions of the servers, so it is exactly what they committed.
 */
const OBSERVE = `
CREATE SCHEMA observed;
CREATE TABLE observed.admission (id uuid PRIMARY KEY, key_hash bytea NOT NULL);
CREATE TABLE observed.progress (request_id uuid NOT NULL, completion_tokens integer NOT NULL);
CREATE FUNCTION observed.admit() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS
  'BEGIN INSERT INTO observed.admission VALUES (new.id, new.idempotency_key_hash); RETURN NULL; END';
CREATE FUNCTION observed.advance() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS
  'BEGIN INSERT INTO observed.progress VALUES (new.request_id, new.completion_tokens); RETURN NULL; END';
CREATE TRIGGER observe AFTER INSERT ON inference_request FOR EACH ROW EXECUTE FUNCTION observed.admit();
CREATE TRIGGER observe AFTER UPDATE ON request_progress FOR EACH ROW EXECUTE FUNCTION observed.advance()`;

/** From now on requests cost something, one adapter's owner earns by it, and the demo tenant may owe as much as it takes. */
const CHARGE = `
INSERT INTO price_version (
  id, tenant_id, backbone_digest, currency, input_nano_per_million, cached_input_nano_per_million,
  output_nano_per_million, rank_nano_per_million, interactive_ppm, standard_ppm, batch_ppm, platform_fee_ppm,
  effective_from, created_at)
SELECT gen_random_uuid(), tenant_id, backbone_digest, currency, 3000000, 1000000, 7000000, 1000, 1000000, 1000000,
       1000000, 150000, date_trunc('milliseconds', now()) + interval '1 ms', now()
FROM price_version;
INSERT INTO royalty_version (id, tenant_id, adapter_id, kind, share_ppm, effective_from, created_at)
SELECT gen_random_uuid(), tenant_id, id, 'SHARE', 333333, date_trunc('milliseconds', now()) + interval '1 ms', now()
FROM adapter WHERE name = 'all_r8';
SELECT patchbay.ledger_set_limit(
  gen_random_uuid(), patchbay.ledger_open_account(gen_random_uuid(), id, 'CUSTOMER', 'USD', now()), 1000000000000, 'kill',
  now())
FROM tenant WHERE slug = 'demo'`;

let database: TestDatabase;
let dataDir: string;
/** Content digests by adapter. */
const digests = new Map<string, string | null>();

beforeAll(async () => {
  database = await createTestDatabase();
  dataDir = await mkdtemp(join(tmpdir(), 'patchbay-kill-'));
  await database.admin(OBSERVE);
  const server = await start();
  for (const name of ADAPTERS) {
    const push = { dir: folderOf(name), name, url: server.graphqlUrl, key: server.demoKey, wait: true };
    const { state, digest } = await pushAdapter(push);
    expect(state).toBe('READY');
    digests.set(name, digest);
  }
  expect(await server.stop()).toBe(0);
  await database.admin(CHARGE);
});
afterAll(async () => {
  await rm(dataDir, { recursive: true, force: true });
  await database.dispose();
});

/** A reproducible stream of numbers in [0, 1). */
function seeded(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
}

function start(): Promise<RunningServer> {
  return startServer({
    dataDir,
    env: {
      DATABASE_URL: database.adminUrl,
      PATCHBAY_SECRET: database.secret,
      PATCHBAY_BACKBONE: BACKBONE,
      PATCHBAY_LEASE_MS: String(LEASE_MS),
      PATCHBAY_INTRA_OP_THREADS: '1',
      // A chunk for each step: the more commits there are, the more of them a kill can fall into.
      PATCHBAY_CHUNKS_PER_SECOND: '0',
    },
  });
}

function newStream(round: number, index: number, random: () => number): Stream {
  const length = 1 + Math.floor(random() * 20);
  const whole = index === 0;
  return {
    idempotencyKey: `kill-${SEED}-${round}-${index}`,
    promptIds: Array.from({ length }, () => Math.floor(random() * 250)),
    uses: ON_ADAPTERS.includes(index) ? (index % 2 === 0 ? BLEND : ONE) : [],
    maxTokens: whole ? MAX_TOKENS_WHOLE : MAX_TOKENS,
    whole,
    ...nothingYet(),
  };
}

function nothingYet(): Pick<Stream, 'requestId' | 'tokens' | 'finished'> {
  return { requestId: null, tokens: [], finished: null };
}

function inputOf({ idempotencyKey, promptIds, uses, maxTokens }: Stream): Record<string, unknown> {
  const adapters = uses.map(({ adapter, weight }) => ({ adapter, weight }));
  const on = adapters.length === 0 ? { plainBackbone: true } : { adapters };
  return { idempotencyKey, promptIds, ...on, maxTokens, ignoreEos: true };
}

/** Sends a request and follows it until its end or the end of the server; calls back after every chunk. */
function follow(server: RunningServer, stream: Stream, onChunk: () => void = () => {}): Promise<void> {
  return stream.whole ? waitForAnswer(server, stream) : followStream(server, stream, onChunk);
}

async function followStream(server: RunningServer, stream: Stream, onChunk: () => void): Promise<void> {
  const socket = openSocket(server.graphqlUrl, server.demoKey);
  try {
    for await (const event of socket.infer(inputOf(stream))) {
      if (event.__typename === 'InferStarted') stream.requestId = event.requestId;
      else if (event.__typename === 'InferChunk') {
        stream.tokens.push(...event.tokens.map(({ id }) => id));
        onChunk();
      } else {
        stream.finished = { replayed: event.replayed, completionTokens: event.usage.completionTokens };
      }
    }
  } finally {
    await socket.close();
  }
}

const GENERATE = `mutation ($input: InferInput!) {
  generate(input: $input) {
    generation { requestId replayed tokens { id } usage { completionTokens } error { code } }
    userErrors { code }
  }
}`;

const generated = z.object({
  generate: z.object({
    generation: z.object({
      requestId: z.string(),
      replayed: z.boolean(),
      tokens: z.array(z.object({ id: z.number() })),
      usage: z.object({ completionTokens: z.number() }),
      error: z.null(),
    }),
    userErrors: z.tuple([]),
  }),
});

async function waitForAnswer(server: RunningServer, stream: Stream): Promise<void> {
  const variables = { input: inputOf(stream) };
  try {
    const answer = await graphql(server.graphqlUrl, server.demoKey, GENERATE, variables, generated);
    const { requestId, tokens, replayed, usage } = answer.generate.generation;
    stream.requestId = requestId;
    stream.tokens.push(...tokens.map(({ id }) => id));
    stream.finished = { replayed, completionTokens: usage.completionTokens };
  } catch (error) {
    // fetch tells of a server that is gone with a TypeError; anything else is a failure of the test.
    if (!(error instanceof TypeError)) throw error;
  }
}

/** Starts a server, loads it, kills it after a drawn number of chunks, and returns what its clients received. */
async function killOnce(round: number, random: () => number): Promise<readonly Stream[]> {
  const server = await start();
  const streams = Array.from({ length: STREAMS }, (_, index) => newStream(round, index, random));
  // The kill comes after a number of chunks, so it falls anywhere: in a prefill, a commit, a write, a settlement.
  const killAfter = Math.floor(random() * STREAMS * 40);
  let chunks = 0;
  let killing: Promise<void> | null = null;
  const kill = (): void => {
    killing ??= server.kill();
  };
  if (killAfter === 0) kill();
  const onChunk = (): void => {
    chunks += 1;
    if (chunks >= killAfter) kill();
  };
  await Promise.all(streams.map((stream) => follow(server, stream, onChunk)));
  kill();
  await killing;
  return streams;
}

/** Requests that were ever admitted, by the hash of their key. */
async function admissions(): Promise<ReadonlyMap<string, readonly string[]>> {
  const rows = await database.admin<{ id: string; key: string }>(
    `SELECT id, encode(key_hash, 'hex') AS key FROM observed.admission ORDER BY id`,
  );
  return new Map([...groupBy(rows, ({ key }) => key)].map(([key, all]) => [key, all.map(({ id }) => id)]));
}

function admittedAs(all: ReadonlyMap<string, readonly string[]>, idempotencyKey: string): readonly string[] {
  return all.get(hashIdempotencyKey(idempotencyKey).toString('hex')) ?? [];
}

async function readFacts(): Promise<ReadonlyMap<string, Facts>> {
  const records = await database.admin<RecordRow>(
    `SELECT u.id, u.completion_tokens, u.prompt_tokens, u.output_commitment, s.salt
     FROM usage_record u JOIN usage_salt s ON s.request_id = u.id`,
  );
  const shares = await database.admin<ShareRow>(
    `SELECT request_id, encode(adapter_digest, 'hex') AS digest, share_numerator::text, share_denominator::text,
            completion_tokens
     FROM usage_share`,
  );
  const progress = await database.admin<{ request_id: string; completion_tokens: number }>(
    'SELECT request_id, completion_tokens FROM observed.progress ORDER BY completion_tokens',
  );
  const sharesOf = groupBy(shares, (row) => row.request_id);
  const progressOf = groupBy(progress, (row) => row.request_id);
  return new Map(
    records.map((record) => {
      const commits = (progressOf.get(record.id) ?? []).map((row) => row.completion_tokens);
      return [record.id, { record, shares: sharesOf.get(record.id) ?? [], commits }];
    }),
  );
}

/** Holds what a client received against what its request is metered with. */
function reconcile(stream: Stream, { record, shares, commits }: Facts): void {
  const delivered = stream.tokens.length;
  const metered = record.completion_tokens;
  // A prompt is metered once a committed chunk proves that it was processed.
  expect(record.prompt_tokens).toBe(metered > 0 ? stream.promptIds.length : 0);
  expect(metered, 'no delivered token is unmetered').toBeGreaterThanOrEqual(delivered);
  if (stream.whole) {
    expect(commits, 'nothing of a whole answer is committed before it is complete').toEqual([]);
    expect([0, stream.maxTokens]).toContain(metered);
  }
  // The record's is the last commit; whatever was committed before it must have been delivered.
  const before = commits.findLast((count) => count < metered) ?? 0;
  expect(delivered, 'at most the last chunk is metered and not delivered').toBeGreaterThanOrEqual(before);
  if (stream.finished !== null) expect(stream.finished.completionTokens).toBe(delivered);
  const expected = stream.uses.map(({ adapter, share: [numerator, denominator] }) => ({
    request_id: record.id,
    digest: digests.get(adapter),
    share_numerator: numerator,
    share_denominator: denominator,
    completion_tokens: metered,
  }));
  expect(new Set(shares), 'one share for each adapter').toEqual(new Set(expected));
}

/**
 * Runs the request again, under another key, on a server that nobody kills: what was delivered is what that generates.
 * Returns whether the commitment proves that so is what was metered.
 */
async function isProven(survivor: RunningServer, stream: Stream, record: RecordRow): Promise<boolean> {
  // As many tokens as are metered tell; what a longer request would go on with is of no interest.
  const maxTokens = Math.max(1, record.completion_tokens);
  const idempotencyKey = `${stream.idempotencyKey}-again`;
  const again: Stream = { ...stream, ...nothingYet(), idempotencyKey, maxTokens };
  await follow(survivor, again);
  const steps = comparable(stream, again.tokens);
  expect(again.tokens.slice(0, steps), 'what was delivered is what was generated').toEqual(
    stream.tokens.slice(0, steps),
  );
  const rest = again.tokens.slice(stream.tokens.length, record.completion_tokens);
  return outputCommitment(record.salt, [...stream.tokens, ...rest]).equals(record.output_commitment);
}

/** How many tokens two runs of a prompt must share: all, or up to where the two best tokens are too close to call. */
function comparable(stream: Stream, again: readonly number[]): number {
  const differs = stream.tokens.findIndex((token, index) => token !== again[index]);
  if (differs === -1) return stream.tokens.length;
  const adapters = stream.uses.flatMap(({ adapter: name, weight }) => {
    const adapter = references.get(name);
    return adapter === undefined ? [] : [{ adapter, weight }];
  });
  const { margins } = referenceGreedy({
    model: reference,
    adapters,
    promptIds: stream.promptIds,
    maxTokens: stream.tokens.length,
    ignoreEos: true,
  });
  const tie = margins.findIndex((margin) => margin < MIN_MARGIN);
  return tie === -1 ? stream.tokens.length : Math.min(tie, stream.tokens.length);
}

function groupBy<T>(items: readonly T[], keyOf: (item: T) => string): ReadonlyMap<string, readonly T[]> {
  const groups = new Map<string, T[]>();
  for (const item of items) {
    const group = groups.get(keyOf(item));
    if (group === undefined) groups.set(keyOf(item), [item]);
    else group.push(item);
  }
  return groups;
}

/** Runs work for every item, a few at a time. */
async function forEach<T>(items: readonly T[], work: (item: T) => Promise<void>): Promise<void> {
  const left = [...items];
  const next = async (): Promise<void> => {
    for (let item = left.shift(); item !== undefined; item = left.shift()) await work(item);
  };
  await Promise.all(Array.from({ length: VERIFIERS }, next));
}

/** The number that `share` of all numbers do not exceed. */
function quantile(numbers: readonly number[], share: number): number {
  return [...numbers].sort((a, b) => a - b)[Math.ceil(numbers.length * share) - 1] ?? 0;
}

test(
  `a server killed ${KILLS} times meters every delivered token once (seed ${SEED})`,
  async () => {
    const began = new Date(Date.now() - 3_600_000);
    const streams: Stream[] = [];
    // Two lanes kill their servers side by side, so that each settles what the other lost while both are busy.
    await Promise.all(
      Array.from({ length: LANES }, async (_, lane) => {
        const random = seeded(SEED + lane);
        for (let round = lane; round < KILLS; round += LANES)
          streams.push(...(await killOnce(round, random)));
      }),
    );

    const survivor = await start();
    const unsettled = 'SELECT id FROM inference_request';
    await waitFor(async () => (await database.admin(unsettled)).length === 0, {
      timeoutMs: 60_000,
      what: 'the recovery of every request',
    });
    const admitted = await admissions();
    const facts = await readFacts();
    expect([...facts.keys()].sort(), 'one record for each request that was admitted').toEqual(
      [...admitted.values()].flat().sort(),
    );

    const found: { readonly stream: Stream; readonly record: RecordRow }[] = [];
    for (const stream of streams) {
      const [requestId, ...others] = admittedAs(admitted, stream.idempotencyKey);
      expect(others, 'a key admits once').toEqual([]);
      if (stream.requestId !== null) expect(stream.requestId).toBe(requestId);
      if (requestId === undefined) {
        expect(stream.tokens).toEqual([]);
        continue;
      }
      const known = facts.get(requestId);
      if (known === undefined) throw new Error(`No record for ${requestId}`);
      reconcile(stream, known);
      found.push({ stream, record: known.record });
    }

    let proven = 0;
    await forEach(found, async ({ stream, record }) => {
      if (await isProven(survivor, stream, record)) proven += 1;
    });
    // Ties, which float32 may decide either way in another batch, are rare; everything else must be proven.
    expect(proven).toBeGreaterThanOrEqual(Math.floor(found.length * 0.98));

    // A retry of what was metered is answered from the record; of what was not, it runs, because the key is free.
    await forEach(found, async ({ stream, record }) => {
      const retry: Stream = { ...stream, ...nothingYet() };
      await follow(survivor, retry);
      const metered = record.completion_tokens;
      expect(retry.finished).toEqual({
        replayed: metered > 0,
        completionTokens: metered > 0 ? metered : stream.maxTokens,
      });
    });
    const freed = found.filter(({ record }) => record.completion_tokens === 0);
    const afterwards = await admissions();
    for (const { stream, record } of found) {
      const ids = admittedAs(afterwards, stream.idempotencyKey);
      expect(ids, 'a retry is billed only where nothing was').toHaveLength(
        record.completion_tokens === 0 ? 2 : 1,
      );
    }
    const [all] = await database.admin<{ count: string }>('SELECT count(*) FROM usage_record');
    expect(Number(all?.count)).toBe(facts.size + found.length + freed.length);
    const period = { from: began, to: new Date(Date.now() + 3_600_000) };
    expect(await findRollupDifferences(database.database, wholeHours(period))).toEqual([]);
    // Every request was charged once, for what it was metered with, and nothing is held for one that is gone.
    const report = await reconcileMoney(database.database, { ...period, tenantId: null });
    expect(report.differences).toEqual([]);
    expect(report.requests).toBe(Number(all?.count));
    const [money] = await database.admin<{ captured: string; held: string }>(
      `SELECT sum(-p.amount) AS captured, (SELECT count(*) FROM ledger_open_hold) AS held
       FROM ledger_posting p JOIN ledger_account a ON a.id = p.account_id WHERE a.kind = 'CUSTOMER'`,
    );
    expect(Number(money?.captured)).toBeGreaterThan(0);
    expect(money?.held).toBe('0');

    const undelivered = (whole: boolean): number[] =>
      found
        .filter(({ stream }) => stream.whole === whole)
        .map(({ stream, record }) => record.completion_tokens - stream.tokens.length);
    const p95 = quantile(undelivered(false), 0.95);
    const delivered = streams.reduce((sum, { tokens }) => sum + tokens.length, 0);
    console.log(
      `${KILLS} kills, ${facts.size} requests: ${delivered} tokens delivered; committed and not delivered: ` +
        `p95 ${p95}, most ${Math.max(...undelivered(false))} of a stream; ` +
        `${undelivered(true).filter((n) => n > 0).length} of ${undelivered(true).length} whole answers; ` +
        `${freed.length} keys freed`,
    );
    expect(p95).toBeLessThanOrEqual(UNDELIVERED_P95_MAX);
    expect(await survivor.stop()).toBe(0);
  },
  Math.max(600_000, KILLS * 12_000),
);

function wholeHours({ from, to }: { readonly from: Date; readonly to: Date }) {
  const hour = 3_600_000;
  return {
    from: new Date(Math.floor(from.getTime() / hour) * hour),
    to: new Date(Math.ceil(to.getTime() / hour) * hour),
  };
}
