import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { InferenceEvent } from '../../../src/inference/events.ts';
import type { Caller } from '../../../src/inference/ports.ts';
import { PatchbayError } from '../../../src/kernel/errors.ts';
import { createTestDatabase, type TestDatabase } from '../../kit/postgres.ts';
import { plays } from './fake-engine.ts';
import {
  collect,
  endOf,
  expire,
  only,
  plainInput,
  recordsOf,
  startProcess,
  type TestProcess,
  take,
  testCaller,
  tokenIds,
} from './harness.ts';

let db: TestDatabase;
let processes: TestProcess[];

beforeAll(async () => {
  db = await createTestDatabase();
});
afterAll(() => db.dispose());
beforeEach(async () => {
  processes = [await startProcess(db), await startProcess(db), await startProcess(db)];
});
afterEach(async () => {
  await Promise.all(processes.map((process) => process.close()));
});

function process(index = 0): TestProcess {
  const found = processes[index];
  if (found === undefined) throw new Error('No such process');
  return found;
}

async function keysOf(caller: Caller): Promise<number> {
  return (await db.admin('SELECT 1 FROM inference_idempotency WHERE tenant_id = $1', [caller.tenantId]))
    .length;
}

describe('an idempotency key', () => {
  it('runs once, however many processes and connections race for it', async () => {
    const caller = testCaller();
    const input = plainInput(3, { idempotencyKey: 'race' });
    for (const { engine } of processes) engine.script = plays(() => 5);
    const attempts = Array.from({ length: 24 }, (_, i) => process(i % 3).service.infer(caller, input));
    const outcomes = await Promise.allSettled(attempts);

    const streams: AsyncIterable<InferenceEvent>[] = [];
    for (const outcome of outcomes) {
      if (outcome.status === 'fulfilled') streams.push(outcome.value);
      else expect(outcome.reason).toMatchObject({ code: 'IDEMPOTENCY_IN_PROGRESS' });
    }
    const answers = await Promise.all(streams.map(collect));
    expect(processes.flatMap(({ engine }) => engine.all)).toHaveLength(1);
    const record = only(await recordsOf(db, caller.tenantId));
    expect(answers.map((events) => endOf(events).requestId)).toEqual(answers.map(() => record.id));
    expect(answers.filter((events) => events[0]?.kind === 'started' && !events[0].replayed)).toHaveLength(1);
  });

  it('replays the outcome after the end: with the text where it ran, without it elsewhere', async () => {
    const caller = testCaller();
    const input = plainInput(3, { idempotencyKey: 'replay' });
    process().engine.script = plays(() => 4);
    const first = await collect(await process().service.infer(caller, input));
    const here = await collect(await process().service.infer(caller, input));
    const elsewhere = await collect(await process(1).service.infer(caller, input));

    expect(tokenIds(here)).toEqual(tokenIds(first));
    expect(endOf(here)).toMatchObject({ replayed: true, outputComplete: true, usage: endOf(first).usage });
    // The prompt is nowhere any more, so there is nothing to open its commitment with.
    expect([endOf(first).opening?.promptIds, endOf(here).opening]).toEqual([
      (await process().engine.sequence(0)).request.promptIds,
      null,
    ]);
    expect(tokenIds(elsewhere)).toEqual([]);
    expect(endOf(elsewhere)).toMatchObject({
      replayed: true,
      outputComplete: false,
      usage: endOf(first).usage,
    });
    expect(await recordsOf(db, caller.tenantId)).toHaveLength(1);
    expect(process(1).engine.all).toEqual([]);
  });

  it('names the running request to a retry, and does not run again', async () => {
    const caller = testCaller();
    const input = plainInput(3, { idempotencyKey: 'running' });
    const stream = await process().service.infer(caller, input);
    const started = await take(stream);
    const requestId = started.kind === 'started' ? started.requestId : '';
    await expect(process(1).service.infer(caller, input)).rejects.toMatchObject({
      code: 'IDEMPOTENCY_IN_PROGRESS',
      meta: { requestId },
    });
    await stream.return?.();
  });

  it('refuses other arguments, running or settled', async () => {
    const caller = testCaller();
    const stream = await process().service.infer(caller, plainInput(3, { idempotencyKey: 'other' }));
    const changed = plainInput(3, { idempotencyKey: 'other', maxTokens: 63 });
    await expect(process(1).service.infer(caller, changed)).rejects.toMatchObject({
      code: 'IDEMPOTENCY_CONFLICT',
    });
    await stream.return?.();
    await expect(process(1).service.infer(caller, changed)).rejects.toMatchObject({
      code: 'IDEMPOTENCY_CONFLICT',
    });
  });

  it('belongs to its tenant', async () => {
    const [one, other] = [testCaller(), testCaller()];
    const input = plainInput(3, { idempotencyKey: 'shared' });
    process().engine.script = plays(() => 1);
    await collect(await process().service.infer(one, input));
    await collect(await process().service.infer(other, input));
    expect(await recordsOf(db, one.tenantId)).toHaveLength(1);
    expect(await recordsOf(db, other.tenantId)).toHaveLength(1);
  });

  it('is free again after a refusal by the engine', async () => {
    const caller = testCaller();
    const input = plainInput(3, { idempotencyKey: 'refused' });
    process().engine.refusals.push(new PatchbayError('ENGINE_FULL', 'Full.'));
    await expect(process().service.infer(caller, input)).rejects.toMatchObject({ code: 'ENGINE_FULL' });
    expect(await keysOf(caller)).toBe(0);
    process(1).engine.script = plays(() => 2);
    const events = await collect(await process(1).service.infer(caller, input));
    expect(endOf(events)).toMatchObject({ finishReason: 'stop', replayed: false });
    expect(await recordsOf(db, caller.tenantId)).toHaveLength(1);
  });

  it('is free after a failure that metered nothing, and bound after one that metered something', async () => {
    const caller = testCaller();
    for (const [key, tokens] of [
      ['empty', []],
      ['some', [1]],
    ] as const) {
      const stream = await process().service.infer(caller, plainInput(3, { idempotencyKey: key }));
      const sequence = await process().engine.sequence(key === 'empty' ? 0 : 1);
      if (tokens.length > 0) sequence.emit(...tokens);
      sequence.end('error', new PatchbayError('ENGINE_FAILED', 'Broke.').toPublic());
      expect(endOf(await collect(stream))).toMatchObject({
        finishReason: 'error',
        usage: { promptTokens: tokens.length === 0 ? 0 : 3, completionTokens: tokens.length },
      });
    }
    process().engine.script = plays(() => 1);
    const retried = await collect(
      await process().service.infer(caller, plainInput(3, { idempotencyKey: 'empty' })),
    );
    expect(endOf(retried)).toMatchObject({ finishReason: 'stop', replayed: false });
    const replayed = await collect(
      await process(1).service.infer(caller, plainInput(3, { idempotencyKey: 'some' })),
    );
    expect(endOf(replayed)).toMatchObject({
      finishReason: 'error',
      replayed: true,
      error: { code: 'ENGINE_FAILED' },
    });
  });

  it('answers a retry after the server was lost with what was settled for it', async () => {
    const caller = testCaller();
    const input = plainInput(3, { idempotencyKey: 'lost' });
    const stream = await process().service.infer(caller, input);
    await take(stream);
    (await process().engine.sequence(0)).emit(5, 6);
    await take(stream);
    await expire(db, process());
    await process(1).metering.recoverExpired();
    const events = await collect(await process(1).service.infer(caller, input));
    expect(endOf(events)).toMatchObject({
      replayed: true,
      outputComplete: false,
      error: { code: 'SERVER_LOST' },
      usage: { promptTokens: 3, completionTokens: 2 },
    });
    // The process that was thought dead learns of it at its next sign of life, and its client with it.
    await process().metering.lease.renew();
    expect(endOf(await collect(stream)).error?.code).toBe('LEASE_LOST');
  });

  it('stores neither the key nor a hash of the prompt that could be searched for', async () => {
    const caller = testCaller();
    process().engine.script = plays(() => 1);
    const input = { prompt: 'hi', plainBackbone: true, maxTokens: 4, idempotencyKey: 'secret-key' };
    await collect(await process().service.infer(caller, input));
    const [first] = await db.admin<{ request_hash: Buffer; salt: Buffer }>(
      'SELECT * FROM inference_idempotency WHERE tenant_id = $1',
      [caller.tenantId],
    );
    expect(JSON.stringify(first)).not.toContain('secret-key');
    const other = testCaller();
    await collect(await process().service.infer(other, input));
    const [second] = await db.admin<{ request_hash: Buffer }>(
      'SELECT * FROM inference_idempotency WHERE tenant_id = $1',
      [other.tenantId],
    );
    expect(second?.request_hash.equals(first?.request_hash ?? Buffer.alloc(0))).toBe(false);
  });
});
