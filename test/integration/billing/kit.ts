import { randomUUID } from 'node:crypto';
import { AccountBook } from '../../../src/billing/account-book.ts';
import { Pricer, recharge } from '../../../src/billing/pricer.ts';
import type { Database } from '../../../src/db/client.ts';
import { PLATFORM_TENANT_ID } from '../../../src/db/platform.ts';
import type { Clock } from '../../../src/kernel/clock.ts';
import { newId, type Uuid } from '../../../src/kernel/ids.ts';
import { LEDGER_DEFAULTS, LedgerService } from '../../../src/ledger/service.ts';
import type { AccountKind, Balance } from '../../../src/ledger/types.ts';
import { PriceResolver } from '../../../src/pricing/resolver.ts';
import type { PriceTerms } from '../../../src/pricing/terms.ts';
import { FakeEngine } from '../inference/fake-engine.ts';
import { startProcess, type TestAdapter, type TestProcess } from '../inference/harness.ts';
import { OPERATOR, ofBackbone, openPricing } from '../pricing/kit.ts';

/** The backbone of the fake engine. */
export const BACKBONE = new FakeEngine().info.backboneDigest;

/** Input 1, cached input 0.5 and output 2 thousand nano-units a token. */
export const PRICE: Partial<PriceTerms> = {
  inputPerMillion: 1_000_000_000n,
  cachedInputPerMillion: 500_000_000n,
  outputPerMillion: 2_000_000_000n,
};

/** Prices and accounts on a real database, with processes that charge by them. */
export async function openBilling() {
  const pricing = await openPricing();
  const { db, clock } = pricing;
  const ledger = new LedgerService(LEDGER_DEFAULTS, { database: db.database, clock });
  const cash = await ledger.openAccount(PLATFORM_TENANT_ID, 'CASH', 'USD');
  await db.admin(
    `INSERT INTO backbone (id, name, digest, family, shape, created_at) VALUES ($1, 'b', $2, 'llama', '{}', now())`,
    [randomUUID(), BACKBONE],
  );
  const processes: TestProcess[] = [];
  const adapters = new Map<string, TestAdapter>();

  const kit = {
    ...pricing,
    ledger,

    async process(options: Parameters<typeof startProcess>[1] = {}): Promise<TestProcess> {
      const pricer = (database: Database) => pricerOf(database, clock);
      const started = await startProcess(db, { clock, adapters, pricer, recharge, ...options });
      processes.push(started);
      return started;
    },

    /** A tenant that has paid in so much. */
    async customer(funds = 0n): Promise<Uuid> {
      const tenantId = await kit.tenant();
      if (funds > 0n) await kit.topUp(tenantId, funds);
      return tenantId;
    },

    async topUp(tenantId: Uuid, amount: bigint): Promise<void> {
      const accountId = await ledger.openAccount(tenantId, 'CUSTOMER', 'USD');
      await ledger.post({
        id: newId(clock),
        tenantId,
        asset: 'USD',
        key: randomUUID(),
        referenceType: 'top_up',
        referenceId: null,
        lines: [
          { accountId: cash, amount: -amount, subjectId: null },
          { accountId, amount, subjectId: null },
        ],
      });
    },

    /** An adapter that requests can name, whose owner asks for a part of the price. */
    async adapterWithRoyalty(name: string, owner: Uuid, sharePpm: bigint) {
      const { adapterId, versionId } = await kit.adapter(owner, BACKBONE);
      const [row] = await db.admin<{ digest: string }>('SELECT digest FROM adapter_version WHERE id = $1', [
        versionId,
      ]);
      adapters.set(name, { adapterId, versionId, ownerTenantId: owner, digest: row?.digest ?? '' });
      await kit.pricing.setRoyalty(
        { ...OPERATOR, kind: 'TENANT', tenantId: owner },
        {
          idempotencyKey: randomUUID(),
          adapterId,
          terms: { kind: 'SHARE', sharePpm },
          effectiveFrom: null,
        },
      );
      return { adapterId, versionId };
    },

    async balance(tenantId: Uuid, kind: AccountKind = 'CUSTOMER'): Promise<Balance> {
      const [balance] = await ledger.balances([await ledger.openAccount(tenantId, kind, 'USD')]);
      if (balance === undefined) throw new Error('The account has no balance');
      return balance;
    },

    async posted(tenantId: Uuid, kind: AccountKind): Promise<bigint> {
      return (await kit.balance(tenantId, kind)).posted;
    },

    async close(): Promise<void> {
      for (const process of processes) await process.close();
      await db.dispose();
    },
  };
  return kit;
}

export type BillingKit = Awaited<ReturnType<typeof openBilling>>;

/** Gives the fake engine's backbone its price, from now on. */
export async function priceBackbone(kit: BillingKit, more: Partial<PriceTerms> = PRICE): Promise<void> {
  await kit.setPrice(ofBackbone(BACKBONE), more);
}

function pricerOf(database: Database, clock: Clock): Pricer {
  const accounts = new AccountBook(new LedgerService(LEDGER_DEFAULTS, { database, clock }));
  return new Pricer({ resolver: new PriceResolver({ database, clock }), accounts, clock });
}
