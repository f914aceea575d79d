import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { SYSTEM_ACTOR } from '../../../src/auth/principal.ts';
import { verifyInvoices } from '../../../src/invoicing/verify.ts';
import { systemClock } from '../../../src/kernel/clock.ts';
import { createInvoicing } from '../../kit/invoicing.ts';
import { waitFor } from '../../kit/wait.ts';
import { sampleFiles } from '../adapter/kit.ts';
import { openStack, type Stack } from '../graphql/stack.ts';
import { giveMoney } from '../tenant/isolation/money.ts';

let stack: Stack;
beforeAll(async () => {
  stack = await openStack();
});
afterAll(() => stack.close());

test('requests that were served and charged are on the bill, to the nano-unit', async () => {
  const { db } = stack.registry;
  const { tenant, key } = await stack.tenant('served');
  const version = await stack.registry.ready(tenant.id, 'billed', sampleFiles(0.5));
  await giveMoney(stack, tenant.id, version.adapterId);
  const ask = async (more: object) => {
    const { receipt } = await stack.inference.generate(key.principal, {
      prompt: 'abcdef',
      maxTokens: 5,
      idempotencyKey: randomUUID(),
      ...more,
    });
    await receipt?.();
  };
  for (let i = 0; i < 3; i += 1) await ask({ adapters: [{ adapter: version.adapterId }] });
  await ask({ plainBackbone: true, priority: 'BATCH' });
  const unsettled = () => db.admin('SELECT id FROM inference_request WHERE tenant_id = $1', [tenant.id]);
  await waitFor(async () => (await unsettled()).length === 0);
  // A bill waits for the receipts of what it charges to be in the log.
  await stack.proofs.appender.run();

  // A month is closed when it is over: what was served just now is moved into one, past all guards.
  const endedAt = '2025-02-28T23:59:59.999999Z';
  await db.admin(`BEGIN; SET LOCAL session_replication_role = replica;
    UPDATE usage_charge SET ended_at = '${endedAt}' WHERE tenant_id = '${tenant.id}';
    UPDATE usage_share SET ended_at = '${endedAt}' WHERE tenant_id = '${tenant.id}';
    UPDATE usage_record SET ended_at = '${endedAt}' WHERE tenant_id = '${tenant.id}';
    UPDATE ledger_posting SET created_at = '${endedAt}' WHERE transfer_id IN (
      SELECT id FROM ledger_transfer WHERE tenant_id = '${tenant.id}' AND kind = 'POST');
    UPDATE ledger_transfer SET created_at = '${endedAt}' WHERE tenant_id = '${tenant.id}' AND kind = 'POST';
    UPDATE tenant SET created_at = '2025-01-01T00:00:00Z' WHERE id = '${tenant.id}'; COMMIT`);
  const { periods } = createInvoicing({ database: db.database, clock: systemClock });
  const { document, names } = await periods.close(SYSTEM_ACTOR, {
    idempotencyKey: randomUUID(),
    tenantId: tenant.id,
    period: '2025-02',
  });
  const [sums] = await db.admin<{ recorded: string; captured: string }>(
    `SELECT (SELECT sum(amount_nano)::text FROM usage_record WHERE tenant_id = $1) AS recorded,
            (SELECT (-sum(p.amount))::text FROM ledger_posting p JOIN ledger_transfer t ON t.id = p.transfer_id
             JOIN ledger_account a ON a.id = p.account_id
             WHERE a.tenant_id = $1 AND a.kind = 'CUSTOMER' AND t.kind = 'POST') AS captured`,
    [tenant.id],
  );
  expect(document.chargesNano > 0n).toBe(true);
  expect(sums).toEqual({ recorded: String(document.chargesNano), captured: String(document.chargesNano) });
  expect(
    document.lines.map(({ adapterVersionId, priority, requests }) => [adapterVersionId, priority, requests]),
  ).toEqual([
    [null, 'BATCH', 1n],
    [version.id, 'STANDARD', 3n],
  ]);
  expect(document.lines[1]?.royaltyNano).toBeGreaterThan(0n);
  expect(names[version.id]).toBe('served/billed v1');
  expect(await verifyInvoices(db.database)).toEqual({ invoices: 1, creditNotes: 0, problems: [] });
});
