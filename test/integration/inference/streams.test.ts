import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, test } from 'vitest';
import { PatchbayError } from '../../../src/kernel/errors.ts';
import { outputCommitment, promptCommitment } from '../../../src/metering/commitment.ts';
import { reconcile } from '../../../src/reconciliation/reconcile.ts';
import { createTestDatabase, type TestDatabase } from '../../kit/postgres.ts';
import { waitFor } from '../../kit/wait.ts';
import { plays } from './fake-engine.ts';
import {
  collect,
  endOf,
  expire,
  only,
  plainInput,
  quiesce,
  recordsOf,
  startProcess,
  type TestProcess,
  take,
  testCaller,
  tokenIds,
} from './harness.ts';

let db: TestDatabase;
let api: TestProcess;

beforeAll(async () => {
  db = await createTestDatabase();
});
afterAll(() => db.dispose());
beforeEach(async () => {
  api = await startProcess(db);
});
afterEach(async () => {
  await api.close();
  await expectCountsOf(api);
  expect(await db.admin('SELECT id FROM inference_request')).toEqual([]);
  expect(await db.admin('SELECT request_id FROM request_progress')).toEqual([]);
});

/** However it ended: what the engine counted was generated, and each token of it was metered or dropped. */
async function expectCountsOf({ engine }: TestProcess): Promise<void> {
  const rows = await db.admin<{ id: string; counted: number; metered: number; dropped: number }>(
    `SELECT id, engine_completion_tokens AS counted, completion_tokens AS metered, dropped_completion_tokens AS dropped
     FROM usage_record WHERE id = ANY($1) AND engine_completion_tokens IS NOT NULL`,
    [engine.all.map(({ request }) => request.id)],
  );
  const generated = new Map(engine.all.map((sequence) => [sequence.request.id, sequence.generated.length]));
  for (const { id, counted, metered, dropped } of rows) {
    expect([counted, metered + dropped]).toEqual([generated.get(id), counted]);
  }
}

describe('a stream that is read to its end', () => {
  it('delivers every token in order and meters exactly what it delivered', async () => {
    const caller = testCaller();
    api.engine.script = plays(() => 20);
    const events = await collect(await api.service.infer(caller, plainInput(5)));

    const sequence = only(api.engine.all);
    expect(events[0]).toMatchObject({ kind: 'started', replayed: false });
    expect(tokenIds(events)).toEqual(sequence.generated.map((token) => token.id));
    const seqs = events.flatMap((event) => (event.kind === 'tokens' ? [event.seq] : []));
    expect(seqs).toEqual(seqs.map((_, index) => index));
    expect(endOf(events)).toMatchObject({
      finishReason: 'stop',
      usage: { promptTokens: 5, cachedPromptTokens: 1, completionTokens: 20 },
    });
    const record = only(await recordsOf(db, caller.tenantId));
    expect(record).toMatchObject({
      id: sequence.request.id,
      prompt_tokens: 5,
      completion_tokens: 20,
      finish_reason: 'stop',
      error_code: null,
      settled_by: 'engine',
      compute_us: '2625',
    });
  });

  it('commits to the prompt and output so that the salt opens them', async () => {
    const caller = testCaller();
    api.engine.script = plays(() => 7);
    const events = await collect(await api.service.infer(caller, plainInput(2)));
    const record = only(await recordsOf(db, caller.tenantId));
    const { salt } = only(
      await db.admin<{ salt: Buffer }>('SELECT salt FROM usage_salt WHERE request_id = $1', [record.id]),
    );
    expect(record.output_commitment).toEqual(outputCommitment(salt, tokenIds(events)));
    const { opening, requestId } = endOf(events);
    expect(opening?.salt).toBe(salt.toString('hex'));
    expect(record.prompt_commitment).toEqual(promptCommitment(salt, opening?.promptIds ?? []));
    expect(opening?.promptIds).toEqual((await api.engine.sequence(0)).request.promptIds);
    expect(requestId).toBe(record.id);
  });

  it('has committed a chunk before it hands it out', async () => {
    const stream = await api.service.infer(testCaller(), plainInput());
    const started = await take(stream);
    const sequence = await api.engine.sequence(0);
    let delivered = 0;
    for (const chunk of [[1], [2, 3], [4]]) {
      sequence.emit(...chunk);
      const event = await take(stream);
      if (event.kind === 'tokens') delivered += event.tokens.length;
      const progress = only(
        await db.admin<{ completion_tokens: number }>('SELECT completion_tokens FROM request_progress'),
      );
      expect(progress.completion_tokens).toBe(delivered);
    }
    expect(started.kind).toBe('started');
    sequence.end('length');
    expect(endOf(await collect(stream)).usage.completionTokens).toBe(4);
  });

  it('never commits more than one chunk beyond what the client took', async () => {
    const stream = await api.service.infer(testCaller(), plainInput());
    await take(stream);
    const sequence = await api.engine.sequence(0);
    sequence.emit(1);
    await take(stream);
    sequence.emit(2);
    await quiesce(api);
    sequence.emit(3);
    await quiesce(api);
    const [progress] = await db.admin('SELECT completion_tokens FROM request_progress');
    expect(progress).toEqual({ completion_tokens: 1 });
    sequence.end('stop');
    expect(tokenIds(await collect(stream))).toEqual([2, 3]);
  });
});

describe('a stream that ends otherwise', () => {
  it('meters a cancelled stream by what was committed, not by what was generated', async () => {
    const caller = testCaller();
    const stream = await api.service.infer(caller, plainInput(3));
    await take(stream);
    const sequence = await api.engine.sequence(0);
    sequence.emit(1, 2);
    await take(stream);
    sequence.emit(3, 4, 5);
    await stream.return?.();

    expect(sequence.ended).toBe(true);
    expect(only(await recordsOf(db, caller.tenantId))).toMatchObject({
      finish_reason: 'cancelled',
      completion_tokens: 2,
      prompt_tokens: 3,
      error_code: null,
    });
    expect(await stream.next()).toEqual({ done: true, value: undefined });
  });

  it('answers a reader that waits when the stream is left from elsewhere', async () => {
    const stream = await api.service.infer(testCaller(), plainInput());
    await take(stream);
    const waiting = stream.next();
    await stream.return?.();
    expect(await waiting).toEqual({ done: true, value: undefined });
  });

  it('ends an aborted stream with a final event', async () => {
    const caller = testCaller();
    const abort = new AbortController();
    const stream = await api.service.infer(caller, plainInput(), { signal: abort.signal });
    await take(stream);
    (await api.engine.sequence(0)).emit(1);
    await take(stream);
    abort.abort();
    expect(endOf(await collect(stream))).toMatchObject({
      finishReason: 'cancelled',
      usage: { completionTokens: 1 },
    });
    expect(only(await recordsOf(db, caller.tenantId)).finish_reason).toBe('cancelled');
  });

  it('does not charge a prompt that never entered the engine', async () => {
    const caller = testCaller();
    api.engine.endsOnCancel = false;
    const stream = await api.service.infer(caller, plainInput(9));
    const sequence = await api.engine.sequence(0);
    const left = stream.return?.();
    sequence.end('cancelled', undefined, { prefillMs: 0, cachedPromptTokens: 0 });
    await left;
    expect(only(await recordsOf(db, caller.tenantId))).toMatchObject({
      prompt_tokens: 0,
      completion_tokens: 0,
    });
  });

  it('ends a stream whose reader is too slow, and meters what was committed', async () => {
    const caller = testCaller();
    const strict = await startProcess(db, { inference: { pendingTokensMax: 8 } });
    const stream = await strict.service.infer(caller, plainInput());
    await take(stream);
    const sequence = await strict.engine.sequence(0);
    sequence.emit(1);
    await take(stream);
    for (let id = 2; id < 12; id += 1) sequence.emit(id);
    await waitFor(() => strict.service.live === 0);
    const events = await collect(stream);
    expect(tokenIds(events)).toEqual([]);
    expect(endOf(events)).toMatchObject({
      finishReason: 'error',
      error: { code: 'SLOW_CONSUMER' },
      usage: { completionTokens: 1 },
    });
    expect(only(await recordsOf(db, caller.tenantId))).toMatchObject({
      completion_tokens: 1,
      error_code: 'SLOW_CONSUMER',
    });
    await strict.close();
  });

  it('reaps a stream whose reader never comes back, however little was generated', async () => {
    let now = 0;
    const clock = { nowMs: () => Date.now(), monotonicMs: () => now };
    const slow = await startProcess(db, { clock, inference: { stallMs: 1_000 } });
    const caller = testCaller();
    const stream = await slow.service.infer(caller, plainInput());
    await take(stream);
    (await slow.engine.sequence(0)).emit(1);
    await take(stream);
    now = 999;
    slow.service.reapStalled();
    expect(slow.service.live).toBe(1);
    now = 1_000;
    slow.service.reapStalled();
    await waitFor(() => slow.service.live === 0);
    expect(only(await recordsOf(db, caller.tenantId)).error_code).toBe('SLOW_CONSUMER');
    await slow.close();
  });

  it('settles an engine failure as error with its code, and delivers what came before it', async () => {
    const caller = testCaller();
    const stream = await api.service.infer(caller, plainInput());
    const sequence = await api.engine.sequence(0);
    sequence.emit(1, 2);
    sequence.end('error', new PatchbayError('ADAPTER_LOAD_FAILED', 'Gone.').toPublic());
    const events = await collect(stream);
    expect(tokenIds(events)).toEqual([1, 2]);
    expect(endOf(events)).toMatchObject({ finishReason: 'error', error: { code: 'ADAPTER_LOAD_FAILED' } });
    expect(only(await recordsOf(db, caller.tenantId))).toMatchObject({
      completion_tokens: 2,
      error_code: 'ADAPTER_LOAD_FAILED',
    });
  });

  it('stops delivering at once when another process took the lease, and leaves settling to it', async () => {
    const caller = testCaller();
    const other = await startProcess(db);
    const stream = await api.service.infer(caller, plainInput(4));
    await take(stream);
    const sequence = await api.engine.sequence(0);
    sequence.emit(1, 2);
    await take(stream);
    await expire(db, api);
    const recovery = await other.metering.recoverExpired();
    expect(recovery.settled).toMatchObject([{ requestId: sequence.request.id, completionTokens: 2 }]);

    sequence.emit(3);
    const events = await collect(stream);
    expect(tokenIds(events)).toEqual([]);
    expect(endOf(events)).toMatchObject({ finishReason: 'error', error: { code: 'LEASE_LOST' } });
    expect(only(await recordsOf(db, caller.tenantId))).toMatchObject({
      settled_by: 'recovery',
      completion_tokens: 2,
      prompt_tokens: 4,
      finish_reason: 'error',
      error_code: 'SERVER_LOST',
    });
    // The process registers anew and goes on serving.
    api.engine.script = plays(() => 1);
    expect(endOf(await collect(await api.service.infer(caller, plainInput()))).finishReason).toBe('stop');
    await other.close();
  });

  it('drains: refuses what comes, ends what runs, and leaves nothing unsettled', async () => {
    const caller = testCaller();
    const draining = await startProcess(db);
    const stream = await draining.service.infer(caller, plainInput());
    await take(stream);
    const drained = draining.service.drain({ graceMs: 0 });
    await expect(draining.service.infer(caller, plainInput())).rejects.toMatchObject({
      code: 'SHUTTING_DOWN',
    });
    expect(endOf(await collect(stream))).toMatchObject({
      finishReason: 'cancelled',
      error: { code: 'SHUTTING_DOWN' },
    });
    await drained;
    expect(await recordsOf(db, caller.tenantId)).toHaveLength(1);
    await draining.metering.stop();
    await draining.database.close();
  });

  it('ends the running requests of a revoked key and no others', async () => {
    const [revoked, other] = [testCaller(), testCaller()];
    const ended = await api.service.infer(revoked, plainInput());
    const kept = await api.service.infer(other, plainInput());
    api.service.cancelKey(revoked.keyId);
    expect(endOf(await collect(ended))).toMatchObject({ finishReason: 'cancelled' });
    (await api.engine.sequence(1)).end('stop');
    expect(endOf(await collect(kept))).toMatchObject({ finishReason: 'stop' });
  });
});

describe('generate', () => {
  it('returns the whole answer of one request', async () => {
    const caller = testCaller();
    api.engine.script = plays(() => 6);
    const answer = await api.service.generate(caller, { prompt: 'hi', plainBackbone: true, maxTokens: 64 });
    expect(answer.tokens.map((token) => token.id)).toEqual(
      only(api.engine.all).generated.map((token) => token.id),
    );
    expect(answer).toMatchObject({ finishReason: 'stop', replayed: false, usage: { completionTokens: 6 } });
    expect(answer.text).toBe(answer.tokens.map((token) => `${token.id} `).join(''));
  });

  it('commits nothing before the answer is complete, and all of it before the answer is returned', async () => {
    const caller = testCaller();
    let answered = false;
    const answer = api.service.generate(caller, plainInput(3, { maxTokens: 2_000 })).then((result) => {
      answered = true;
      return result;
    });
    const sequence = await api.engine.sequence(0);
    // More than a stream may leave waiting.
    for (let i = 0; i < 150; i += 1) sequence.emit(...Array.from({ length: 10 }, (_, id) => id + 1));
    await quiesce(api);
    expect(await db.admin('SELECT completion_tokens FROM request_progress')).toEqual([
      { completion_tokens: 0 },
    ]);
    const lock = await db.admin<{ id: string }>('SELECT id FROM inference_request');
    let release = (): void => {};
    const held = new Promise<void>((resolve) => {
      release = resolve;
    });
    let locked = (): void => {};
    const isLocked = new Promise<void>((resolve) => {
      locked = resolve;
    });
    const holding = db.database.withSystemPg(async (client) => {
      await client.query('SELECT id FROM inference_request WHERE id = $1 FOR UPDATE', [only(lock).id]);
      locked();
      await held;
    });
    await isLocked;
    sequence.end('stop');
    await waitFor(() => api.metering.recorder.depth > 0);
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(answered).toBe(false);
    release();
    await holding;
    expect((await answer).tokens).toHaveLength(1_500);
    expect(only(await recordsOf(db, caller.tenantId))).toMatchObject({
      completion_tokens: 1_500,
      finish_reason: 'stop',
    });
  });

  it('meters nothing, and frees the key, when its process is lost before the answer is complete', async () => {
    const caller = testCaller();
    const other = await startProcess(db);
    const input = plainInput(3, { idempotencyKey: 'lost' });
    const answer = api.service.generate(caller, input);
    (await api.engine.sequence(0)).emit(1, 2, 3);
    await quiesce(api);
    await expire(db, api);
    await other.metering.recoverExpired();
    expect(only(await recordsOf(db, caller.tenantId))).toMatchObject({
      completion_tokens: 0,
      prompt_tokens: 0,
      error_code: 'SERVER_LOST',
    });
    other.engine.script = plays(() => 4);
    expect(await other.service.generate(caller, input)).toMatchObject({
      replayed: false,
      usage: { completionTokens: 4 },
    });
    // What the lost process still has can neither be written nor delivered.
    (await api.engine.sequence(0)).end('stop');
    expect(await answer).toMatchObject({ finishReason: 'error', error: { code: 'LEASE_LOST' }, tokens: [] });
    expect(await recordsOf(db, caller.tenantId)).toHaveLength(2);
    await other.close();
  });

  it('is cancelled by its signal, metered with what was generated, and hands that to a retry', async () => {
    const caller = testCaller();
    const abort = new AbortController();
    const input = plainInput(3, { idempotencyKey: 'left' });
    const answer = api.service.generate(caller, input, { signal: abort.signal });
    const sequence = await api.engine.sequence(0);
    sequence.emit(1, 2);
    sequence.emit(3);
    abort.abort();
    expect((await answer).finishReason).toBe('cancelled');
    expect(sequence.cancelled).toBe(true);
    const record = only(await recordsOf(db, caller.tenantId));
    expect(record).toMatchObject({ finish_reason: 'cancelled', completion_tokens: 3, prompt_tokens: 3 });
    const { salt } = only(
      await db.admin<{ salt: Buffer }>('SELECT salt FROM usage_salt WHERE request_id = $1', [record.id]),
    );
    expect(record.output_commitment).toEqual(outputCommitment(salt, [1, 2, 3]));
    const retry = await api.service.generate(caller, input);
    expect(retry).toMatchObject({ replayed: true, outputComplete: true, finishReason: 'cancelled' });
    expect(retry.tokens.map(({ id }) => id)).toEqual([1, 2, 3]);
  });

  it('meters and returns nothing of a failure, and frees the key', async () => {
    const caller = testCaller();
    const input = plainInput(3, { idempotencyKey: 'failed' });
    const answer = api.service.generate(caller, input);
    const sequence = await api.engine.sequence(0);
    sequence.emit(1, 2);
    sequence.end('error', new PatchbayError('ENGINE_FAILED', 'x').toPublic());
    expect(await answer).toMatchObject({
      finishReason: 'error',
      error: { code: 'ENGINE_FAILED' },
      tokens: [],
    });
    expect(only(await recordsOf(db, caller.tenantId))).toMatchObject({
      completion_tokens: 0,
      prompt_tokens: 0,
    });
    api.engine.script = plays(() => 1);
    expect(await api.service.generate(caller, input)).toMatchObject({
      replayed: false,
      finishReason: 'stop',
    });
  });
});

test('every way of ending above left counts that agree with the engine', async () => {
  const scope = { from: new Date(0), to: new Date(4e12), tenantId: null };
  // Nothing has a price here.
  const report = await reconcile(db.database, scope, ['ENGINE_PROMPT', 'ENGINE_COMPLETION']);
  expect(report.differences).toEqual([]);
  const rows = await db.admin<{ reason: string; dropped: string; told: string }>(
    `SELECT finish_reason AS reason, sum(dropped_completion_tokens) AS dropped, count(engine_completion_tokens) AS told
     FROM usage_record GROUP BY finish_reason ORDER BY finish_reason`,
  );
  const found = new Map(
    rows.map(({ reason, dropped, told }) => [reason, { dropped: Number(dropped), told: Number(told) }]),
  );
  expect(found.get('cancelled')?.dropped).toBeGreaterThan(0);
  expect(found.get('error')?.dropped).toBeGreaterThan(0);
  expect(found.get('stop')).toMatchObject({ dropped: 0, told: expect.any(Number) });
  expect(found.get('stop')?.told).toBeGreaterThan(0);
});
