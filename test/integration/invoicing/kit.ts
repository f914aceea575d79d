import { randomUUID } from 'node:crypto';
import { PLATFORM_TENANT_ID } from '../../../src/db/platform.ts';
import type { Invoice } from '../../../src/invoicing/rows.ts';
import type { BillingTerms } from '../../../src/invoicing/terms.ts';
import { newId, type Uuid } from '../../../src/kernel/ids.ts';
import type { PriorityClass } from '../../../src/kernel/priority.ts';
import { LEDGER_DEFAULTS, LedgerService } from '../../../src/ledger/service.ts';
import { createInvoicing } from '../../kit/invoicing.ts';
import type { TestDatabase } from '../../kit/postgres.ts';
import { writeSettled } from '../../kit/settled.ts';
import { OPERATOR, ofBackbone, openPricing, type SampleAdapter } from '../pricing/kit.ts';

/** Past months, because the database's own clock must agree that they are over. */
export const FEBRUARY = '2024-02';
export const AFTER_FEBRUARY = Date.UTC(2024, 2, 2);

export const ISSUER = 'Patchbay Ltd\n1 Main Street';

/** A tenant and its account. */
export interface Customer {
  readonly tenantId: Uuid;
  readonly accountId: Uuid;
}

/** A part of a request, of which a test names what it is about. */
export interface ChargeInput {
  /** With any offset and up to microseconds. */
  readonly endedAt: string;
  readonly inputNano?: bigint;
  readonly outputNano?: bigint;
  readonly royaltyNano?: bigint;
  readonly adapter?: SampleAdapter;
  readonly ownerId?: Uuid;
  readonly royaltyVersion?: Uuid;
  readonly priceVersion?: Uuid;
  readonly priority?: PriorityClass;
}

/** Bills on a real database, with its ledger, and a clock that a test moves. */
export async function openInvoicing(existing?: TestDatabase) {
  const pricing = await openPricing(existing);
  const { db, clock } = pricing;
  clock.set(Date.UTC(2024, 0, 1));
  const deps = { database: db.database, clock };
  const ledger = new LedgerService(LEDGER_DEFAULTS, deps);
  const invoicing = createInvoicing(deps, { issuer: ISSUER });
  const backbone = await pricing.backbone();
  const price = await pricing.setPrice(ofBackbone(backbone), { inputPerMillion: 1n });
  const cash = await ledger.openAccount(PLATFORM_TENANT_ID, 'CASH', 'USD');
  const base = await ledger.openAccount(PLATFORM_TENANT_ID, 'PLATFORM_BASE', 'USD');
  const adjustment = await ledger.openAccount(PLATFORM_TENANT_ID, 'ADJUSTMENT', 'USD');

  const kit = {
    db,
    clock,
    pricing,
    ledger,
    invoicing,
    backbone,
    price,
    adjustment,

    /** Pays in; answers the transfer. */
    async topUp(
      { tenantId, accountId }: Customer,
      amount: bigint,
      key: string = randomUUID(),
    ): Promise<Uuid> {
      const id = newId(clock);
      await ledger.post({
        id,
        tenantId,
        asset: 'USD',
        key,
        referenceType: 'top_up',
        referenceId: null,
        lines: [
          { accountId: cash, amount: -amount, subjectId: null },
          { accountId, amount, subjectId: null },
        ],
      });
      return id;
    },

    /** A new tenant with so much paid in. */
    async customer(funds = 0n): Promise<Customer> {
      const tenantId = await pricing.tenant();
      await db.admin(`UPDATE tenant SET created_at = '2024-01-01T00:00:00Z' WHERE id = $1`, [tenantId]);
      const customer = { tenantId, accountId: await ledger.openAccount(tenantId, 'CUSTOMER', 'USD') };
      if (funds > 0n) await kit.topUp(customer, funds);
      return customer;
    },

    async available({ accountId }: Customer): Promise<bigint> {
      const [balance] = await ledger.balances([accountId]);
      return balance?.available ?? 0n;
    },

    /** What the platform bears so far. */
    async borne(): Promise<bigint> {
      const [balance] = await ledger.balances([adjustment]);
      return -(balance?.posted ?? 0n);
    },

    /** A settled request of one part, as it is in the books. */
    async charge(customer: Customer, input: ChargeInput): Promise<Uuid> {
      const {
        adapter,
        ownerId: ownerTenantId = customer.tenantId,
        endedAt,
        priority,
        royaltyVersion,
      } = input;
      const { inputNano, outputNano, royaltyNano = 0n, priceVersion = price.id } = input;
      const earns = adapter !== undefined && royaltyNano > 0n;
      return writeSettled(deps, {
        ...customer,
        backbone,
        endedAt,
        adapter: adapter && { ...adapter, ownerTenantId },
        priority,
        priceVersion,
        royaltyVersion,
        ...(inputNano === undefined ? {} : { inputNano }),
        ...(outputNano === undefined ? {} : { outputNano }),
        royaltyNano,
        platform: base,
        earnings: earns ? await ledger.openAccount(ownerTenantId, 'EARNINGS', 'USD') : undefined,
      });
    },

    /** A request that was admitted and is not settled. */
    async admit(tenantId: Uuid, admittedAt: string): Promise<Uuid> {
      const id = newId(clock);
      await db.admin(
        `INSERT INTO inference_request (id, tenant_id, key_id, instance_id, backbone_digest, adapters, priority_class,
           prompt_tokens, max_tokens, salt, prompt_commitment, admitted_at)
         VALUES ($1, $2, $1, $1, decode($3, 'hex'), '[]', 'STANDARD', 1, 1, decode($3, 'hex'), decode($3, 'hex'), $4)`,
        [id, tenantId, backbone, admittedAt],
      );
      return id;
    },

    setTerms(tenantId: Uuid | null, more: Partial<BillingTerms> | null, effectiveFrom: Date | null = null) {
      const terms = more && { currency: 'USD', freeNano: 0n, minimumNano: 0n, tiers: [], ...more };
      return invoicing.terms.set(OPERATOR, { idempotencyKey: randomUUID(), tenantId, terms, effectiveFrom });
    },

    close(tenantId: Uuid, period = FEBRUARY): Promise<Invoice> {
      return invoicing.periods.close(OPERATOR, { idempotencyKey: randomUUID(), tenantId, period });
    },

    finalise(invoiceId: Uuid): Promise<Invoice> {
      return invoicing.invoices.finalise(OPERATOR, { idempotencyKey: randomUUID(), invoiceId });
    },

    /** The final invoice of a new customer who used so much in February and paid in afterwards. */
    async finalInvoice(totalNano = 1_000n): Promise<{ customer: Customer; invoice: Invoice }> {
      const customer = await kit.customer(totalNano);
      if (totalNano > 0n) {
        await kit.charge(customer, { endedAt: '2024-02-10T00:00:00Z', inputNano: totalNano });
      }
      const { id } = await kit.close(customer.tenantId);
      return { customer, invoice: await kit.finalise(id) };
    },

    markPaid(
      invoiceId: Uuid,
      reference: string | null = null,
      topUpId: Uuid | null = null,
    ): Promise<Invoice> {
      const input = { idempotencyKey: randomUUID(), invoiceId, reference, topUpId };
      return invoicing.invoices.markPaid(OPERATOR, input);
    },

    makeVoid(invoiceId: Uuid): Promise<Invoice> {
      return invoicing.invoices.void(OPERATOR, { idempotencyKey: randomUUID(), invoiceId });
    },

    credit(invoiceId: Uuid, amountNano: bigint, reason = 'An outage') {
      const input = { idempotencyKey: randomUUID(), invoiceId, amountNano, reason };
      return invoicing.invoices.credit(OPERATOR, input);
    },

    audit(targetId: Uuid): Promise<readonly object[]> {
      return db.admin(
        'SELECT action, actor_kind::text, before FROM audit_log WHERE target_id = $1 ORDER BY action',
        [targetId],
      );
    },

    events(subjectId: Uuid): Promise<readonly { readonly kind: string; readonly payload: object }[]> {
      return db.admin('SELECT kind, payload FROM outbox_event WHERE subject_id = $1 ORDER BY position', [
        subjectId,
      ]);
    },
  };
  return kit;
}

export type InvoicingKit = Awaited<ReturnType<typeof openInvoicing>>;
