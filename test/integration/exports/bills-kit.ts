import { randomUUID } from 'node:crypto';
import type { Invoice } from '../../../src/invoicing/rows.ts';
import type { Uuid } from '../../../src/kernel/ids.ts';
import type { Payout } from '../../../src/payouts/types.ts';
import type { TestDatabase } from '../../kit/postgres.ts';
import { AFTER_FEBRUARY, openInvoicing } from '../invoicing/kit.ts';
import { type Beneficiary, DAY_MS, IBAN, newCurrency, openPayoutsKit, UNIT } from '../payouts/kit.ts';
import { OPERATOR } from '../pricing/kit.ts';

/** Invoices of the kit become final, and are corrected, in this month. */
export const MARCH = { from: new Date('2024-03-01T00:00:00Z'), until: new Date('2024-04-01T00:00:00Z') };
/** Payouts of the kit come to an end in this year. */
export const LEAP_YEAR = { from: new Date('2028-01-01T00:00:00Z'), until: new Date('2029-01-01T00:00:00Z') };
/** When the invoice is paid. */
export const PAID_AT = new Date('2024-03-10T00:00:00Z');
/** Past 2^53. */
const MUCH = 9_007_199_254_740_993n;

/** What {@link writeBills} wrote, by the services that a server has. */
export interface Bills {
  readonly customer: Uuid;
  /** Of the customer: three lines, an allowance and a tier; paid, with two credit notes. */
  readonly invoice: Invoice;
  /** Of others: one that was voided, one of nothing, and a draft. */
  readonly voided: Invoice;
  readonly empty: Invoice;
  readonly draft: Invoice;
  readonly beneficiary: Uuid;
  /** Of the beneficiary: paid, failed, and one that the bank calls unknown. */
  readonly paid: Payout;
  readonly failed: Payout;
  readonly unknown: Payout;
  /** Learns what became of the unknown one. */
  resolve(): Promise<void>;
  /** Leaves the database to whoever gave it. */
  dispose(): Promise<void>;
}

/** Writes bills and payouts into a test's database. */
export async function writeBills(db: TestDatabase): Promise<Bills> {
  return { ...(await writeInvoices(db)), ...(await writePayouts(db)) };
}

async function writeInvoices(db: TestDatabase) {
  const kit = await openInvoicing(db);
  const { invoices } = kit.invoicing;
  kit.clock.set(Date.UTC(2024, 0, 2));
  // They pay by bill: of what is taken from a balance nothing would be due.
  const onCredit = async (limit: bigint) => {
    const customer = await kit.customer();
    await kit.ledger.setCreditLimit(customer.accountId, limit, 'limit');
    return customer;
  };
  const customer = await onCredit(3n * MUCH);
  const owner = await kit.pricing.tenant();
  const adapter = await kit.pricing.adapter(owner, kit.backbone);
  const endedAt = '2024-02-10T00:00:00Z';
  await kit.setTerms(customer.tenantId, { freeNano: 100n, tiers: [{ fromNano: 0n, discountPpm: 500_000n }] });
  await kit.charge(customer, { endedAt, inputNano: MUCH, outputNano: 5n });
  await kit.charge(customer, { endedAt, outputNano: 7n, priority: 'BATCH' });
  await kit.charge(customer, { endedAt, inputNano: 20n, royaltyNano: 11n, adapter, ownerId: owner });
  const others = [await onCredit(50n), await kit.customer(), await kit.customer()];
  const [voids, none, drafts] = others.map(({ tenantId }) => tenantId);
  if (others[0] !== undefined) await kit.charge(others[0], { endedAt, inputNano: 50n });

  kit.clock.set(AFTER_FEBRUARY);
  const final = async (tenantId = ''): Promise<Invoice> => kit.finalise((await kit.close(tenantId)).id);
  const { id: invoiceId } = await final(customer.tenantId);
  const { id: voidedId } = await final(voids);
  const empty = await final(none);
  const draft = await kit.close(drafts ?? '');
  await kit.credit(invoiceId, 3n, 'An "outage", twice');
  // Ids of one millisecond are in no order.
  kit.clock.advance(1_000);
  await kit.credit(invoiceId, 4n);
  const change = (id: Uuid) => ({ idempotencyKey: randomUUID(), invoiceId: id });
  kit.clock.set(PAID_AT.getTime());
  const invoice = await invoices.markPaid(OPERATOR, {
    ...change(invoiceId),
    reference: 'Wire 7',
    topUpId: null,
  });
  const voided = await invoices.void(OPERATOR, change(voidedId));
  return { customer: customer.tenantId, invoice, voided, empty, draft };
}

async function writePayouts(db: TestDatabase) {
  const kit = await openPayoutsKit({ db });
  const currencies = [newCurrency(), newCurrency(), newCurrency()] as const;
  const who = await kit.beneficiary(currencies[0], { reference: IBAN });
  const sent = async (currency: string, amount: bigint): Promise<Payout> => {
    const accountId = await kit.ledger.openAccount(who.tenantId, 'EARNINGS', currency);
    const earner: Beneficiary = { ...who, accountId };
    await kit.earn(earner, currency, amount);
    kit.clock.advance(kit.options.holdbackMs + DAY_MS);
    const { id } = await kit.submitted(currency);
    const [payout] = await kit.payoutsOf(id);
    if (payout === undefined) throw new Error('A batch has a payout.');
    return payout;
  };
  const said = (
    { paymentKey: key, amountNano: amount }: Payout,
    state: string,
    reference: string | null,
  ) => ({
    ...{ key, state, amount, reference },
  });
  const paid = await sent(currencies[0], 20n * UNIT);
  const failed = await sent(currencies[1], 30n * UNIT);
  const unknown = await sent(currencies[2], 40n * UNIT);
  await kit.say([said(paid, 'PAID', 'B-1'), said(failed, 'FAILED', null), said(unknown, 'UNKNOWN', null)]);
  const resolve = async (): Promise<void> => {
    kit.clock.advance(DAY_MS);
    const outcome = { payoutId: unknown.id, outcome: 'PAID' as const, bankReference: 'B-2' };
    await kit.payouts.outcomes.resolveUnknown(kit.drafter, outcome);
  };
  return { beneficiary: who.tenantId, paid, failed, unknown, resolve, dispose: kit.dispose };
}
