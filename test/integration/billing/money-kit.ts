import { randomBytes, randomUUID } from 'node:crypto';
import type { Principal } from '../../../src/auth/principal.ts';
import { AccountService } from '../../../src/billing/accounts.ts';
import type { BudgetState } from '../../../src/billing/budget-state.ts';
import { BudgetService, type SetBudgetInput } from '../../../src/billing/budgets.ts';
import { FundsService } from '../../../src/billing/funds.ts';
import type { MoveInput } from '../../../src/billing/funds-terms.ts';
import { systemClock } from '../../../src/kernel/clock.ts';
import { PatchbayError } from '../../../src/kernel/errors.ts';
import { newId, type Uuid } from '../../../src/kernel/ids.ts';
import { LEDGER_DEFAULTS, LedgerService } from '../../../src/ledger/service.ts';
import { actorOf, OPERATOR, ofBackbone, openPricing } from '../pricing/kit.ts';
import { type Charge, chargeStatement, type Ending, type Refusal } from './charge.ts';

/** The money services on a real database whose installation has a currency. */
export async function openMoney({ priced = true }: { readonly priced?: boolean } = {}) {
  const pricing = await openPricing();
  const { db, clock } = pricing;
  const deps = { database: db.database, clock };
  const budgets = new BudgetService(deps);
  const funds = new FundsService(deps);
  const backbone = await pricing.backbone();
  if (priced) await pricing.setPrice(ofBackbone(backbone), {});
  const kit = {
    ...pricing,
    budgets,
    funds,
    accounts: new AccountService(deps),
    ledger: new LedgerService(LEDGER_DEFAULTS, deps),
    backboneDigest: backbone,

    /** A tenant, somebody there with every scope, and a key. */
    async customer(): Promise<Customer> {
      const tenantId = await pricing.tenant();
      return { tenantId, actor: actorOf(tenantId), keyId: await kit.key(tenantId) };
    },

    /** A key of the tenant that nobody holds. */
    async key(tenantId: Uuid): Promise<Uuid> {
      const id = newId(systemClock);
      await db.admin(
        `INSERT INTO api_key (id, tenant_id, kind, name, prefix, key_hash, scopes, created_at)
         VALUES ($1, $2, 'TENANT', 'k', 'pbt_test', $3, '{}', now())`,
        [id, tenantId, randomBytes(32)],
      );
      return id;
    },

    setBudget(customer: Customer, more: Partial<SetBudgetInput> = {}): Promise<BudgetState> {
      // Ids of one millisecond are in no order.
      clock.advance(1);
      return budgets.set(customer.actor, {
        idempotencyKey: randomUUID(),
        subject: { scope: 'TENANT' },
        period: 'DAY',
        limit: 100n,
        alertsPpm: null,
        ...more,
      });
    },

    move(customer: Customer, more: Partial<MoveInput> = {}) {
      clock.advance(1);
      return funds.move(OPERATOR, {
        idempotencyKey: randomUUID(),
        tenantId: customer.tenantId,
        kind: 'TOP_UP',
        amount: 1_000n,
        reason: null,
        ...more,
      });
    },

    /** An admission of the customer's. */
    charge: (customer: Customer, amount: bigint, more: Partial<Charge> = {}): Charge => ({
      id: newId(systemClock),
      tenantId: customer.tenantId,
      keyId: customer.keyId,
      amount,
      ...more,
    }),

    /** One round of charging, in a transaction of its own; what does not fit. */
    async round(charges: readonly Charge[], endings: readonly Ending[] = []): Promise<readonly Refusal[]> {
      const { text, values } = chargeStatement(charges, endings);
      return db.database.querySystem<Refusal & Record<string, unknown>>(text, values);
    },

    /** The events of a tenant, as they were written. */
    events: (tenantId: Uuid) =>
      db.admin<{ kind: string; subject_id: string; payload: Record<string, unknown> }>(
        'SELECT kind, subject_id, payload FROM outbox_event WHERE tenant_id = $1 ORDER BY position',
        [tenantId],
      ),
  };
  return kit;
}

export type MoneyKit = Awaited<ReturnType<typeof openMoney>>;

/** Somebody who pays. */
export interface Customer {
  readonly tenantId: Uuid;
  readonly actor: Principal;
  readonly keyId: Uuid;
}

/** The code that the work fails with, and the field that is to blame; null when it does not fail. */
export async function failure(work: Promise<unknown>): Promise<string | null> {
  try {
    await work;
    return null;
  } catch (error) {
    if (!(error instanceof PatchbayError)) throw error;
    return error.field === undefined ? error.code : `${error.code} ${error.field}`;
  }
}
