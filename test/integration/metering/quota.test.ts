import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { Caller } from '../../../src/inference/ports.ts';
import { systemClock } from '../../../src/kernel/clock.ts';
import { PatchbayError } from '../../../src/kernel/errors.ts';
import { newId } from '../../../src/kernel/ids.ts';
import { NO_QUOTAS } from '../../../src/kernel/quota.ts';
import { QuotaService } from '../../../src/tenant/quotas.ts';
import { createTestDatabase, type TestDatabase } from '../../kit/postgres.ts';
import {
  collect,
  endOf,
  plainInput,
  quiesce,
  startProcess,
  type TestProcess,
  testCaller,
} from '../inference/harness.ts';

const LIMITS = {
  ...NO_QUOTAS,
  REQUESTS_PER_MINUTE: 3,
  PROMPT_TOKENS_PER_MINUTE: 50,
  COMPLETION_TOKENS_PER_MINUTE: 100,
  CONCURRENT_STREAMS: 2,
};

let db: TestDatabase;
let api: TestProcess;
let caller: Caller;

beforeAll(async () => {
  db = await createTestDatabase();
  api = await startProcess(db, { recorder: { quotas: LIMITS } });
});
afterAll(async () => {
  await api.close();
  await db.dispose();
});
beforeEach(() => {
  caller = testCaller();
});

const input = (prompt: number, maxTokens: number) => plainInput(prompt, { maxTokens });

/** The refusal of a request, which must be refused. */
async function refusalOf(attempt: Promise<unknown>): Promise<PatchbayError> {
  const error = await attempt.then(
    () => null,
    (thrown: unknown) => thrown,
  );
  if (error instanceof PatchbayError) return error;
  throw new Error(`It was not refused: ${error}`);
}

/** Runs a request that generates so many tokens. */
async function run(prompt: number, maxTokens: number, tokens: number): Promise<void> {
  const index = api.engine.all.length;
  const stream = await api.service.infer(caller, input(prompt, maxTokens));
  const sequence = await api.engine.sequence(index);
  if (tokens > 0) sequence.emit(...Array.from({ length: tokens }, (_, i) => i + 1));
  sequence.end('stop');
  expect(endOf(await collect(stream))).toMatchObject({ finishReason: 'stop' });
  await quiesce(api);
}

/** Lets time pass for the tenant's window. */
async function pass(slots: number): Promise<void> {
  // Rotating the counters with the head keeps each in its slot.
  const rotate = (column: string) =>
    `(SELECT array_agg(${column}[1 + (i + $2) % 13] ORDER BY i) FROM generate_series(0, 12) i)`;
  await db.admin(
    `UPDATE quota_window SET head = head - $2::int, requests = ${rotate('requests')},
       prompt_tokens = ${rotate('prompt_tokens')}, completion_tokens = ${rotate('completion_tokens')}
     WHERE tenant_id = $1`,
    [caller.tenantId, slots],
  );
}

async function window() {
  const [row] = await db.admin<{ requests: string; prompt: string; completion: string }>(
    `SELECT patchbay.quota_used(requests, head, patchbay.quota_slot(now())) AS requests,
            patchbay.quota_used(prompt_tokens, head, patchbay.quota_slot(now())) AS prompt,
            patchbay.quota_used(completion_tokens, head, patchbay.quota_slot(now())) AS completion
     FROM quota_window WHERE tenant_id = $1`,
    [caller.tenantId],
  );
  return row;
}

describe('a quota', () => {
  test('refuses with its name, limit and when to retry, and writes nothing', async () => {
    for (let i = 0; i < 3; i += 1) await run(1, 1, 1);
    const before = api.engine.all.length;
    const error = await refusalOf(api.service.infer(caller, input(1, 1)));
    expect(error.code).toBe('QUOTA_EXCEEDED');
    expect(error.meta).toMatchObject({ quota: 'REQUESTS_PER_MINUTE', limit: 3, used: 3, requested: 1 });
    const { retryAfterMs } = error.meta;
    expect(retryAfterMs).toBeGreaterThan(55_000);
    expect(retryAfterMs).toBeLessThanOrEqual(65_000);
    expect(api.engine.all).toHaveLength(before);
    expect(await db.admin('SELECT 1 FROM inference_request WHERE tenant_id = $1', [caller.tenantId])).toEqual(
      [],
    );
  });

  test('leaves the idempotency key of a refused request free', async () => {
    const stream = await api.service.infer(caller, input(1, 100));
    const keyed = { ...input(1, 1), idempotencyKey: 'once' };
    expect((await refusalOf(api.service.infer(caller, keyed))).code).toBe('QUOTA_EXCEEDED');
    await stream.return?.();
    await quiesce(api);
    const index = api.engine.all.length;
    const again = await api.service.infer(caller, keyed);
    (await api.engine.sequence(index)).end('stop');
    expect(endOf(await collect(again))).toMatchObject({ replayed: false });
  });

  test('opens as its window moves, not before', async () => {
    for (let i = 0; i < 3; i += 1) await run(1, 1, 1);
    await pass(11);
    expect((await refusalOf(api.service.infer(caller, input(1, 1)))).meta).toMatchObject({ used: 3 });
    await pass(2);
    await run(1, 1, 1);
    expect(await window()).toEqual({ requests: '1', prompt: '1', completion: '1' });
  });

  test('reserves as many tokens as may be generated, and gives back those that were not', async () => {
    await run(10, 80, 5);
    expect(await window()).toEqual({ requests: '1', prompt: '10', completion: '5' });
    await run(10, 95, 95);
    expect((await refusalOf(api.service.infer(caller, input(1, 1)))).meta).toMatchObject({
      quota: 'COMPLETION_TOKENS_PER_MINUTE',
      used: 100,
    });
  });

  test('gives everything back when the engine refuses', async () => {
    api.engine.refusals.push(new PatchbayError('ENGINE_FULL', 'Full.'));
    expect((await refusalOf(api.service.infer(caller, input(10, 80)))).code).toBe('ENGINE_FULL');
    expect(await window()).toEqual({ requests: '0', prompt: '0', completion: '0' });
  });

  test('that a request alone exceeds says that waiting does not help', async () => {
    const error = await refusalOf(api.service.infer(caller, input(51, 1)));
    expect(error.meta).toMatchObject({
      quota: 'PROMPT_TOKENS_PER_MINUTE',
      requested: 51,
      used: 0,
      retryAfterMs: null,
    });
  });

  test('of streams frees itself when one ends', async () => {
    const first = await api.service.infer(caller, input(1, 1));
    const second = await api.service.infer(caller, input(1, 1));
    expect((await refusalOf(api.service.infer(caller, input(1, 1)))).meta).toMatchObject({
      quota: 'CONCURRENT_STREAMS',
      limit: 2,
      used: 2,
      retryAfterMs: 1_000,
    });
    await first.return?.();
    await quiesce(api);
    const third = await api.service.infer(caller, input(1, 1));
    await second.return?.();
    await third.return?.();
  });

  test('of streams counts nothing of a lost process, neither where it is shown nor where it refuses', async () => {
    const [lost, request] = [newId(systemClock), newId(systemClock)];
    await db.admin(
      `INSERT INTO instance (id, host, pid, shard, started_at, heartbeat_at, lease_expires_at, fenced_at, fence_reason)
       VALUES ($1, 'h', 1, 0, now(), now(), now(), now(), 'expired')`,
      [lost],
    );
    // It has no progress, so that nobody recovers it meanwhile.
    await db.admin(
      `INSERT INTO inference_request (
         id, tenant_id, key_id, instance_id, backbone_digest, adapters, priority_class, prompt_tokens, max_tokens, salt,
         prompt_commitment, admitted_at)
       VALUES ($1, $2, $3, $4, sha256('b'), '[]', 'STANDARD', 1, 1, sha256('s'), sha256('p'), now())`,
      [request, caller.tenantId, caller.keyId, lost],
    );
    const quotas = new QuotaService({ defaults: LIMITS }, { database: db.database, clock: systemClock });
    const reader = { ...caller, kind: 'TENANT' as const, scopes: ['usage:read'] };
    const shown = async () =>
      (await quotas.read(reader, null)).find(({ kind }) => kind === 'CONCURRENT_STREAMS');
    expect(await shown()).toMatchObject({ used: 0, left: 2 });
    const first = await api.service.infer(caller, input(1, 1));
    expect(await shown()).toMatchObject({ used: 1, left: 1 });
    const second = await api.service.infer(caller, input(1, 1));
    expect((await refusalOf(api.service.infer(caller, input(1, 1)))).meta).toMatchObject({ used: 2 });
    await first.return?.();
    await second.return?.();
    await db.admin('DELETE FROM inference_request WHERE id = $1', [request]);
  });

  test('is each tenant’s own', async () => {
    const other = testCaller();
    for (let i = 0; i < 3; i += 1) await run(1, 1, 1);
    await (await api.service.infer(other, input(1, 1))).return?.();
    expect((await refusalOf(api.service.infer(caller, input(1, 1)))).code).toBe('QUOTA_EXCEEDED');
  });
});
