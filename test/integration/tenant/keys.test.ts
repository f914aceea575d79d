import { randomUUID } from 'node:crypto';
import type { QueryResultRow } from 'pg';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Authenticator } from '../../../src/auth/authenticator.ts';
import { generateKey, hashKey } from '../../../src/auth/key-format.ts';
import { OPERATOR_SCOPES, SYSTEM_ACTOR } from '../../../src/auth/principal.ts';
import { listen } from '../../../src/db/listen.ts';
import { deferred } from '../../../src/engine/deferred.ts';
import type { Clock } from '../../../src/kernel/clock.ts';
import { KEY_REVOKED_CHANNEL } from '../../../src/tenant/revocation.ts';
import { createTestDatabase, type TestDatabase } from '../../kit/postgres.ts';
import { createTenancy, TEST_PEPPER, type TestTenancy } from '../../kit/tenancy.ts';
import { waitFor } from '../../kit/wait.ts';
import { cli } from '../../unit/cli/fake-io.ts';

/** A clock that stands until it is moved. */
class ManualClock implements Clock {
  private ms = Date.UTC(2026, 0, 1);
  nowMs(): number {
    return this.ms;
  }
  monotonicMs(): number {
    return this.ms;
  }
  advance(ms: number): void {
    this.ms += ms;
  }
}

let db: TestDatabase;
let clock: ManualClock;
let tenancy: TestTenancy;
let alice: string;
let bob: string;

beforeAll(async () => {
  db = await createTestDatabase();
  clock = new ManualClock();
  tenancy = createTenancy(db.database, clock);
  alice = (await tenancy.createTenant('alice')).id;
  bob = (await tenancy.createTenant('bob')).id;
});
afterAll(async () => {
  await tenancy.authenticator.close();
  await db.dispose();
});

const input = (more: object = {}) => ({
  idempotencyKey: randomUUID(),
  tenantId: null,
  name: 'ci',
  scopes: null,
  expiresAt: null,
  ...more,
});
const refusal = { code: 'UNAUTHENTICATED', message: 'The API key is missing or not valid.' };
/** Authenticates past the cache. */
const fresh = (header: string) => {
  tenancy.authenticator.forget();
  return tenancy.authenticator.authenticate(header);
};

describe('authentication', () => {
  test('a key authenticates as its tenant with its scopes', async () => {
    const { header, principal } = await tenancy.createKey(alice, ['infer']);
    expect(principal).toMatchObject({ kind: 'TENANT', tenantId: alice, scopes: ['infer'] });
    expect(await fresh(header)).toEqual(principal);
  });

  test('whatever is wrong with a key, the refusal is the same', async () => {
    const unknown = generateKey('TENANT', (size) => crypto.getRandomValues(new Uint8Array(size)));
    const headers = [undefined, '', 'Bearer', 'Basic eDp5', 'Bearer pbt_short', `Bearer ${unknown}`];
    for (const header of headers) {
      await expect(tenancy.authenticator.authenticate(header)).rejects.toMatchObject(refusal);
    }
    const wrongPepper = new Authenticator({ pepper: 'other' }, { database: db.database, clock });
    const { header } = await tenancy.createKey(alice);
    await expect(wrongPepper.authenticate(header)).rejects.toMatchObject(refusal);
    await wrongPepper.close();
  });

  test('only a keyed hash is stored, and the secret is nowhere in the database', async () => {
    const { secret, principal } = await tenancy.createKey(alice);
    const [row] = await db.admin<{ key_hash: Uint8Array }>('SELECT key_hash FROM api_key WHERE id = $1', [
      principal.keyId,
    ]);
    expect(new Uint8Array(row?.key_hash ?? [])).toEqual(hashKey(TEST_PEPPER, secret));
    const tables = await db.admin<{ text: string }>(
      `SELECT a::text AS text FROM api_key a UNION ALL SELECT i::text FROM idempotency_key i
       UNION ALL SELECT l::text FROM audit_log l`,
    );
    expect(tables.filter((table) => table.text.includes(secret))).toEqual([]);
  });

  test('the definer function answers only to the exact hash, and only the app role may ask', async () => {
    const { secret } = await tenancy.createKey(alice);
    const ask = (hash: Uint8Array) =>
      db.database.queryApp('SELECT * FROM patchbay.find_api_key($1)', [Buffer.from(hash)]);
    const hash = hashKey(TEST_PEPPER, secret);
    expect(await ask(hash)).toHaveLength(1);
    expect(await ask(hash.slice(0, 31))).toEqual([]);
    await expect(
      db.database.querySystem('SELECT * FROM patchbay.find_api_key($1)', [Buffer.from(hash)]),
    ).rejects.toMatchObject({ code: '42501' });
  });

  test('an answer that was on its way when everything was forgotten is asked for again', async () => {
    const { secret, principal } = await tenancy.createKey(alice);
    const gates = [deferred<void>(), deferred<void>()];
    let asked = 0;
    const slow = new Authenticator(
      { pepper: TEST_PEPPER },
      {
        clock,
        database: {
          querySystem: (text, values) => db.database.querySystem(text, values),
          async queryApp<R extends QueryResultRow>(text: string, values: readonly unknown[]) {
            const rows = await db.database.queryApp<R>(text, values);
            asked += 1;
            await gates[asked - 1]?.promise;
            return rows;
          },
        },
      },
    );
    const answer = slow.authenticate(`Bearer ${secret}`).catch((error: unknown) => error);
    await waitFor(() => asked === 1);
    await tenancy.keys.revoke(SYSTEM_ACTOR, principal.keyId);
    slow.forget();
    for (const gate of gates) gate.resolve();
    expect(await answer).toMatchObject(refusal);
    expect(asked).toBe(2);
    await slow.close();
  });

  test('a revoked key stops working within a second even where it is cached, and other processes are told', async () => {
    const { header, principal } = await tenancy.createKey(alice);
    const heard: string[] = [];
    const listener = await listen(
      { url: db.appUrl, channels: [KEY_REVOKED_CHANNEL] },
      { notified: (_channel, payload) => heard.push(payload) },
    );
    await tenancy.authenticator.authenticate(header);
    await tenancy.keys.revoke(SYSTEM_ACTOR, principal.keyId);
    clock.advance(999);
    await tenancy.authenticator.authenticate(header);
    clock.advance(1);
    await expect(tenancy.authenticator.authenticate(header)).rejects.toMatchObject(refusal);
    await waitFor(() => heard.includes(principal.keyId));
    await listener.close();
    // Revoking again is a success that changes and says nothing.
    const again = await tenancy.keys.revoke(SYSTEM_ACTOR, principal.keyId);
    expect(again.revokedAt).not.toBeNull();
    const audit = await db.admin(
      `SELECT 1 FROM audit_log WHERE action = 'apiKey.revoke' AND target_id = $1`,
      [principal.keyId],
    );
    expect(audit).toHaveLength(1);
  });

  test('a key of a suspended tenant and an expired key do not authenticate', async () => {
    const carol = (await tenancy.createTenant('carol')).id;
    const { header } = await tenancy.createKey(carol);
    await db.database.withSystem((tx) =>
      tx.tenant.updateMany({ where: { id: carol }, data: { state: 'SUSPENDED' } }),
    );
    await expect(fresh(header)).rejects.toMatchObject(refusal);
    const expiresAt = new Date(clock.nowMs() + 1_000);
    const { secret } = await tenancy.keys.create(SYSTEM_ACTOR, input({ tenantId: alice, expiresAt }));
    await fresh(`Bearer ${secret}`);
    clock.advance(1_000);
    await expect(tenancy.authenticator.authenticate(`Bearer ${secret}`)).rejects.toMatchObject(refusal);
  });

  test('the use of a key that was valid once is recorded with the reason, once a minute and only for requests', async () => {
    const dora = (await tenancy.createTenant('dora')).id;
    const { header, principal } = await tenancy.createKey(dora);
    const lines = async () => {
      // Waits for what is being recorded.
      await tenancy.authenticator.close();
      return db.admin(
        `SELECT outcome::text, action, actor_key_id, target_id, before, after, request_id FROM audit_log
         WHERE tenant_id = $1 AND action = 'apiKey.use' ORDER BY id`,
        [dora],
      );
    };
    const use = async (authorization: string, requestId?: string) => {
      tenancy.authenticator.forget();
      await expect(tenancy.authenticator.authenticate(authorization, requestId)).rejects.toMatchObject(
        refusal,
      );
    };
    await tenancy.authenticator.authenticate(header, 'fine');
    await tenancy.keys.revoke(SYSTEM_ACTOR, principal.keyId);
    // The program's own check of an open socket is nobody's attempt.
    await use(header);
    expect(await lines()).toEqual([]);
    await use(header, 'first');
    await use(header, 'second');
    const line = {
      outcome: 'DENIED',
      action: 'apiKey.use',
      actor_key_id: principal.keyId,
      target_id: principal.keyId,
      before: null,
      after: { reason: 'REVOKED' },
      request_id: 'first',
    };
    expect(await lines()).toEqual([line]);
    clock.advance(60_000);
    await use(header, 'third');
    expect(await lines()).toEqual([line, { ...line, request_id: 'third' }]);
    const expiresAt = new Date(clock.nowMs() + 1_000);
    const { key, secret } = await tenancy.keys.create(SYSTEM_ACTOR, input({ tenantId: dora, expiresAt }));
    clock.advance(1_000);
    await use(`Bearer ${secret}`, 'late');
    const other = await tenancy.createKey(dora);
    await db.database.withSystem((tx) =>
      tx.tenant.updateMany({ where: { id: dora }, data: { state: 'SUSPENDED' } }),
    );
    // Ids of one millisecond are in no order.
    clock.advance(1);
    await use(other.header, 'suspended');
    expect((await lines()).slice(2)).toMatchObject([
      { target_id: key.id, after: { reason: 'EXPIRED' }, request_id: 'late' },
      { target_id: other.principal.keyId, after: { reason: 'TENANT_SUSPENDED' }, request_id: 'suspended' },
    ]);
    // Nobody's key is nobody's attempt.
    await use(`Bearer ${generateKey('TENANT', () => new Uint8Array(32))}`, 'unknown');
    expect(await db.admin(`SELECT 1 FROM audit_log WHERE request_id = 'unknown'`)).toEqual([]);
  });

  test('reads of a key that show nothing are recorded up to a bound in a minute', async () => {
    const erik = (await tenancy.createTenant('erik')).id;
    const { principal } = await tenancy.createKey(erik);
    const attempt = { action: 'query.node', targetType: 'apiKey', targetId: randomUUID(), context: {} };
    const lines = async () =>
      (await db.admin(`SELECT 1 FROM audit_log WHERE tenant_id = $1 AND action = 'query.node'`, [erik]))
        .length;
    for (let i = 0; i < 62; i += 1) await tenancy.audit.unseen(principal, attempt);
    expect(await lines()).toBe(60);
    clock.advance(60_000);
    await tenancy.audit.unseen(principal, attempt);
    expect(await lines()).toBe(61);
  });

  test('last-used times are written in batches and never go back', async () => {
    const { header, principal } = await tenancy.createKey(alice);
    await fresh(header);
    const usedAt = clock.nowMs();
    await tenancy.authenticator.flush();
    expect((await tenancy.keys.get(SYSTEM_ACTOR, principal.keyId))?.lastUsedAt?.getTime()).toBe(usedAt);
  });
});

describe('the life of a key', () => {
  test('rotation with overlap keeps both keys until it ends; without, the old one stops at once', async () => {
    const { header, principal } = await tenancy.createKey(alice, ['infer', 'usage:read']);
    const rotate = (id: string, overlapMs: number) =>
      tenancy.keys.rotate(SYSTEM_ACTOR, { idempotencyKey: randomUUID(), id, overlapMs });
    const second = await rotate(principal.keyId, 60_000);
    expect(second.key).toMatchObject({ scopes: ['infer', 'usage:read'], rotatedFrom: principal.keyId });
    await fresh(header);
    await fresh(`Bearer ${second.secret}`);
    clock.advance(60_000);
    await expect(fresh(header)).rejects.toMatchObject(refusal);
    const third = await rotate(second.key.id, 0);
    await expect(fresh(`Bearer ${second.secret}`)).rejects.toMatchObject(refusal);
    await fresh(`Bearer ${third.secret}`);
  });

  test('a key is rotated at most once, however many try', async () => {
    const { principal } = await tenancy.createKey(alice);
    const attempts = Array.from({ length: 8 }, () =>
      tenancy.keys.rotate(SYSTEM_ACTOR, {
        idempotencyKey: randomUUID(),
        id: principal.keyId,
        overlapMs: 60_000,
      }),
    );
    const results = await Promise.allSettled(attempts);
    expect(results.filter((result) => result.status === 'fulfilled')).toHaveLength(1);
    for (const result of results) {
      if (result.status === 'rejected') expect(result.reason).toMatchObject({ code: 'KEY_STATE' });
    }
  });

  test('a retry of a creation gets the same key and secret; other arguments are a conflict', async () => {
    const { principal } = await tenancy.createKey(alice);
    const first = input({ name: 'once' });
    const results = await Promise.all(Array.from({ length: 8 }, () => tenancy.keys.create(principal, first)));
    expect(new Set(results.map((result) => result.secret)).size).toBe(1);
    expect(new Set(results.map((result) => result.key.id)).size).toBe(1);
    await expect(tenancy.keys.create(principal, { ...first, name: 'twice' })).rejects.toMatchObject({
      code: 'IDEMPOTENCY_CONFLICT',
    });
    const sameKeyOfAnotherActor = await tenancy.keys.create(SYSTEM_ACTOR, { ...first, tenantId: alice });
    expect(sameKeyOfAnotherActor.secret).not.toBe(results[0]?.secret);
  });

  test('nobody grants or rotates their way to more than they have', async () => {
    const { principal } = await tenancy.createKey(alice, ['keys:write', 'infer']);
    const strong = await tenancy.createKey(alice, ['payouts:write']);
    await expect(tenancy.keys.create(principal, input({ scopes: ['payouts:write'] }))).rejects.toMatchObject({
      code: 'FORBIDDEN',
    });
    await expect(
      tenancy.keys.rotate(principal, {
        idempotencyKey: randomUUID(),
        id: strong.principal.keyId,
        overlapMs: 0,
      }),
    ).rejects.toMatchObject({ code: 'FORBIDDEN' });
    await expect(tenancy.keys.create(principal, input({ scopes: ['no:such'] }))).rejects.toMatchObject({
      code: 'BAD_INPUT',
    });
  });

  test('an operator’s key has every scope unless others are named; no tenant’s has what is for operators', async () => {
    // As the first start makes it.
    const { principal } = await tenancy.createOperatorKey();
    expect(principal.scopes).toEqual([...OPERATOR_SCOPES].sort());
    await expect(
      tenancy.keys.create(principal, input({ tenantId: alice, scopes: ['tenants:write'] })),
    ).rejects.toMatchObject({ code: 'BAD_INPUT', field: 'scopes' });
  });

  test('an operator’s key that is made on the machine comes from no other, so it can be a second person’s', async () => {
    const environment = { DATABASE_URL: db.adminUrl, PATCHBAY_SECRET: db.secret };
    const command = ['operator-key', 'Grace', '--scope', 'payouts:write'];
    const { code, out } = await cli(command, { environment });
    expect(code).toBe(0);
    const authenticator = new Authenticator({ pepper: db.secret }, { database: db.database, clock });
    const grace = await authenticator.authenticate(`Bearer ${out.trimEnd()}`);
    await authenticator.close();
    expect(grace).toMatchObject({ kind: 'OPERATOR', scopes: ['payouts:write'] });
    const first = await tenancy.createOperatorKey();
    const made = await tenancy.keys.create(first.principal, input({ tenantId: null }));
    const isSame = async (one: string, other: string) => {
      const text = 'SELECT patchbay.is_same_person($1, $2) AS same';
      const [row] = await db.database.querySystem<{ same: boolean }>(text, [one, other]);
      return row?.same;
    };
    expect(await isSame(first.principal.keyId, grace.keyId)).toBe(false);
    expect(await isSame(made.key.id, grace.keyId)).toBe(false);
    expect(await isSame(made.key.id, first.principal.keyId)).toBe(true);
    expect(await isSame(grace.keyId, randomUUID())).toBe(true);
    const wrong = await cli(['operator-key', 'Eve', '--scope', 'no:such'], { environment });
    expect(wrong.err).toContain('tenants:write');
  });

  test('a denied attempt is in the audit log of the one who tried', async () => {
    const { principal } = await tenancy.createKey(alice, ['infer']);
    const attempt = tenancy.keys.create(principal, input(), { requestId: 'req-1' });
    await expect(attempt).rejects.toMatchObject({ code: 'FORBIDDEN' });
    const rows = await db.database.withTenant(alice, (tx) =>
      tx.auditLog.findMany({ where: { outcome: 'DENIED', actorKeyId: principal.keyId } }),
    );
    expect(rows).toMatchObject([{ action: 'apiKey.create', requestId: 'req-1', tenantId: alice }]);
  });

  test('a key that is revoked while it is rotated gets no successor', async () => {
    const { principal } = await tenancy.createKey(alice);
    const id = principal.keyId;
    let rotation: Promise<unknown> = Promise.resolve();
    await db.database.withSystemPg(async (client) => {
      await client.query('UPDATE api_key SET revoked_at = now() WHERE id = $1', [id]);
      const { rows } = await client.query<{ pid: number }>('SELECT pg_backend_pid() AS pid');
      rotation = tenancy.keys
        .rotate(SYSTEM_ACTOR, { idempotencyKey: randomUUID(), id, overlapMs: 0 })
        .catch((error: unknown) => error);
      await waitFor(
        async () => {
          const waits = 'SELECT 1 FROM pg_stat_activity WHERE $1 = ANY (pg_blocking_pids(pid))';
          return (await db.admin(waits, [rows[0]?.pid])).length > 0;
        },
        { what: 'the rotation to wait for the revocation' },
      );
    });
    expect(await rotation).toMatchObject({ code: 'KEY_STATE' });
    expect(await db.admin('SELECT 1 FROM api_key WHERE rotated_from = $1', [id])).toEqual([]);
  });

  test("another tenant's keys can be neither read, revoked, rotated, listed nor told from none", async () => {
    const theirs = await tenancy.createKey(alice);
    const { principal } = await tenancy.createKey(bob);
    const { keyId } = theirs.principal;
    const none = randomUUID();
    expect(await tenancy.keys.get(principal, keyId)).toBeNull();
    for (const id of [keyId, none]) {
      await expect(tenancy.keys.revoke(principal, id)).rejects.toMatchObject({ code: 'NOT_FOUND' });
      await expect(
        tenancy.keys.rotate(principal, { idempotencyKey: randomUUID(), id, overlapMs: 0 }),
      ).rejects.toMatchObject({ code: 'NOT_FOUND' });
    }
    for (const tenantId of [alice, none]) {
      await expect(tenancy.keys.create(principal, input({ tenantId }))).rejects.toMatchObject({
        code: 'NOT_FOUND',
      });
      await expect(tenancy.keys.list(principal, tenantId, { first: 10, after: null })).rejects.toMatchObject({
        code: 'NOT_FOUND',
      });
    }
  });

  test('a page ends where the next begins', async () => {
    const dave = (await tenancy.createTenant('dave')).id;
    const ids: string[] = [];
    for (let i = 0; i < 5; i += 1) {
      clock.advance(1);
      ids.push((await tenancy.createKey(dave)).principal.keyId);
    }
    const first = await tenancy.keys.list(SYSTEM_ACTOR, dave, { first: 3, after: null });
    const second = await tenancy.keys.list(SYSTEM_ACTOR, dave, {
      first: 3,
      after: first.items.at(-1)?.id ?? null,
    });
    expect([...first.items, ...second.items].map((key) => key.id)).toEqual(ids);
    expect([first.hasNextPage, second.hasNextPage]).toEqual([true, false]);
  });
});

describe('tenants', () => {
  test('operators create and list them; a tenant reads itself and no other', async () => {
    const operator = await tenancy.createOperatorKey();
    expect(operator.principal.kind).toBe('OPERATOR');
    const create = { idempotencyKey: randomUUID(), name: 'Eve', slug: 'eve' };
    const eve = await tenancy.tenants.create(operator.principal, create);
    expect(await tenancy.tenants.create(operator.principal, create)).toEqual(eve);
    const { principal } = await tenancy.createKey(eve.id);
    expect(await tenancy.tenants.get(principal, eve.id)).toEqual(eve);
    expect(await tenancy.tenants.get(principal, alice)).toBeNull();
    const all = await tenancy.tenants.list(operator.principal, { first: 100, after: null });
    expect(all.items.map((tenant) => tenant.slug)).toEqual(expect.arrayContaining(['alice', 'bob', 'eve']));
    expect(all.items.map((tenant) => tenant.slug)).not.toContain('platform');
  });

  test('a taken slug is named, and a tenant may not create tenants', async () => {
    const create = (slug: string) => ({ idempotencyKey: randomUUID(), name: 'x', slug });
    await expect(tenancy.tenants.create(SYSTEM_ACTOR, create('alice'))).rejects.toMatchObject({
      code: 'NAME_TAKEN',
      field: 'slug',
    });
    await expect(tenancy.tenants.create(SYSTEM_ACTOR, create('No!'))).rejects.toMatchObject({
      field: 'slug',
    });
    const { principal } = await tenancy.createKey(bob);
    await expect(tenancy.tenants.create(principal, create('mine'))).rejects.toMatchObject({
      code: 'FORBIDDEN',
    });
  });
});
