import { randomUUID } from 'node:crypto';
import { PLATFORM_TENANT_ID } from '../../../src/db/platform.ts';
import { systemClock } from '../../../src/kernel/clock.ts';
import { PatchbayError } from '../../../src/kernel/errors.ts';
import { newId, type Uuid } from '../../../src/kernel/ids.ts';
import { LedgerSealer, SEALER_DEFAULTS } from '../../../src/ledger/sealer.ts';
import { LEDGER_DEFAULTS, LedgerService } from '../../../src/ledger/service.ts';
import type { Capture, Credit, Hold, Transfer } from '../../../src/ledger/types.ts';
import { ManualClock } from '../../kit/fake-runner.ts';
import type { TestDatabase } from '../../kit/postgres.ts';

/** Printed by tests that draw at random; with the same seed they draw the same. */
export const SEED = Number(process.env['PATCHBAY_TEST_SEED'] ?? 20_260_404);

/** The ledger over a test's database, with the platform's accounts in USD. */
export interface TestLedger {
  readonly service: LedgerService;
  readonly sealer: LedgerSealer;
  readonly clock: ManualClock;
  readonly cash: Uuid;
  readonly fee: Uuid;
  readonly base: Uuid;
  tenant(): Promise<Uuid>;
  /** A customer of a new tenant with so much paid in. */
  customer(funds?: bigint): Promise<Customer>;
  /** The earnings account of a new tenant. */
  beneficiary(): Promise<Customer>;
  topUp(customer: Customer, amount: bigint, key?: string): Promise<void>;
}

/** A tenant and one account of it. */
export interface Customer {
  readonly tenantId: Uuid;
  readonly accountId: Uuid;
}

/** Builds {@link TestLedger}. */
export async function createLedger(db: TestDatabase): Promise<TestLedger> {
  const clock = new ManualClock();
  clock.advance(Date.UTC(2026, 3, 4));
  const deps = { database: db.database, clock };
  const service = new LedgerService(LEDGER_DEFAULTS, deps);
  const platform = (kind: 'CASH' | 'PLATFORM_FEE' | 'PLATFORM_BASE'): Promise<Uuid> =>
    service.openAccount(PLATFORM_TENANT_ID, kind, 'USD');
  const [cash, fee, base] = [
    await platform('CASH'),
    await platform('PLATFORM_FEE'),
    await platform('PLATFORM_BASE'),
  ];
  const tenant = async (): Promise<Uuid> => {
    const id = newId(systemClock);
    const slug = `t-${randomUUID()}`;
    await db.database.withSystem((tx) =>
      tx.tenant.create({ data: { id, name: slug, slug, createdAt: new Date(0) } }),
    );
    return id;
  };
  const open = async (kind: 'CUSTOMER' | 'EARNINGS'): Promise<Customer> => {
    const tenantId = await tenant();
    return { tenantId, accountId: await service.openAccount(tenantId, kind, 'USD') };
  };
  const topUp = async (customer: Customer, amount: bigint, key: string = randomUUID()): Promise<void> => {
    await service.post(transfer(customer, key, cash, amount));
  };
  return {
    service,
    sealer: new LedgerSealer(SEALER_DEFAULTS, deps),
    clock,
    cash,
    fee,
    base,
    tenant,
    topUp,
    async customer(funds = 0n) {
      const customer = await open('CUSTOMER');
      if (funds > 0n) await topUp(customer, funds);
      return customer;
    },
    beneficiary: () => open('EARNINGS'),
  };
}

/** A transfer into the customer's account from another; negative amounts go the other way. */
export function transfer(customer: Customer, key: string, from: Uuid, amount: bigint): Transfer {
  return {
    id: newId(systemClock),
    tenantId: customer.tenantId,
    asset: 'USD',
    key,
    referenceType: 'top_up',
    referenceId: null,
    lines: [
      { accountId: from, amount: -amount, subjectId: null },
      { accountId: customer.accountId, amount, subjectId: null },
    ],
  };
}

export function hold(accountId: Uuid, amount: bigint, more: Partial<Hold> = {}): Hold {
  const id = newId(systemClock);
  return { id, accountId, amount, key: id, referenceId: null, expiresAt: null, ...more };
}

export function capture(holdId: Uuid, credits: readonly Credit[]): Capture {
  const amount = credits.reduce((sum, credit) => sum + credit.amount, 0n);
  return { id: newId(systemClock), holdId, amount, credits };
}

export function credit(accountId: Uuid, amount: bigint, subjectId: Uuid | null = null): Credit {
  return { accountId, amount, subjectId };
}

/** The code that the work fails with; null when it does not fail. */
export async function codeOf(work: Promise<unknown>): Promise<string | null> {
  try {
    await work;
    return null;
  } catch (error) {
    return error instanceof PatchbayError ? error.code : `not ours: ${error}`;
  }
}
