import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { deferred } from '../../../src/engine/deferred.ts';
import { PatchbayError } from '../../../src/kernel/errors.ts';
import { createTestDatabase, type TestDatabase } from '../../kit/postgres.ts';
import { freePricer } from '../../kit/unpriced.ts';
import { plainInput, recordsOf, startProcess, type TestProcess, testCaller } from './harness.ts';

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
  expect(await db.admin('SELECT id FROM inference_request')).toEqual([]);
});

describe('a refusal', () => {
  it('by the limit of live requests names the limit and when to retry', async () => {
    const small = await startProcess(db, { inference: { liveRequestsMax: 1 } });
    const stream = await small.service.infer(testCaller(), plainInput());
    await expect(small.service.infer(testCaller(), plainInput())).rejects.toMatchObject({
      code: 'ENGINE_FULL',
      meta: { liveRequestsMax: 1, retryAfterMs: 1_000 },
    });
    await stream.return?.();
    await small.close();
  });

  it('meters nothing and writes nothing when the engine is full', async () => {
    const caller = testCaller();
    api.engine.refusals.push(new PatchbayError('ENGINE_FULL', 'Full.', { meta: { retryAfterMs: 5 } }));
    await expect(api.service.infer(caller, plainInput())).rejects.toMatchObject({ code: 'ENGINE_FULL' });
    expect(await recordsOf(db, caller.tenantId)).toEqual([]);
  });

  it.each([
    ['no adapter and no explicit backbone', { plainBackbone: false }, 'BAD_INPUT'],
    ['an adapter and the plain backbone', { adapters: [{ adapter: 'x' }] }, 'BAD_INPUT'],
    ['two prompts', { prompt: 'x' }, 'BAD_INPUT'],
    ['an unknown adapter', { plainBackbone: false, adapters: [{ adapter: 'x' }] }, 'ADAPTER_NOT_FOUND'],
    ['a token out of range', { promptIds: [1_000] }, 'TOKEN_OUT_OF_RANGE'],
    ['a prompt that is too long', { maxTokens: 4_095 }, 'PROMPT_TOO_LONG'],
    ['a bad temperature', { sampling: { temperature: -1 } }, 'SAMPLING_INVALID'],
  ])('names the fault: %s', async (_name, more, code) => {
    const caller = testCaller();
    await expect(api.service.infer(caller, plainInput(3, more))).rejects.toMatchObject({ code });
    expect(await recordsOf(db, caller.tenantId)).toEqual([]);
    expect(api.engine.all).toEqual([]);
  });

  it('of too many adapters comes before any of them is looked for', async () => {
    const adapters = Array.from({ length: 5 }, (_, i) => ({ adapter: `a${i}` }));
    const { promptIds: _, ...input } = plainInput(1, { plainBackbone: false, adapters, prompt: 'x' });
    await expect(api.service.infer(testCaller(), input)).rejects.toMatchObject({
      code: 'BLEND_INVALID',
      field: 'adapters',
    });
    expect(api.work).toEqual({ resolved: 0, encoded: 0 });
  });

  it.each([
    ['prompt', { prompt: 'x'.repeat(8_193) }],
    ['messages', { messages: [1, 2].map(() => ({ role: 'user', content: 'x'.repeat(4_096) })) }],
  ])('of a text that cannot fit comes before it is encoded: %s', async (field, source) => {
    const input = { plainBackbone: true, ...source };
    await expect(api.service.infer(testCaller(), input)).rejects.toMatchObject({
      code: 'PROMPT_TOO_LONG',
      field,
    });
    expect(api.work.encoded).toBe(0);
  });

  it('comes for a key that was revoked while its request was being admitted', async () => {
    const entered = deferred<void>();
    const released = deferred<void>();
    const slow = await startProcess(db, {
      pricer: () => ({
        price: async (...asked) => {
          entered.resolve();
          await released.promise;
          return freePricer.price(...asked);
        },
      }),
    });
    const caller = testCaller();
    const input = plainInput(1, { idempotencyKey: 'revoked meanwhile' });
    const refused = slow.service.generate(caller, input).catch((error: unknown) => error);
    const other = slow.service.infer({ ...caller, keyId: testCaller().keyId }, plainInput());
    await entered.promise;
    slow.service.cancelKey(caller.keyId);
    released.resolve();
    expect(await refused).toMatchObject({ code: 'UNAUTHENTICATED' });
    const stream = await other;
    expect(slow.engine.all).toHaveLength(1);
    await stream.return?.();
    // What never ran left nothing, and its idempotency key is free.
    expect(
      await db.admin('SELECT FROM inference_idempotency WHERE tenant_id = $1', [caller.tenantId]),
    ).toEqual([]);
    expect(await recordsOf(db, caller.tenantId)).toHaveLength(1);
    await slow.close();
  });

  it('refuses a key without the scope', async () => {
    const caller = { ...testCaller(), scopes: ['usage:read'] };
    await expect(api.service.infer(caller, plainInput())).rejects.toMatchObject({ code: 'FORBIDDEN' });
  });
});
