import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { outputCommitment } from '../../src/metering/commitment.ts';
import { MIN_MARGIN } from '../golden/kit.ts';
import { createTestDatabase, type TestDatabase } from '../kit/postgres.ts';
import { waitFor } from '../kit/wait.ts';
import { referenceGreedy } from '../reference/generate.ts';
import { loadModel } from '../reference/model.ts';
import { openSocket } from './client.ts';
import { type RunningServer, startServer } from './server.ts';

/** Kills in one run of the test; the soak sets more. */
const KILLS = Number(process.env['PATCHBAY_SOAK_KILLS'] ?? 50);
const SEED = Number(process.env['PATCHBAY_SOAK_SEED'] ?? Date.now() % 1_000_000);
const STREAMS = 6;
const LANES = 2;
/** Streams that are checked at the same time afterwards. */
const VERIFIERS = 12;
const MAX_TOKENS = 160;
const LEASE_MS = 1_000;
const BACKBONE = new URL('../fixtures/golden/llama-tied', import.meta.url).pathname;
const reference = loadModel(BACKBONE);

/** What one stream's client knows. */
interface Stream {
  readonly idempotencyKey: string;
  readonly promptIds: readonly number[];
  requestId: string | null;
  readonly tokens: number[];
  finished: { readonly reason: string; readonly completionTokens: number } | null;
}

interface RecordRow {
  readonly id: string;
  readonly completion_tokens: number;
  readonly prompt_tokens: number;
  readonly finish_reason: string;
  readonly output_commitment: Buffer;
  readonly salt: Buffer;
}

let database: TestDatabase;
let dataDir: string;

beforeAll(async () => {
  database = await createTestDatabase();
  dataDir = await mkdtemp(join(tmpdir(), 'patchbay-kill-'));
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
    },
  });
}

function newStream(round: number, index: number, random: () => number): Stream {
  const length = 1 + Math.floor(random() * 20);
  return {
    idempotencyKey: `kill-${SEED}-${round}-${index}`,
    promptIds: Array.from({ length }, () => Math.floor(random() * 250)),
    requestId: null,
    tokens: [],
    finished: null,
  };
}

function inputOf({ idempotencyKey, promptIds }: Stream): Record<string, unknown> {
  return { idempotencyKey, promptIds, plainBackbone: true, maxTokens: MAX_TOKENS, ignoreEos: true };
}

/** Follows a stream until its end or the end of the socket; calls back after every chunk. */
async function follow(server: RunningServer, stream: Stream, onChunk: () => void): Promise<void> {
  const socket = openSocket(server.graphqlUrl, server.demoKey);
  try {
    for await (const event of socket.infer(inputOf(stream))) {
      if (event.__typename === 'InferStarted') stream.requestId = event.requestId;
      else if (event.__typename === 'InferChunk') {
        stream.tokens.push(...event.tokens.map(({ id }) => id));
        onChunk();
      } else stream.finished = { reason: event.finishReason, completionTokens: event.usage.completionTokens };
    }
  } finally {
    await socket.close();
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

/** Holds what a stream's client received against the record of its request. */
async function verify(
  survivor: RunningServer,
  stream: Stream,
  record: RecordRow | undefined,
  totals: { delivered: number; undelivered: number; proven: number },
): Promise<void> {
  if (stream.requestId === null) {
    expect(stream.tokens).toEqual([]);
    return;
  }
  expect(record, `a record for request ${stream.requestId}`).toBeDefined();
  if (record === undefined) return;
  // A prompt is metered once a committed chunk proves that it was processed.
  expect(record.prompt_tokens).toBe(record.completion_tokens > 0 ? stream.promptIds.length : 0);
  expect(record.completion_tokens, 'no delivered token is unmetered').toBeGreaterThanOrEqual(
    stream.tokens.length,
  );
  if (stream.finished !== null) {
    expect(record.completion_tokens).toBe(stream.finished.completionTokens);
    expect(stream.tokens.length).toBe(stream.finished.completionTokens);
  }
  totals.delivered += stream.tokens.length;
  totals.undelivered += record.completion_tokens - stream.tokens.length;
  const again: Stream = {
    ...stream,
    idempotencyKey: `${stream.idempotencyKey}-again`,
    tokens: [],
    finished: null,
  };
  await follow(survivor, again, () => {});
  const steps = comparable(stream, again.tokens);
  expect(again.tokens.slice(0, steps), 'what was delivered is what was generated').toEqual(
    stream.tokens.slice(0, steps),
  );
  // The commitment pins the very tokens: nothing is metered that was not generated.
  if (steps >= stream.tokens.length) {
    const metered = [...stream.tokens, ...again.tokens.slice(stream.tokens.length, record.completion_tokens)];
    if (outputCommitment(record.salt, metered).equals(record.output_commitment)) totals.proven += 1;
  }
  // A request that metered nothing frees its key; any other is neither run nor billed again by a retry.
  if (record.completion_tokens === 0) return;
  const retry: Stream = { ...stream, tokens: [], finished: null };
  await follow(survivor, retry, () => {});
  expect(retry.finished?.completionTokens).toBe(record.completion_tokens);
}

/** How many tokens two runs of a prompt must share: all, or up to where the two best tokens are too close to call. */
function comparable(stream: Stream, again: readonly number[]): number {
  const differs = stream.tokens.findIndex((token, index) => token !== again[index]);
  if (differs === -1) return stream.tokens.length;
  const { margins } = referenceGreedy({
    model: reference,
    adapters: [],
    promptIds: stream.promptIds,
    maxTokens: stream.tokens.length,
    ignoreEos: true,
  });
  const tie = margins.findIndex((margin) => margin < MIN_MARGIN);
  return tie === -1 ? stream.tokens.length : Math.min(tie, stream.tokens.length);
}

test(
  `a server killed ${KILLS} times meters every delivered token once (seed ${SEED})`,
  async () => {
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
    await waitFor(
      async () => {
        const [row] = await database.admin<{ count: string }>('SELECT count(*) FROM inference_request');
        return row?.count === '0';
      },
      { timeoutMs: 30_000, what: 'the recovery of every request' },
    );
    const rows = await database.admin<RecordRow>(
      `SELECT u.id, u.completion_tokens, u.prompt_tokens, u.finish_reason, u.output_commitment, s.salt
     FROM usage_record u JOIN usage_salt s ON s.request_id = u.id`,
    );
    const records = new Map(rows.map((row) => [row.id, row]));
    expect(rows.length, 'one record per request').toBe(records.size);
    const keys = await database.admin<{ request_id: string }>('SELECT request_id FROM inference_idempotency');
    const unsettled = keys.filter((key) => !records.has(key.request_id));
    expect(unsettled, 'every admitted request is settled').toEqual([]);

    // The whole greedy output of every prompt, from a server that nobody kills, says what was generated.
    const totals = { delivered: 0, undelivered: 0, proven: 0 };
    let next = 0;
    const verifyNext = async (): Promise<void> => {
      for (let stream = streams[next++]; stream !== undefined; stream = streams[next++]) {
        await verify(
          survivor,
          stream,
          stream.requestId === null ? undefined : records.get(stream.requestId),
          totals,
        );
      }
    };
    await Promise.all(Array.from({ length: VERIFIERS }, verifyNext));
    // Ties, which float32 may decide either way in another batch, are rare; everything else must be proven.
    const started = streams.filter(({ requestId }) => requestId !== null).length;
    expect(totals.proven).toBeGreaterThanOrEqual(Math.floor(started * 0.98));
    const [after] = await database.admin<{ count: string }>(
      'SELECT count(*) FROM usage_record WHERE id = ANY($1::uuid[])',
      [[...records.keys()]],
    );
    expect(Number(after?.count)).toBe(records.size);
    console.log(
      `${KILLS} kills, ${records.size} requests: ${totals.delivered} tokens delivered, ${totals.undelivered} more were committed and not yet written`,
    );
    expect(await survivor.stop()).toBe(0);
  },
  Math.max(600_000, KILLS * 12_000),
);
