import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { SYSTEM_ACTOR } from '../../../src/auth/principal.ts';
import { renderInvoice } from '../../../src/invoicing/html.ts';
import type { Invoice } from '../../../src/invoicing/rows.ts';
import { verifyInvoices } from '../../../src/invoicing/verify.ts';
import type { Uuid } from '../../../src/kernel/ids.ts';
import { TenantService } from '../../../src/tenant/service.ts';
import { cli } from '../../unit/cli/fake-io.ts';
import { actorOf, OPERATOR } from '../pricing/kit.ts';
import { AFTER_FEBRUARY, type Customer, type InvoicingKit, ISSUER, openInvoicing } from './kit.ts';

let kit: InvoicingKit;
beforeAll(async () => {
  kit = await openInvoicing();
});
afterAll(() => kit.db.dispose());
beforeEach(() => kit.clock.set(Date.UTC(2024, 0, 2)));

/** A customer with a credit limit, who paid in and used so much before March began. */
async function billed(paidIn: bigint, used: bigint): Promise<{ customer: Customer; invoice: Invoice }> {
  const customer = await kit.customer(paidIn);
  await kit.ledger.setCreditLimit(customer.accountId, 10_000n, randomUUID());
  await kit.charge(customer, { endedAt: '2024-02-29T23:59:59.999999Z', inputNano: used });
  kit.clock.set(AFTER_FEBRUARY);
  return { customer, invoice: await kit.finalise((await kit.close(customer.tenantId)).id) };
}

const posted = async ({ accountId }: Customer): Promise<bigint> =>
  (await kit.ledger.balances([accountId]))[0]?.posted ?? 0n;

describe('a bill says what the balance has paid and what is due', () => {
  test('all of it, a part, or nothing; and one with nothing due is paid when it is final', async () => {
    const cases = [
      [500n, 500n, 500n, 'PAID'],
      [700n, 500n, 500n, 'PAID'],
      [300n, 500n, 300n, 'FINALISED'],
      [0n, 500n, 0n, 'FINALISED'],
    ] as const;
    for (const [paidIn, used, prepaidNano, state] of cases) {
      kit.clock.set(Date.UTC(2024, 0, 2));
      const { invoice } = await billed(paidIn, used);
      expect(invoice, String(paidIn)).toMatchObject({ state, prepaidNano, dueNano: used - prepaidNano });
      expect(invoice.paidAt === null).toBe(state !== 'PAID');
      const page = renderInvoice(invoice);
      expect(page).toContain('Amount due');
      expect(page).toContain('Patchbay Ltd<br>1 Main Street');
    }
    expect((await verifyInvoices(kit.db.database)).problems).toEqual([]);
  });

  test('as of the end of the month: what comes in, or is used, later changes nothing', async () => {
    const customer = await kit.customer(300n);
    await kit.ledger.setCreditLimit(customer.accountId, 10_000n, randomUUID());
    await kit.charge(customer, { endedAt: '2024-02-10T00:00:00Z', inputNano: 500n });
    // The first instant of March.
    await kit.charge(customer, { endedAt: '2024-03-01T00:00:00Z', inputNano: 7_000n });
    kit.clock.set(Date.UTC(2024, 2, 1));
    await kit.topUp(customer, 10_000n);
    kit.clock.set(AFTER_FEBRUARY);
    const invoice = await kit.close(customer.tenantId);
    expect(invoice).toMatchObject({ prepaidNano: 300n, dueNano: 200n, issuer: ISSUER });
    await kit.topUp(customer, 10_000n);
    expect((await verifyInvoices(kit.db.database)).problems).toEqual([]);
  });

  test('month after month: a debt of one is not due again on the next', async () => {
    const { customer, invoice } = await billed(300n, 500n);
    await kit.charge(customer, { endedAt: '2024-03-10T00:00:00Z', inputNano: 40n });
    kit.clock.set(Date.UTC(2024, 3, 2));
    const march = await kit.finalise((await kit.close(customer.tenantId, '2024-03')).id);
    expect(march).toMatchObject({ prepaidNano: 0n, dueNano: 40n });
    await kit.markPaid(invoice.id);
    await kit.markPaid(march.id);
    expect(await posted(customer)).toBe(0n);
  });

  test('and another amount that is written is found', async () => {
    const { invoice } = await billed(300n, 500n);
    const set = (to: bigint): Promise<unknown> =>
      kit.db.admin(
        `DO $$ BEGIN SET LOCAL session_replication_role = replica;
           UPDATE invoice SET prepaid_nano = ${to} WHERE id = '${invoice.id}'; END $$`,
      );
    await set(299n);
    const { problems } = await verifyInvoices(kit.db.database);
    await set(300n);
    expect(problems).toMatchObject([
      { invoiceId: invoice.id, message: expect.stringContaining('had paid 300') },
    ]);
  });

  test('and its parts are its total, in the database too', async () => {
    const { invoice } = await billed(0n, 500n);
    for (const column of ['reduction_nano', 'minimum_nano', 'charges_nano']) {
      const change = kit.db.admin(
        `DO $$ BEGIN SET LOCAL session_replication_role = replica;
           UPDATE invoice SET ${column} = ${column} + 1 WHERE id = '${invoice.id}'; END $$`,
      );
      await expect(change, column).rejects.toMatchObject({ code: '23514', constraint: 'invoice_parts' });
    }
  });
});

describe('a payment', () => {
  test('comes in with the mark, once, whoever races', async () => {
    const { customer, invoice } = await billed(300n, 500n);
    expect(await posted(customer)).toBe(-200n);
    const racing = await Promise.allSettled([1, 2, 3, 4].map(() => kit.markPaid(invoice.id, 'SEPA 1')));
    expect(racing.filter(({ status }) => status === 'fulfilled')).toHaveLength(1);
    expect(await posted(customer)).toBe(0n);
    const transfers = await kit.db.admin(
      `SELECT t.business_key AS key, t.amount::text AS amount FROM ledger_transfer t
       JOIN ledger_posting p ON p.transfer_id = t.id JOIN ledger_account a ON a.id = p.account_id AND a.kind = 'CASH'
       WHERE t.tenant_id = $1 AND t.reference_type = 'invoice_payment'`,
      [customer.tenantId],
    );
    expect(transfers).toEqual([{ key: `invoice.payment:${invoice.id}`, amount: '200' }]);
  });

  test('that came as a top-up is not posted again, and pays one bill', async () => {
    const [one, other] = [await billed(0n, 500n), await billed(0n, 500n)];
    const topUp = await kit.topUp(one.customer, 500n);
    const refused = (invoiceId: Uuid, id: Uuid) =>
      expect(kit.markPaid(invoiceId, null, id)).rejects.toMatchObject({ code: 'BAD_INPUT', field: 'topUp' });
    const little = await kit.topUp(one.customer, 499n);
    await refused(one.invoice.id, little);
    await refused(one.invoice.id, randomUUID());
    // Of another customer.
    await refused(other.invoice.id, topUp);
    const paid = await kit.markPaid(one.invoice.id, 'SEPA 2', topUp);
    expect(paid).toMatchObject({ state: 'PAID', paymentTransferId: topUp });
    expect(await posted(one.customer)).toBe(499n);
    await kit.charge(one.customer, { endedAt: '2024-03-10T00:00:00Z', inputNano: 5_000n });
    kit.clock.set(Date.UTC(2024, 3, 2));
    const march = await kit.finalise((await kit.close(one.customer.tenantId, '2024-03')).id);
    await refused(march.id, topUp);
    expect((await verifyInvoices(kit.db.database)).problems).toEqual([]);
  });

  test('is what credit notes leave; when they leave nothing, the bill is paid with the last', async () => {
    const { customer, invoice } = await billed(300n, 500n);
    await kit.credit(invoice.id, 150n);
    expect(await kit.invoicing.reader.get(OPERATOR, invoice.id)).toMatchObject({ dueNano: 50n });
    await kit.credit(invoice.id, 50n);
    expect(await kit.invoicing.reader.get(OPERATOR, invoice.id)).toMatchObject({ state: 'PAID' });
    expect(await posted(customer)).toBe(0n);
  });
});

test('a month that begins after a tenant was closed is none to bill', async () => {
  const others = await openInvoicing();
  try {
    const { db, clock, invoicing } = others;
    await others.setTerms(null, { minimumNano: 50n });
    const { tenantId } = await others.customer(1_000n);
    const tenants = new TenantService({ database: db.database, clock });
    clock.set(Date.UTC(2024, 1, 29));
    await tenants.setState(SYSTEM_ACTOR, tenantId, 'CLOSED');
    clock.set(Date.UTC(2024, 3, 2));
    const page = await invoicing.periods.open(OPERATOR, { first: 20, after: null });
    expect(page.items.map(({ start }) => start.toISOString().slice(0, 7))).toEqual(['2024-01', '2024-02']);
    expect(await others.close(tenantId)).toMatchObject({ totalNano: 50n });
    await expect(others.close(tenantId, '2024-03')).rejects.toMatchObject({
      ...{ code: 'BAD_INPUT', field: 'period', meta: { closedAt: '2024-02-29T00:00:00.000Z' } },
    });
    const all = { idempotencyKey: 'all', period: '2024-03', first: 10, after: null };
    expect(await invoicing.periods.closeAll(OPERATOR, all)).toMatchObject({ closed: [], refused: [] });
  } finally {
    await others.db.dispose();
  }
});

describe('a month of all tenants', () => {
  test('is closed one by one; what is refused stops no other, and is told', async () => {
    const others = await openInvoicing();
    try {
      const next = () => {
        // Tenants come in the order of their ids, which have the time in them.
        others.clock.advance(1);
        return others.customer();
      };
      const [one, busy, three] = [await next(), await next(), await next()];
      await others.admit(busy.tenantId, '2024-02-10T00:00:00Z');
      others.clock.set(AFTER_FEBRUARY);
      const late = await others.customer();
      await others.db.admin(`UPDATE tenant SET created_at = '2024-03-01T00:00:00Z' WHERE id = $1`, [
        late.tenantId,
      ]);
      const { periods } = others.invoicing;
      const open = async () =>
        (await periods.open(OPERATOR, { first: 20, after: null })).items.map(
          ({ tenantId, start, unsettled }) => [start.toISOString().slice(0, 7), tenantId, unsettled],
        );
      const months = (month: string, ...who: readonly Customer[]) =>
        who.map(({ tenantId }) => [month, tenantId, tenantId === busy.tenantId ? 1 : 0]);
      const january = months('2024-01', one, busy, three).map(([month, id]) => [month, id, 0]);
      expect(await open()).toEqual([...january, ...months('2024-02', one, busy, three)]);
      const step = (after: Uuid | null) =>
        periods.closeAll(OPERATOR, { idempotencyKey: 'all', period: '2024-02', first: 2, after });
      const first = await step(null);
      expect(first.closed.map(({ tenantId }) => tenantId)).toEqual([one.tenantId]);
      expect(first).toMatchObject({
        ...{ alreadyClosed: 0, next: busy.tenantId },
        refused: [{ tenantId: busy.tenantId, error: { code: 'PERIOD_OPEN', meta: { unsettled: 1 } } }],
      });
      const second = await step(first.next);
      expect(second).toMatchObject({ closed: [{ tenantId: three.tenantId }], refused: [], next: null });
      expect(await step(null)).toMatchObject({ closed: [], alreadyClosed: 1, refused: [{}] });
      expect(await open()).toEqual([...january, ...months('2024-02', busy)]);
      const page = await periods.open(OPERATOR, { first: 1, after: `2024-01/${three.tenantId}` });
      expect(page).toMatchObject({ items: [{ tenantId: busy.tenantId, unsettled: 1 }], hasNextPage: false });
      // The same without a server: January is open for everybody, February for the one with a request that runs.
      const environment = { DATABASE_URL: others.db.adminUrl, PATCHBAY_SECRET: others.db.secret };
      const run = (month: string) => cli(['invoices', 'close', month, '--json'], { environment });
      const done = await run('2024-01');
      expect([done.code, JSON.parse(done.out)]).toMatchObject([0, { closed: [{}, {}, {}], refused: [] }]);
      const left = await run('2024-02');
      expect(left.code).toBe(1);
      expect(JSON.parse(left.out)).toMatchObject({
        ...{ closed: [], alreadyClosed: 2 },
        refused: [{ tenantId: busy.tenantId, error: { code: 'PERIOD_OPEN' } }],
      });
      const tenant = actorOf(one.tenantId);
      const input = { idempotencyKey: 'x', period: '2024-02', first: 2, after: null };
      await expect(periods.closeAll(tenant, input)).rejects.toMatchObject({ code: 'FORBIDDEN' });
      await expect(periods.open(tenant, { first: 1, after: null })).rejects.toMatchObject({
        code: 'FORBIDDEN',
      });
      await expect(periods.closeAll(OPERATOR, { ...input, period: '2199-01' })).rejects.toMatchObject({
        code: 'PERIOD_OPEN',
      });
    } finally {
      await others.db.dispose();
    }
  });
});
