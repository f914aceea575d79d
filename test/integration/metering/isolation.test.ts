import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { sqlState } from '../../../src/db/errors.ts';
import { PLATFORM_TENANT_ID } from '../../../src/db/platform.ts';
import { hashIdempotencyKey } from '../../../src/inference/input.ts';
import { systemClock } from '../../../src/kernel/clock.ts';
import { newId, type Uuid } from '../../../src/kernel/ids.ts';
import { UsageService } from '../../../src/usage/service.ts';
import { createTestDatabase, type TestDatabase } from '../../kit/postgres.ts';
import { plays } from '../inference/fake-engine.ts';
import {
  collect,
  plainInput,
  startProcess,
  type TestAdapter,
  type TestProcess,
  take,
  testAdapter,
  testCaller,
} from '../inference/harness.ts';

const caller = testCaller();
const owner = testCaller();
const stranger = testCaller();
const adapters = new Map<string, TestAdapter>([
  ['a', testAdapter('a', owner.tenantId)],
  ['b', testAdapter('b', caller.tenantId)],
]);
const period = {
  from: new Date(Date.now() - 7_200_000),
  to: new Date(Date.now() + 7_200_000),
  bucket: 'hour',
} as const;

let db: TestDatabase;
let api: TestProcess;
let usage: UsageService;

beforeAll(async () => {
  db = await createTestDatabase();
  usage = new UsageService({ database: db.database });
  api = await startProcess(db, { adapters });
  api.engine.script = plays(() => 4);
  const blend = [
    { adapter: 'a', weight: 3 },
    { adapter: 'b', weight: 1 },
  ];
  await collect(await api.service.infer(caller, plainInput(5, { plainBackbone: false, adapters: blend })));
  api.engine.script = null;
});
afterAll(async () => {
  await api.close();
  await db.dispose();
});

async function rowsAs(tenantId: Uuid, sql: string): Promise<unknown[]> {
  return db.database.withTenantPg(tenantId, async (client) => (await client.query(sql)).rows);
}

async function refusedAs(tenantId: Uuid, sql: string): Promise<void> {
  const failure = await rowsAs(tenantId, sql).then(
    () => null,
    (error: unknown) => sqlState(error),
  );
  expect(failure, sql).toBe('42501');
}

describe('an adapter owner', () => {
  it('sees what their version did, with its exact share', async () => {
    const { items } = await usage.ownedShares(owner.tenantId, { first: 10 });
    expect(items).toMatchObject([
      {
        versionId: adapters.get('a')?.versionId,
        weight: 3,
        shareNumerator: 3n,
        shareDenominator: 4n,
        completionTokens: 4,
      },
    ]);
    expect(await usage.sums(owner.tenantId, 'owner', period)).toMatchObject([
      { requests: 1n, completionTokens: 4n },
    ]);
  });

  it('does not learn who called: not by column, not by predicate, not through the record', async () => {
    await refusedAs(owner.tenantId, 'SELECT tenant_id FROM usage_share');
    await refusedAs(
      owner.tenantId,
      `SELECT count(*) FROM usage_share WHERE tenant_id = '${caller.tenantId}'`,
    );
    await refusedAs(owner.tenantId, 'SELECT * FROM usage_share');
    await refusedAs(owner.tenantId, 'SELECT request_id FROM usage_share ORDER BY tenant_id');
    expect(await rowsAs(owner.tenantId, 'SELECT id FROM usage_record')).toEqual([]);
    expect(await rowsAs(owner.tenantId, 'SELECT salt FROM usage_salt')).toEqual([]);
    const rollups = await rowsAs(owner.tenantId, 'SELECT DISTINCT tenant_id, kind FROM usage_rollup');
    expect(rollups).toEqual([{ tenant_id: owner.tenantId, kind: 'owner' }]);
  });

  it('does not see the other adapters of a blend', async () => {
    expect(await rowsAs(owner.tenantId, 'SELECT adapter_version_id FROM usage_share')).toHaveLength(1);
  });
});

describe('a caller', () => {
  it('sees their record, all shares of it, and its salt', async () => {
    const page = await usage.records(caller.tenantId, { first: 10 });
    expect(page.items).toHaveLength(1);
    expect(page.items[0]?.adapters).toHaveLength(2);
    expect(await rowsAs(caller.tenantId, 'SELECT salt FROM usage_salt')).toHaveLength(1);
  });

  it('gets the salt of their own request, and nobody else does, operators included', async () => {
    const [record] = (await usage.records(caller.tenantId, { first: 10 })).items;
    const requestId = record?.requestId ?? caller.tenantId;
    const [row] = await db.admin<{ salt: Buffer }>('SELECT salt FROM usage_salt');
    expect(await usage.commitmentSalt(caller.tenantId, requestId)).toBe(row?.salt.toString('hex'));
    for (const tenantId of [owner.tenantId, PLATFORM_TENANT_ID]) {
      expect(await usage.commitmentSalt(tenantId, requestId)).toBeNull();
    }
  });

  it('can write none of it', async () => {
    for (const table of ['usage_record', 'usage_share', 'usage_salt', 'usage_rollup', 'inference_request']) {
      await refusedAs(caller.tenantId, `DELETE FROM ${table}`);
      await refusedAs(caller.tenantId, `INSERT INTO ${table} DEFAULT VALUES`);
    }
    await refusedAs(caller.tenantId, 'UPDATE usage_record SET completion_tokens = 0');
    await refusedAs(caller.tenantId, 'UPDATE usage_rollup SET requests = 0');
  });

  it('cannot go around the policies through a partition', async () => {
    const partitions = await db.admin<{ name: string }>(
      `SELECT inhrelid::regclass::text AS name FROM pg_inherits
       WHERE inhparent IN ('usage_record'::regclass, 'usage_share'::regclass, 'usage_salt'::regclass)`,
    );
    expect(partitions.length).toBeGreaterThanOrEqual(3);
    for (const { name } of partitions) await refusedAs(caller.tenantId, `SELECT count(*) FROM ${name}`);
  });
});

describe('an idempotency key', () => {
  it('is read as its tenant: another cannot find it, and no tenant stays set', async () => {
    const keyed = await api.service.infer(caller, plainInput(1, { idempotencyKey: 'mine' }));
    await keyed.return?.();
    const hash = hashIdempotencyKey('mine');
    const { recorder } = api.metering;
    expect(await recorder.findIdempotency(caller.tenantId, hash)).toMatchObject({
      outcome: { finishReason: 'cancelled' },
    });
    expect(await recorder.findIdempotency(stranger.tenantId, hash)).toBeNull();
    const find = `SELECT * FROM patchbay.find_inference('${caller.tenantId}', '\\x${hash.toString('hex')}')`;
    // The function answers about the tenant that is set and about no other, and the statement leaves none set.
    for (const ask of [
      () => db.database.withTenantPg(stranger.tenantId, (client) => client.query(find)),
      () => db.database.queryApp(find, []),
    ]) {
      const state = await ask().then(() => null, sqlState);
      expect(state).toBe('42501');
    }
    expect(await db.database.queryApp('SELECT request_id FROM inference_idempotency', [])).toEqual([]);
    expect(await rowsAs(stranger.tenantId, 'SELECT request_id FROM inference_idempotency')).toEqual([]);
    await refusedAs(caller.tenantId, 'SELECT created_at FROM inference_idempotency');
    await refusedAs(caller.tenantId, 'DELETE FROM inference_idempotency');
  });
});

describe('anybody else', () => {
  it('sees nothing, running or settled, with a tenant or without', async () => {
    const stream = await api.service.infer(caller, plainInput());
    await take(stream);
    for (const tenantId of [stranger.tenantId, newId(systemClock)]) {
      for (const column of ['id FROM usage_record', 'request_id FROM usage_share', 'salt FROM usage_salt']) {
        expect(await rowsAs(tenantId, `SELECT ${column}`)).toEqual([]);
      }
      expect(await rowsAs(tenantId, 'SELECT kind FROM usage_rollup')).toEqual([]);
      expect(await rowsAs(tenantId, 'SELECT id FROM inference_request')).toEqual([]);
      expect(await rowsAs(tenantId, 'SELECT request_id FROM request_progress')).toEqual([]);
    }
    await refusedAs(stranger.tenantId, 'SELECT count(*) FROM instance');
    expect(await db.database.queryApp('SELECT id FROM usage_record', [])).toEqual([]);
    const running = await rowsAs(caller.tenantId, 'SELECT id FROM inference_request');
    expect(running).toHaveLength(1);
    await stream.return?.();
  });
});

describe('the facts', () => {
  it('cannot be changed by anyone, the owner of the tables included', async () => {
    for (const table of ['usage_record', 'usage_share']) {
      await expect(db.admin(`UPDATE ${table} SET completion_tokens = 0`)).rejects.toThrow(/append-only/);
      await expect(db.admin(`DELETE FROM ${table}`)).rejects.toThrow(/append-only/);
      await expect(db.admin(`TRUNCATE ${table}`)).rejects.toThrow(/append-only/);
    }
  });

  it('stand when a salt is erased', async () => {
    await db.database.withSystemPg((client) =>
      client.query('DELETE FROM usage_salt WHERE tenant_id = $1', [caller.tenantId]),
    );
    expect(await db.admin('SELECT id FROM usage_record WHERE tenant_id = $1', [caller.tenantId])).not.toEqual(
      [],
    );
    const [record] = (await usage.records(caller.tenantId, { first: 10 })).items;
    expect(await usage.commitmentSalt(caller.tenantId, record?.requestId ?? caller.tenantId)).toBeNull();
  });
});
