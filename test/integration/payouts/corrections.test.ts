import { randomUUID } from 'node:crypto';
import { tmpdir } from 'node:os';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { newId, type Uuid } from '../../../src/kernel/ids.ts';
import { verifyLedger } from '../../../src/ledger/verify.ts';
import type { AdjustEarningsInput } from '../../../src/payouts/corrections.ts';
import { FilePayoutRail } from '../../../src/payouts/file-rail.ts';
import { openPayouts } from '../../../src/payouts/open.ts';
import { PAYOUT_DEFAULTS } from '../../../src/payouts/types.ts';
import { actorOf, OPERATOR, ofBackbone, openPricing, type PricingKit } from '../pricing/kit.ts';

let kit: PricingKit;
let backbone: string;
beforeAll(async () => {
  kit = await openPricing();
  backbone = await kit.backbone();
  await kit.setPrice(ofBackbone(backbone), {});
});
afterAll(() => kit.db.dispose());

const payouts = () => {
  const rail = new FilePayoutRail({ folder: tmpdir() });
  return openPayouts(PAYOUT_DEFAULTS, {
    database: kit.db.database,
    clock: kit.clock,
    file: rail,
    chain: null,
  });
};
const adjust = (tenantId: Uuid, more: Partial<AdjustEarningsInput>, actor = OPERATOR) =>
  payouts().corrections.adjust(actor, {
    ...{ idempotencyKey: randomUUID(), tenantId, adapterVersionId: null, amount: 1n, reason: 'Fraud' },
    ...more,
  });
const balanceOf = async (tenantId: Uuid) => (await payouts().earnings.balances(OPERATOR, tenantId))[0];

test('earnings are corrected below zero, by adapter version, and made up for before anything is paid', async () => {
  const tenantId = await kit.tenant();
  const { versionId } = await kit.adapter(tenantId, backbone);
  const { transferId } = await adjust(tenantId, {
    amount: -30n,
    adapterVersionId: versionId,
    reason: 'Clawback',
  });
  await adjust(tenantId, { amount: 7n });
  expect(await balanceOf(tenantId)).toMatchObject({ posted: -23n, payable: 0n, carried: -30n, maturing: 7n });
  const period = new Date(kit.clock.nowMs()).toISOString().slice(0, 7);
  const wanted = { tenantId, currency: 'USD', period };
  expect(await payouts().earnings.statement(actorOf(tenantId), wanted)).toMatchObject({
    ...{ earned: [], paid: 0n, returned: 0n, closing: -23n },
    corrections: [
      { adapterVersionId: null, amount: 7n, postings: 1 },
      { adapterVersionId: versionId, amount: -30n, postings: 1 },
    ],
  });
  const events = await kit.db.admin<{ payload: object }>(
    `SELECT payload FROM outbox_event WHERE tenant_id = $1 AND kind = 'earnings.adjusted' ORDER BY position LIMIT 1`,
    [tenantId],
  );
  const facts = {
    currency: 'USD',
    amountNano: '-30',
    reason: 'Clawback',
    adapterVersionId: versionId,
    transferId,
  };
  expect(events).toEqual([{ payload: facts }]);
  const audit = await kit.db.admin(
    `SELECT outcome::text, after FROM audit_log WHERE tenant_id = $1 AND action = 'earnings.adjust' AND after ->> 'reason' = 'Clawback'`,
    [tenantId],
  );
  expect(audit).toEqual([{ outcome: 'DONE', after: facts }]);
  expect((await verifyLedger(kit.db.database)).problems).toEqual([]);
});

test('a key corrects once, whoever races, and the ledger knows it when the record is gone', async () => {
  const tenantId = await kit.tenant();
  const input = { idempotencyKey: randomUUID(), amount: -5n };
  const all = await Promise.all([1, 2, 3].map(() => adjust(tenantId, input)));
  expect(new Set(all.map(({ transferId }) => transferId)).size).toBe(1);
  await expect(adjust(tenantId, { ...input, amount: -6n })).rejects.toMatchObject({
    code: 'IDEMPOTENCY_CONFLICT',
  });
  await kit.db.admin(`DELETE FROM idempotency_key WHERE operation = 'adjustEarnings'`);
  expect(await adjust(tenantId, input)).toEqual(all[0]);
  await kit.db.admin(`DELETE FROM idempotency_key WHERE operation = 'adjustEarnings'`);
  await expect(adjust(tenantId, { ...input, amount: -6n })).rejects.toMatchObject({
    code: 'LEDGER_CONFLICT',
  });
  expect((await balanceOf(tenantId))?.posted).toBe(-5n);
  // Nor is it told or written down twice.
  const told = 'SELECT 1 FROM outbox_event WHERE tenant_id = $1';
  expect(await kit.db.admin(told, [tenantId])).toHaveLength(1);
  expect(await kit.db.admin('SELECT 1 FROM audit_log WHERE tenant_id = $1', [tenantId])).toHaveLength(1);
});

test('needs an operator, a beneficiary, an amount and a reason', async () => {
  const tenantId = await kit.tenant();
  await expect(adjust(tenantId, {}, actorOf(tenantId))).rejects.toMatchObject({ code: 'FORBIDDEN' });
  const refused = (more: Partial<AdjustEarningsInput>, code: string, field: string) =>
    expect(adjust(tenantId, more)).rejects.toMatchObject({ code, field });
  await refused({ amount: 0n }, 'BAD_INPUT', 'amount');
  await refused({ amount: 10n ** 18n + 1n }, 'BAD_INPUT', 'amount');
  await refused({ reason: ' ' }, 'BAD_INPUT', 'reason');
  await refused({ reason: 'x'.repeat(501) }, 'BAD_INPUT', 'reason');
  await refused({ tenantId: newId(kit.clock) }, 'NOT_FOUND', 'tenant');
  await refused({ tenantId: OPERATOR.tenantId }, 'NOT_FOUND', 'tenant');
  await refused({ adapterVersionId: newId(kit.clock) }, 'NOT_FOUND', 'adapterVersion');
  expect(await balanceOf(tenantId)).toBeUndefined();
});
