import { randomUUID } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { z } from 'zod';
import type { Uuid } from '../../../src/kernel/ids.ts';
import { ProofErasure } from '../../../src/proofs/epochs/erasure.ts';
import { testSigner } from '../../kit/log.ts';
import { cli } from '../../unit/cli/fake-io.ts';
import { actorOf, OPERATOR } from '../pricing/kit.ts';
import { type EpochWorld, openEpochs, reader } from './epochs-kit.ts';

let world: EpochWorld;
let erasure: ProofErasure;
let [folder, gone, stays]: string[] = [];
beforeAll(async () => {
  world = await openEpochs();
  erasure = new ProofErasure({ database: world.db.database, clock: world.clock });
  folder = mkdtempSync(join(tmpdir(), 'patchbay-erasure-'));
  [gone, stays] = [await world.kit.customer(10_000_000n), await world.kit.customer(10_000_000n)];
});
afterAll(async () => {
  rmSync(folder ?? '', { recursive: true });
  await world.close();
});

const operator = { ...OPERATOR, scopes: ['tenants:write'] };
const erase = (tenantId = gone ?? '', idempotencyKey: string = randomUUID()) =>
  erasure.erase(operator, { idempotencyKey, tenantId });
const receiptOf = async (who: Uuid, requestId: Uuid) =>
  z
    .record(z.string(), z.unknown())
    .nullable()
    .parse(JSON.parse((await world.proofs.receipts.find(reader(who), requestId))?.document ?? 'null'));

/** What `patchbay verify` says of a receipt. */
async function verify(receipt: unknown) {
  const file = join(folder ?? '', `${randomUUID()}.json`);
  writeFileSync(file, JSON.stringify(receipt));
  const { code, out } = await cli(['verify', file, '--trust', testSigner().address]);
  return { code, out };
}

describe('erasing a tenant’s proofs', () => {
  let request: Uuid;
  let held: Readonly<Record<string, unknown>> | null;

  it('leaves nothing that opens its receipts and accounts, and everything of others', async () => {
    request = await world.serve(gone ?? '', [{ adapter: 'royal' }]);
    await world.serve(stays ?? '', [{ adapter: 'royal' }]);
    await world.log();
    await world.closer().run();
    held = await receiptOf(gone ?? '', request);
    expect((await verify(held)).code).toBe(0);
    expect(await erase()).toEqual({ receipts: 1n, salts: 1n, accounts: 1n });
    const salts = await world.db.admin('SELECT tenant_id FROM usage_salt WHERE tenant_id = ANY ($1)', [
      [gone, stays],
    ]);
    expect(salts).toEqual([{ tenant_id: stays }]);
    expect(await receiptOf(gone ?? '', request)).toBeNull();
    await expect(world.proofs.epochs.statement(reader(gone ?? ''), 1n, null)).rejects.toMatchObject({
      code: 'NOT_FOUND',
      message: 'What opens the account was erased.',
    });
    expect(await world.proofs.epochs.statement(reader(stays ?? ''), 1n, null)).toContain('"absent":null');
    // The owner has its own view of the same receipt, which says nothing of who asked.
    const owned = await receiptOf(world.one, request);
    expect((await verify(owned)).code).toBe(0);
    expect(JSON.stringify(owned)).not.toContain(gone);
  });

  it('leaves receipts verifying, opened as it was or with nothing that is opened', async () => {
    const erased = { ...held, opened: [], documents: [] };
    for (const receipt of [held, erased]) {
      const { code, out } = await verify(receipt);
      expect(code, out).toBe(0);
    }
    const changed = { ...erased, id: randomUUID() };
    expect((await verify(changed)).code).not.toBe(0);
  });

  it('lets epochs close over what was erased before, and keeps nothing that opens those accounts', async () => {
    await world.serve(gone ?? '', [{ adapter: 'royal' }]);
    await world.serve(stays ?? '');
    await world.log();
    expect((await erase()).receipts).toBe(1n);
    await world.serve(gone ?? '');
    await world.log();
    await world.closer().run();
    const epoch = await world.proofs.epochs.get(null);
    expect(epoch).toMatchObject({ number: 2n, receipts: 3n, quarantined: 0 });
    const parties = await world.db.admin(
      'SELECT DISTINCT tenant_id FROM epoch_statement WHERE epoch = 2 ORDER BY 1',
    );
    expect(parties.map(({ tenant_id }) => tenant_id)).toEqual([stays, world.one].sort());
    await expect(world.proofs.epochs.statement(reader(gone ?? ''), 2n, null)).rejects.toThrow('erased');
    // What is settled later is the tenant's again.
    const next = await world.serve(gone ?? '');
    await world.log();
    await world.closer().run();
    expect(await receiptOf(gone ?? '', next)).not.toBeNull();
    expect(await world.proofs.epochs.statement(reader(gone ?? ''), 3n, null)).toContain('"absent":null');
  });

  it('is done by operators alone, recorded once for its key, and finds nothing when it is repeated', async () => {
    const input = { idempotencyKey: randomUUID(), tenantId: gone ?? '' };
    for (const actor of [actorOf(gone ?? ''), { ...operator, scopes: ['usage:read'] }])
      await expect(erasure.erase(actor, input)).rejects.toMatchObject({ code: 'FORBIDDEN' });
    await expect(erase(randomUUID())).rejects.toMatchObject({ code: 'NOT_FOUND', field: 'tenant' });
    const lines = () =>
      world.db.admin(`SELECT outcome::text FROM audit_log WHERE action = 'proofs.erase' AND tenant_id = $1`, [
        gone,
      ]);
    const before = (await lines()).length;
    await erasure.erase(operator, input);
    expect(await erasure.erase(operator, input)).toEqual({ receipts: 0n, salts: 0n, accounts: 0n });
    expect((await lines()).length).toBe(before + 1);
    const other = { ...input, tenantId: stays ?? '' };
    await expect(erasure.erase(operator, other)).rejects.toMatchObject({ code: 'IDEMPOTENCY_CONFLICT' });
  });

  it('goes on where it was when an epoch that is being closed takes long', async () => {
    const hasty = new ProofErasure({ database: world.db.database, clock: world.clock }, 20);
    const input = { idempotencyKey: randomUUID(), tenantId: world.one };
    await world.db.database.withSystemPg(async (client) => {
      await client.query(`SELECT pg_advisory_xact_lock(hashtextextended('patchbay.epoch_close', 0))`);
      await expect(hasty.erase(operator, input)).rejects.toMatchObject({ code: 'EPOCH_CLOSING' });
    });
    const { receipts, accounts } = await hasty.erase(operator, input);
    expect(receipts).toBe(0n);
    expect(accounts).toBeGreaterThan(0n);
  });

  it('closes what an owner could open of its versions', async () => {
    expect(await receiptOf(world.one, request)).toBeNull();
    await expect(
      world.proofs.epochs.statement(reader(world.one), 1n, world.royal.versionId),
    ).rejects.toMatchObject({ code: 'NOT_FOUND' });
  });
});
