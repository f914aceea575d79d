import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { SYSTEM_ACTOR } from '../../../src/auth/principal.ts';
import type { Uuid } from '../../../src/kernel/ids.ts';
import { NO_QUOTAS } from '../../../src/kernel/quota.ts';
import { type QuotaChange, QuotaService } from '../../../src/tenant/quotas.ts';
import { declare, openRegistry, type Registry, sampleFiles } from './kit.ts';

let registry: Registry;
let quotas: QuotaService;
let tenantId: Uuid;
let tenants = 0;

beforeAll(async () => {
  registry = await openRegistry();
  const { db, clock } = registry;
  const defaults = { ...NO_QUOTAS, ADAPTERS: 1_000 };
  quotas = new QuotaService({ defaults }, { database: db.database, clock });
});
afterAll(() => registry.close());
beforeEach(async () => {
  tenants += 1;
  tenantId = await registry.tenant(`quota-${tenants}`);
  registry.offset.ms = 0;
});

const limit = (...changes: readonly QuotaChange[]) => quotas.set(SYSTEM_ACTOR, tenantId, changes);
const open = (name: string, value = 0.5) => registry.open(tenantId, name, sampleFiles(value));
const bytesOf = (value: number) =>
  declare(sampleFiles(value)).reduce((sum, { size }) => sum + Number(size), 0);
const stateOf = async (kind: QuotaChange['kind']) =>
  (await quotas.read(SYSTEM_ACTOR, tenantId)).find((quota) => quota.kind === kind);

describe('the quota of uploads in an hour', () => {
  test('counts every upload of the hour, and says when the next may be opened', async () => {
    await limit({ kind: 'UPLOADS_PER_HOUR', limit: 2 });
    await open('a');
    registry.offset.ms = 600_000;
    await open('b');
    const refusal = await open('c').catch((error: unknown) => error);
    expect(refusal).toMatchObject({
      code: 'QUOTA_EXCEEDED',
      meta: { quota: 'UPLOADS_PER_HOUR', limit: 2, used: 2, requested: 1 },
    });
    // The first one leaves the hour in fifty minutes.
    expect(refusal).toHaveProperty(
      'meta.retryAfterMs',
      expect.toSatisfy((ms) => ms > 2_990_000 && ms <= 3_000_000),
    );
    expect(await stateOf('UPLOADS_PER_HOUR')).toMatchObject({ limit: 2, used: 2, left: 0, isDefault: false });
    registry.offset.ms = 3_600_000;
    await open('c');
  });
});

describe('the quota of adapters', () => {
  test('refuses a new name and lets known ones have further versions', async () => {
    await limit({ kind: 'ADAPTERS', limit: 1 });
    await open('a');
    await open('a', 0.6);
    await expect(open('b')).rejects.toMatchObject({
      code: 'QUOTA_EXCEEDED',
      meta: { quota: 'ADAPTERS', limit: 1, used: 1, requested: 1, retryAfterMs: null },
    });
  });

  test('lets exactly as many through as it says, however many try at once', async () => {
    await limit({ kind: 'ADAPTERS', limit: 3 });
    const results = await Promise.allSettled(Array.from({ length: 8 }, (_, i) => open(`many-${i}`)));
    expect(results.filter(({ status }) => status === 'fulfilled')).toHaveLength(3);
  });
});

describe('the quota of bytes', () => {
  test('counts open uploads and versions that are kept, each once', async () => {
    await limit({ kind: 'STORAGE_BYTES', limit: 2 * bytesOf(0.5) });
    await registry.ready(tenantId, 'kept', sampleFiles(0.5));
    expect(await stateOf('STORAGE_BYTES')).toMatchObject({ used: bytesOf(0.5), left: bytesOf(0.5) });
    // The same bytes again become the same version.
    await registry.upload(tenantId, 'kept', sampleFiles(0.5));
    expect(await stateOf('STORAGE_BYTES')).toMatchObject({ used: bytesOf(0.5) });
    await open('second', 0.6);
    await expect(open('third', 0.7)).rejects.toMatchObject({
      code: 'QUOTA_EXCEEDED',
      meta: { quota: 'STORAGE_BYTES', used: 2 * bytesOf(0.5), requested: bytesOf(0.7), retryAfterMs: null },
    });
    // An upload that expired holds nothing any more.
    registry.offset.ms = 2 * 3_600_000;
    await open('third', 0.7);
  });
});

describe('a limit', () => {
  test('of null is the installation’s, 0 is none, and others stay as they are', async () => {
    expect(await stateOf('ADAPTERS')).toEqual({
      kind: 'ADAPTERS',
      limit: 1_000,
      isDefault: true,
      used: 0,
      left: 1_000,
    });
    await limit({ kind: 'ADAPTERS', limit: 5 }, { kind: 'CONCURRENT_STREAMS', limit: 7 });
    await limit({ kind: 'ADAPTERS', limit: 0 });
    expect(await stateOf('ADAPTERS')).toMatchObject({
      limit: null,
      used: null,
      left: null,
      isDefault: false,
    });
    expect(await stateOf('CONCURRENT_STREAMS')).toMatchObject({ limit: 7, used: 0 });
    await limit({ kind: 'ADAPTERS', limit: null });
    expect(await stateOf('ADAPTERS')).toMatchObject({ limit: 1_000, isDefault: true });
  });

  test('that is none is refused', async () => {
    for (const bad of [-1, 0.5, Number.NaN, 1e15]) {
      await expect(limit({ kind: 'ADAPTERS', limit: bad })).rejects.toMatchObject({
        code: 'BAD_INPUT',
        field: 'limits.0.limit',
      });
    }
  });

  test('does not keep the program from its own uploads', async () => {
    await limit({ kind: 'ADAPTERS', limit: 1 });
    await open('a');
    const { backboneDigest } = (await registry.ready(tenantId, 'a', sampleFiles(0.9))) ?? {};
    const own = { name: 'own', backboneDigest, files: declare(sampleFiles(0.8)), exempt: true };
    await registry.db.database.withTenant(tenantId, (tx) => registry.service.openUpload(tx, tenantId, own));
  });
});
