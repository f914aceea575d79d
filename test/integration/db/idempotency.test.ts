import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { z } from 'zod';
import { SYSTEM_ACTOR } from '../../../src/auth/principal.ts';
import {
  hashRequest,
  type IdempotencyRequest,
  type Json,
  purgeIdempotencyKeys,
  runIdempotent,
} from '../../../src/db/idempotency.ts';
import { systemClock } from '../../../src/kernel/clock.ts';
import { recordAudit } from '../../../src/tenant/audit.ts';
import { createTestDatabase, type TestDatabase } from '../../kit/postgres.ts';
import { createTenancy } from '../../kit/tenancy.ts';

let db: TestDatabase;
let tenantId: string;
let otherTenantId: string;

beforeAll(async () => {
  db = await createTestDatabase();
  const tenancy = createTenancy(db.database);
  tenantId = (await tenancy.createTenant()).id;
  otherTenantId = (await tenancy.createTenant()).id;
});
afterAll(() => db.dispose());

const codec = z.object({ n: z.number() });

function request(key: string, args: Json, owner = tenantId): IdempotencyRequest {
  return {
    scope: { tenantId: owner, actor: 'TENANT' },
    operation: 'test',
    key,
    requestHash: hashRequest(args),
  };
}

/** Runs an operation whose effect is one audit record named after the key. */
function run(
  key: string,
  args: Json,
  options: { waitMs?: number; before?: () => Promise<void>; owner?: string } = {},
) {
  const owner = options.owner ?? tenantId;
  return db.database.withTenant(owner, (tx) =>
    runIdempotent(request(key, args, owner), tx, { codec, clock: systemClock, ...options }, async () => {
      await options.before?.();
      await recordAudit(tx, systemClock, {
        tenantId: owner,
        actor: SYSTEM_ACTOR,
        action: key,
        targetType: 'test',
        targetId: null,
        context: {},
      });
      return { n: Math.random() };
    }),
  );
}

async function effects(key: string): Promise<number> {
  return (await db.admin('SELECT 1 FROM audit_log WHERE action = $1', [key])).length;
}

describe('idempotency', () => {
  test('32 concurrent calls with one key have one effect and one answer', async () => {
    const key = randomUUID();
    const answers = await Promise.all(Array.from({ length: 32 }, () => run(key, { a: 1 })));
    expect(new Set(answers.map((answer) => answer.value.n)).size).toBe(1);
    expect(answers.filter((answer) => !answer.replayed)).toHaveLength(1);
    expect(await effects(key)).toBe(1);
  });

  test('the same key with other arguments is a conflict and has no effect', async () => {
    const key = randomUUID();
    await run(key, { a: 1 });
    await expect(run(key, { a: 2 })).rejects.toMatchObject({ code: 'IDEMPOTENCY_CONFLICT' });
    expect(await effects(key)).toBe(1);
  });

  test('work that fails leaves no record, so that a retry runs it', async () => {
    const key = randomUUID();
    const fail = () => Promise.reject(new Error('boom'));
    await expect(run(key, {}, { before: fail })).rejects.toThrow('boom');
    expect((await run(key, {})).replayed).toBe(false);
    expect(await effects(key)).toBe(1);
  });

  test('a duplicate waits no longer than allowed for one that is still running', async () => {
    const key = randomUUID();
    let finish = () => {};
    let begun = () => {};
    const started = new Promise<void>((resolve) => {
      begun = resolve;
    });
    const gate = new Promise<void>((resolve) => {
      finish = resolve;
    });
    const first = run(
      key,
      {},
      {
        before: () => {
          begun();
          return gate;
        },
      },
    );
    await started;
    await expect(run(key, {}, { waitMs: 50 })).rejects.toMatchObject({ code: 'IDEMPOTENCY_IN_PROGRESS' });
    finish();
    const { value } = await first;
    expect(await run(key, {})).toEqual({ value, replayed: true });
  });

  test('two tenants with the same key do not meet', async () => {
    const key = randomUUID();
    expect((await run(key, { a: 1 })).replayed).toBe(false);
    expect((await run(key, { a: 2 }, { owner: otherTenantId })).replayed).toBe(false);
  });

  test('a key that is empty or too long is refused by its field', async () => {
    const refusal = { code: 'BAD_INPUT', field: 'idempotencyKey' };
    await expect(run('', {})).rejects.toMatchObject(refusal);
    await expect(run('x'.repeat(201), {})).rejects.toMatchObject(refusal);
  });

  test('purging forgets old records only', async () => {
    const key = randomUUID();
    await run(key, {});
    expect(await purgeIdempotencyKeys(db.database, Date.now() - 60_000)).toBe(0);
    expect((await run(key, {})).replayed).toBe(true);
    expect(await purgeIdempotencyKeys(db.database, Date.now() + 60_000)).toBeGreaterThan(0);
    expect((await run(key, {})).replayed).toBe(false);
  });
});
