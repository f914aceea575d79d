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
    const random = seeded(SEED);
    const streams: Stream[] = [];
    for (let round = 0; round < KILLS; round++) {
      const server = await start();
      const current = Array.from({ length: STREAMS }, (_, index) => newStream(round, index, random));
      streams.push(...current);
      // The kill comes after a number of chunks, so it falls anywhere: in a prefill, a commit, a write, a settlement.
      const killAfter = Math.floor(random() * STREAMS * 40);
      let chunks = 0;
      let killing: Promise<void> | null = null;
      const kill = (): void => {
        killing ??= server.kill();
      };
      if (killAfter === 0) kill();
      await Promise.all(
        current.map((stream) =>
          follow(server, stream, () => {
            chunks += 1;
            if (chunks >= killAfter) kill();
          }),
        ),
      );
      kill();
      await killing;
    }

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
    expect(new Set(keys.map((key) => key.request_id)), 'every admitted request is settled').toEqual(
      new Set(records.keys()),
    );

    // The whole greedy output of every prompt, from a server that nobody kills, says what was generated.
    let undelivered = 0;
    let delivered = 0;
    let proven = 0;
    for (const stream of streams) {
      if (stream.requestId === null) {
        expect(stream.tokens).toEqual([]);
        continue;
      }
      const record = records.get(stream.requestId);
      expect(record, `a record for request ${stream.requestId}`).toBeDefined();
      if (record === undefined) continue;
      expect(record.prompt_tokens).toBe(stream.promptIds.length);
      expect(record.completion_tokens, 'no delivered token is unmetered').toBeGreaterThanOrEqual(
        stream.tokens.length,
      );
      if (stream.finished !== null) {
        expect(record.completion_tokens).toBe(stream.finished.completionTokens);
        expect(stream.tokens.length).toBe(stream.finished.completionTokens);
      }
      delivered += stream.tokens.length;
      undelivered += record.completion_tokens - stream.tokens.length;
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
      const metered = [
        ...stream.tokens,
        ...again.tokens.slice(stream.tokens.length, record.completion_tokens),
      ];
      if (steps >= stream.tokens.length) {
        expect(outputCommitment(record.salt, metered).equals(record.output_commitment)).toBe(true);
        proven += 1;
      }
      // A retry with the first key neither runs nor bills again.
      const retry: Stream = { ...stream, tokens: [], finished: null };
      await follow(survivor, retry, () => {});
      expect(retry.finished?.completionTokens).toBe(record.completion_tokens);
    }
    // Ties, which float32 may decide either way in another batch, are rare.
    expect(proven).toBeGreaterThanOrEqual(Math.floor(records.size * 0.95));
    const [after] = await database.admin<{ count: string }>(
      'SELECT count(*) FROM usage_record WHERE id = ANY($1::uuid[])',
      [[...records.keys()]],
    );
    expect(Number(after?.count)).toBe(records.size);
    console.log(
      `${KILLS} kills, ${records.size} requests: ${delivered} tokens delivered, ${undelivered} more were committed and not yet written`,
    );
    expect(await survivor.stop()).toBe(0);
  },
  Math.max(600_000, KILLS * 12_000),
);
