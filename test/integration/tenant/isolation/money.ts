import { randomUUID } from 'node:crypto';
import { SCOPES } from '../../../../src/auth/principal.ts';
import { PLATFORM_TENANT_ID } from '../../../../src/db/platform.ts';
import { systemClock } from '../../../../src/kernel/clock.ts';
import { newId, type Uuid } from '../../../../src/kernel/ids.ts';
import { EARNINGS_ROLLUP_DEFAULTS, EarningsRollup } from '../../../../src/ledger/earnings.ts';
import { LedgerSealer, SEALER_DEFAULTS } from '../../../../src/ledger/sealer.ts';
import { LEDGER_DEFAULTS, LedgerService } from '../../../../src/ledger/service.ts';
import { SplitService } from '../../../../src/pricing/splits.ts';
import { DayRollup } from '../../../../src/usage/days.ts';
import type { Stack } from '../../graphql/stack.ts';

const NIL = '00000000-0000-0000-0000-000000000000';

/** Prices that are in effect at once, which the program would make wait: for a backbone or an adapter, and a royalty. */
const PRICES = `
INSERT INTO price_version (
  id, tenant_id, backbone_digest, currency, input_nano_per_million, cached_input_nano_per_million,
  output_nano_per_million, rank_nano_per_million, interactive_ppm, standard_ppm, batch_ppm, platform_fee_ppm,
  effective_from, created_at)
SELECT gen_random_uuid(), tenant_id, backbone_digest, currency, 3000000, 1000000, 7000000, 1000, 1000000, 1000000,
       1000000, 150000, date_trunc('milliseconds', now()) + interval '1 ms', now()
FROM price_version WHERE adapter_id IS NULL`;
const ADAPTER_PRICE = `
INSERT INTO price_version (
  id, tenant_id, adapter_id, currency, input_nano_per_million, cached_input_nano_per_million,
  output_nano_per_million, rank_nano_per_million, interactive_ppm, standard_ppm, batch_ppm, platform_fee_ppm,
  effective_from, created_at)
VALUES (gen_random_uuid(), $1, $2, 'USD', 4000000, 1000000, 8000000, 1000, 1000000, 1000000, 1000000, 150000, now(), now())`;
const ROYALTY = `
INSERT INTO royalty_version (id, tenant_id, adapter_id, kind, share_ppm, effective_from, created_at)
VALUES (gen_random_uuid(), $1, $2, 'SHARE', 333333, now(), now())`;
const BUDGET = `
INSERT INTO budget (id, tenant_id, scope, subject_id, period, currency, limit_nano, alerts_ppm, created_at, updated_at)
VALUES ($1, $2, 'TENANT', $3, 'MONTH', 'USD', 1000000000, '{1}', now(), now())`;

/**
 * Gives a tenant money, a budget, and an adapter that costs something and earns, so that its requests are charged; answers
 * the id of a split of it that waits for a consent.
 */
export async function giveMoney(stack: Stack, tenantId: Uuid, adapterId: Uuid): Promise<Uuid> {
  const { db } = stack.registry;
  await db.admin(PRICES);
  await db.admin(ADAPTER_PRICE, [tenantId, adapterId]);
  await db.admin(ROYALTY, [tenantId, adapterId]);
  const partner = await stack.tenancy.createTenant(`partner-${randomUUID().slice(0, 8)}`);
  // One split that begins, one that is withdrawn, and one that waits.
  const splits = new SplitService({ database: db.database, clock: systemClock });
  const actor = { kind: 'TENANT' as const, tenantId, keyId: randomUUID(), scopes: SCOPES };
  const propose = (parts: bigint) =>
    splits.propose(actor, {
      idempotencyKey: randomUUID(),
      adapterId,
      adapterVersionId: null,
      terms: {
        beneficiaries: [
          { tenantId, parts },
          { tenantId: partner.id, parts: 1n },
        ],
      },
      effectiveFrom: null,
    });
  const { id: agreed } = await propose(1n);
  await splits.decide({ ...actor, tenantId: partner.id }, { proposalId: agreed, agrees: true });
  const { id: proposalId } = await propose(2n);
  await splits.decide(actor, { proposalId, agrees: false });
  const { id: waiting } = await propose(3n);
  const ledger = new LedgerService(LEDGER_DEFAULTS, { database: db.database, clock: systemClock });
  const cash = await ledger.openAccount(PLATFORM_TENANT_ID, 'CASH', 'USD');
  const accountId = await ledger.openAccount(tenantId, 'CUSTOMER', 'USD');
  await ledger.setCreditLimit(accountId, 1_000n, randomUUID());
  await ledger.post({
    id: newId(systemClock),
    tenantId,
    asset: 'USD',
    key: randomUUID(),
    referenceType: 'top_up',
    referenceId: null,
    lines: [
      { accountId: cash, amount: -1_000_000n, subjectId: null },
      { accountId, amount: 1_000_000n, subjectId: null },
    ],
  });
  await db.admin('SELECT patchbay.set_balance_alert($1, 10)', [accountId]);
  await db.admin(BUDGET, [newId(systemClock), tenantId, NIL]);
  return waiting;
}

/** Puts what the ledger wrote into its chain, and sums up what was earned. */
export async function sealLedger(stack: Stack): Promise<void> {
  await new LedgerSealer(SEALER_DEFAULTS, {
    database: stack.registry.db.database,
    clock: systemClock,
  }).run();
  await new EarningsRollup(EARNINGS_ROLLUP_DEFAULTS, { database: stack.registry.db.database }).run();
}

/** A request of the tenant's of yesterday, which is summed up with its day. */
export async function useYesterday(stack: Stack, tenantId: Uuid): Promise<void> {
  const { db } = stack.registry;
  await db.admin(
    `INSERT INTO usage_rollup (tenant_id, kind, adapter_version_id, adapter_id, bucket, shard, requests, prompt_tokens,
       cached_prompt_tokens, completion_tokens, compute_us)
     VALUES ($1, 'tenant', $2, $2, date_trunc('day', now() - interval '1 day', 'UTC'), 0, 1, 1, 0, 1, 1)`,
    [tenantId, NIL],
  );
  await new DayRollup({ afterMs: 0 }, { database: db.database }).run();
}
