import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { CLOSE_GRACE_MS } from '../../../src/invoicing/closing.ts';
import { createInvoicing } from '../../kit/invoicing.ts';
import { actorOf, OPERATOR, ofBackbone, openPricing } from '../pricing/kit.ts';
import { AFTER_FEBRUARY, type Customer, FEBRUARY, type InvoicingKit, openInvoicing } from './kit.ts';

const page = { first: 10, after: null };

let kit: InvoicingKit;
beforeAll(async () => {
  kit = await openInvoicing();
});
afterAll(() => kit.db.dispose());
beforeEach(() => kit.clock.set(AFTER_FEBRUARY));

const linesOf = (invoice: { document: { lines: readonly { totalNano: bigint }[] } }) =>
  invoice.document.lines.map(({ totalNano }) => totalNano);

describe('a period', () => {
  test('has what ended in it, to the microsecond, whatever zone it is written in', async () => {
    const customer = await kit.customer(10_000n);
    const amounts: [string, bigint][] = [
      // Still January.
      ['2024-01-31T23:59:59.999999Z', 1n],
      ['2024-02-01T00:30:00+01:00', 2n],
      // February, with its 29th day.
      ['2024-02-01T00:00:00Z', 10n],
      ['2024-02-29T23:59:59.999999Z', 20n],
      ['2024-03-01T08:00:00+14:00', 40n],
      ['2024-02-29T12:59:59-11:00', 80n],
      // March already.
      ['2024-03-01T00:00:00Z', 100n],
      ['2024-02-29T13:00:00-11:00', 200n],
    ];
    for (const [endedAt, inputNano] of amounts) await kit.charge(customer, { endedAt, inputNano });
    const { document } = await kit.close(customer.tenantId);
    expect(document.chargesNano).toBe(150n);
    expect(document.lines).toMatchObject([
      { requests: 4n, inputTokens: 40n, cachedTokens: 8n, outputTokens: 20n },
    ]);
    const january = await kit.close(customer.tenantId, '2024-01');
    expect(january.document.chargesNano).toBe(3n);
    kit.clock.set(Date.UTC(2024, 3, 1) + CLOSE_GRACE_MS);
    expect((await kit.close(customer.tenantId, '2024-03')).document.chargesNano).toBe(300n);
  });

  test('is closed once it is over, and not a millisecond before', async () => {
    const { tenantId } = await kit.customer();
    const end = Date.UTC(2024, 2, 1);
    for (const at of [end - 1, end, end + CLOSE_GRACE_MS - 1]) {
      kit.clock.set(at);
      await expect(kit.close(tenantId)).rejects.toMatchObject({ code: 'PERIOD_OPEN', field: 'period' });
    }
    kit.clock.set(end + CLOSE_GRACE_MS);
    expect((await kit.close(tenantId)).state).toBe('DRAFT');
    // The database's clock has to agree: requests end by it.
    kit.clock.set(Date.UTC(2199, 0, 1));
    await expect(kit.close(tenantId, '2198-01')).rejects.toMatchObject({ code: 'PERIOD_OPEN' });
  });

  test('waits for every request that was admitted before its end', async () => {
    const { tenantId } = await kit.customer();
    const other = await kit.customer();
    const inside = await kit.admit(tenantId, '2024-02-29T23:59:59.999999Z');
    // It may still end in February, even if it was admitted in January.
    const before = await kit.admit(tenantId, '2024-01-05T00:00:00Z');
    await kit.admit(tenantId, '2024-03-01T00:00:00Z');
    const refused = { code: 'PERIOD_OPEN', meta: { unsettled: 2 } };
    await expect(kit.close(tenantId)).rejects.toMatchObject(refused);
    expect((await kit.close(other.tenantId)).state).toBe('DRAFT');
    await kit.db.admin('DELETE FROM inference_request WHERE id = $1', [inside]);
    await expect(kit.close(tenantId)).rejects.toMatchObject({ meta: { unsettled: 1 } });
    await kit.db.admin('DELETE FROM inference_request WHERE id = $1', [before]);
    expect((await kit.close(tenantId)).document.lines).toEqual([]);
  });

  test('is closed once, by whoever comes first, and the same key answers the same', async () => {
    const customer = await kit.customer(100n);
    await kit.charge(customer, { endedAt: '2024-02-10T00:00:00Z', inputNano: 100n });
    await kit.setTerms(customer.tenantId, { freeNano: 60n }, new Date(kit.clock.nowMs()));
    // The terms above begin in March; this closes February without any.
    const input = { idempotencyKey: randomUUID(), tenantId: customer.tenantId, period: FEBRUARY };
    const close = () => kit.invoicing.periods.close(OPERATOR, input);
    const [first, second] = await Promise.all([close(), close()]);
    expect(first).toEqual(second);
    expect(first?.document.totalNano).toBe(100n);
    const racing = await Promise.allSettled([1, 2, 3].map(() => kit.close(customer.tenantId)));
    for (const one of racing) {
      expect(one).toMatchObject({ status: 'rejected', reason: { code: 'INVOICE_STATE' } });
    }
    await expect(
      kit.invoicing.periods.close(OPERATOR, { ...input, period: '2024-01' }),
    ).rejects.toMatchObject({ code: 'IDEMPOTENCY_CONFLICT' });
  });

  test('of racing closings one wins, and posts once', async () => {
    kit.clock.set(Date.UTC(2024, 0, 2));
    const customer = await kit.customer(1_000n);
    await kit.setTerms(customer.tenantId, { freeNano: 60n });
    await kit.charge(customer, { endedAt: '2024-02-10T00:00:00Z', inputNano: 100n });
    kit.clock.set(AFTER_FEBRUARY);
    const racing = await Promise.allSettled([1, 2, 3, 4].map(() => kit.close(customer.tenantId)));
    expect(racing.filter(({ status }) => status === 'fulfilled')).toHaveLength(1);
    expect(await kit.available(customer)).toBe(960n);
  });

  test('needs an operator, a tenant that is there, and a month', async () => {
    const { tenantId } = await kit.customer();
    const input = { idempotencyKey: randomUUID(), tenantId, period: FEBRUARY };
    const close = (more: object, actor = OPERATOR) =>
      kit.invoicing.periods.close(actor, { ...input, ...more });
    await expect(close({}, actorOf(tenantId))).rejects.toMatchObject({ code: 'FORBIDDEN' });
    await expect(close({ tenantId: randomUUID() })).rejects.toMatchObject({ code: 'NOT_FOUND' });
    await expect(close({ tenantId: OPERATOR.tenantId })).rejects.toMatchObject({ code: 'NOT_FOUND' });
    // A month before it was a customer.
    await expect(close({ period: '2023-12' })).rejects.toMatchObject({ code: 'BAD_INPUT', field: 'period' });
    await expect(close({ period: '2024-2' })).rejects.toMatchObject({ code: 'BAD_INPUT', field: 'period' });
  });
});

describe('lines', () => {
  test('are by adapter version, class, price and royalty, and carry the names of their time', async () => {
    const customer = await kit.customer(10_000n);
    const owner = await kit.pricing.tenant();
    const adapter = await kit.pricing.adapter(owner, kit.backbone);
    const royaltyVersion = randomUUID();
    const priceVersion = randomUUID();
    const endedAt = '2024-02-10T00:00:00Z';
    const uses = { adapter, ownerId: owner, endedAt };
    await kit.charge(customer, { endedAt, inputNano: 1n });
    await kit.charge(customer, { endedAt, inputNano: 2n, priority: 'BATCH' });
    await kit.charge(customer, { ...uses, inputNano: 4n });
    await kit.charge(customer, { ...uses, inputNano: 8n, royaltyNano: 3n, royaltyVersion });
    await kit.charge(customer, { ...uses, inputNano: 16n, royaltyNano: 3n, royaltyVersion });
    await kit.charge(customer, { ...uses, outputNano: 32n, royaltyVersion, priceVersion });
    const { document, names } = await kit.close(customer.tenantId);
    const sums = document.lines.map((line) => ({
      of: line.adapterVersionId,
      priority: line.priority,
      requests: line.requests,
      royalty: line.royaltyNano,
      total: line.totalNano,
    }));
    const { versionId } = adapter;
    expect(sums.slice(0, 2)).toEqual([
      { of: null, priority: 'BATCH', requests: 1n, royalty: 0n, total: 2n },
      { of: null, priority: 'STANDARD', requests: 1n, royalty: 0n, total: 1n },
    ]);
    expect(sums.slice(2).toSorted((a, b) => Number(a.total - b.total))).toEqual([
      { of: versionId, priority: 'STANDARD', requests: 1n, royalty: 0n, total: 4n },
      { of: versionId, priority: 'STANDARD', requests: 2n, royalty: 6n, total: 30n },
      { of: versionId, priority: 'STANDARD', requests: 1n, royalty: 0n, total: 32n },
    ]);
    expect(names).toEqual({
      [versionId]: `t-${owner}/a-${adapter.adapterId} v1`,
      [kit.backbone]: 'b',
    });
  });

  test('of a tenant never hold another’s, and a period of nothing is a bill of zero', async () => {
    const [one, other] = [await kit.customer(10n), await kit.customer()];
    await kit.charge(one, { endedAt: '2024-02-10T00:00:00Z', inputNano: 10n });
    await kit.charge(other, { endedAt: '2024-02-10T00:00:00Z' });
    expect(linesOf(await kit.close(one.tenantId))).toEqual([10n]);
    const free = await kit.close(other.tenantId);
    expect(free.document).toMatchObject({ lines: [{ requests: 1n }], chargesNano: 0n, totalNano: 0n });
    const idle = await kit.customer();
    const borne = await kit.borne();
    const nothing = await kit.finalise((await kit.close(idle.tenantId)).id);
    expect(nothing).toMatchObject({ state: 'PAID', dueNano: 0n, document: { lines: [], totalNano: 0n } });
    expect(await kit.borne()).toBe(borne);
  });

  test('and adjustments are exact beyond 2^53 and beyond what one transfer holds', async () => {
    kit.clock.set(Date.UTC(2024, 0, 2));
    const most = 10n ** 18n;
    const customer = await kit.customer();
    for (let i = 0; i < 3; i += 1) await kit.topUp(customer, most);
    const tiers = [{ fromNano: 0n, discountPpm: 500_000n }];
    await kit.setTerms(customer.tenantId, { freeNano: 1n, tiers });
    for (let i = 0; i < 3; i += 1) {
      await kit.charge(customer, { endedAt: '2024-02-10T00:00:00Z', inputNano: most });
    }
    kit.clock.set(AFTER_FEBRUARY);
    const { document, id } = await kit.close(customer.tenantId);
    expect(document.chargesNano).toBe(3n * most);
    // Half of 3e18 − 1, to the even one.
    expect(document.totalNano).toBe(3n * most - 1n - 1_500_000_000_000_000_000n);
    expect(await kit.available(customer)).toBe(1_500_000_000_000_000_001n);
    const [row] = await kit.db.admin('SELECT total_nano::text AS total FROM invoice WHERE id = $1', [id]);
    expect(row).toEqual({ total: String(document.totalNano) });
  });
});

describe('terms', () => {
  let customer: Customer;
  beforeEach(async () => {
    kit.clock.set(Date.UTC(2024, 0, 2));
    customer = await kit.customer(1_000n);
    await kit.charge(customer, { endedAt: '2024-02-10T00:00:00Z', inputNano: 400n });
  });
  const close = () => {
    kit.clock.set(AFTER_FEBRUARY);
    return kit.close(customer.tenantId);
  };

  test('that are in effect at the end of the period hold for all of it', async () => {
    const end = Date.UTC(2024, 2, 1);
    await kit.setTerms(customer.tenantId, { freeNano: 1n });
    const last = await kit.setTerms(customer.tenantId, { freeNano: 2n }, new Date(end - 1));
    await kit.setTerms(customer.tenantId, { freeNano: 4n }, new Date(end));
    const { document } = await close();
    expect(document).toMatchObject({ totalNano: 398n, terms: { id: last.id } });
    kit.clock.set(Date.UTC(2024, 3, 2));
    expect((await kit.close(customer.tenantId, '2024-03')).document.terms?.terms.freeNano).toBe(4n);
  });

  test('post what they change between the customer and the platform', async () => {
    const tiers = [
      { fromNano: 100n, discountPpm: 100_000n },
      { fromNano: 200n, discountPpm: 500_000n },
    ];
    await kit.setTerms(customer.tenantId, { freeNano: 100n, tiers, minimumNano: 300n });
    const borne = await kit.borne();
    const { document, id, openNano } = await close();
    expect(document.adjustments).toEqual([
      { kind: 'ALLOWANCE', amountNano: -100n },
      { kind: 'TIER', fromNano: 100n, discountPpm: 100_000n, basisNano: 100n, amountNano: -10n },
      { kind: 'TIER', fromNano: 200n, discountPpm: 500_000n, basisNano: 100n, amountNano: -50n },
      { kind: 'MINIMUM', amountNano: 60n },
    ]);
    expect([document.totalNano, openNano]).toEqual([300n, 0n]);
    expect(await kit.available(customer)).toBe(700n);
    expect((await kit.borne()) - borne).toBe(100n);
    const transfers = await kit.db.admin(
      `SELECT t.business_key AS key, t.amount::text AS amount, count(*)::integer AS lines, sum(p.amount)::text AS net
       FROM ledger_transfer t JOIN ledger_posting p ON p.transfer_id = t.id
       WHERE t.reference_type = 'invoice' AND t.reference_id = $1 GROUP BY t.id ORDER BY key`,
      [id],
    );
    expect(transfers).toEqual([
      { key: 'invoice.minimum:2024-02', amount: '60', lines: 2, net: '0' },
      { key: 'invoice.reductions:2024-02', amount: '160', lines: 2, net: '0' },
    ]);
  });

  test('of a tenant go before the default ones, and may give way to them again', async () => {
    // In a database of its own, because the default holds for everybody.
    const others = await openInvoicing();
    try {
      const mine = await others.customer(1_000n);
      const plain = await others.customer(1_000n);
      for (const one of [mine, plain]) {
        await others.charge(one, { endedAt: '2024-02-10T00:00:00Z', inputNano: 400n });
      }
      others.clock.set(Date.UTC(2024, 0, 2));
      await others.setTerms(null, { freeNano: 50n });
      await others.setTerms(mine.tenantId, { freeNano: 70n });
      await others.setTerms(mine.tenantId, null, new Date(Date.UTC(2024, 2, 15)));
      others.clock.set(Date.UTC(2024, 3, 2));
      expect((await others.close(mine.tenantId)).document.totalNano).toBe(330n);
      expect((await others.close(plain.tenantId)).document.totalNano).toBe(350n);
      const march = await others.close(mine.tenantId, '2024-03');
      expect(march.document.terms?.terms.freeNano).toBe(50n);
      const history = await others.invoicing.terms.list(actorOf(mine.tenantId), mine.tenantId, page);
      expect(history.items.map(({ terms }) => terms?.freeNano ?? null)).toEqual([null, 70n]);
      const shared = await others.invoicing.terms.list(actorOf(mine.tenantId), null, page);
      expect(shared.items).toMatchObject([{ tenantId: null, terms: { freeNano: 50n } }]);
      // A default that begins before the end of anybody's closed period would change it.
      await expect(others.setTerms(null, {}, new Date(Date.UTC(2024, 3, 1)))).resolves.toBeTruthy();
      const within = new Date(Date.UTC(2024, 2, 20));
      await expect(others.setTerms(null, {}, within)).rejects.toMatchObject({ code: 'TERMS_CONFLICT' });
    } finally {
      await others.db.dispose();
    }
  });

  test('cannot begin in a closed period, twice at once, or in another currency', async () => {
    const { tenantId } = customer;
    await close();
    const at = (ms: number) => kit.setTerms(tenantId, { freeNano: 1n }, new Date(ms));
    await expect(at(Date.UTC(2024, 1, 20))).rejects.toMatchObject({ code: 'TERMS_CONFLICT' });
    await expect(at(Date.UTC(2024, 2, 1) - 1)).rejects.toMatchObject({ code: 'TERMS_CONFLICT' });
    await at(Date.UTC(2024, 2, 1));
    await expect(at(Date.UTC(2024, 2, 1))).rejects.toMatchObject({ code: 'TERMS_CONFLICT' });
    await expect(kit.setTerms(tenantId, { currency: 'EUR' })).rejects.toMatchObject({
      code: 'BAD_INPUT',
      field: 'terms.currency',
    });
    await expect(kit.setTerms(null, null)).rejects.toMatchObject({ code: 'BAD_INPUT', field: 'terms' });
    await expect(kit.setTerms(randomUUID(), {})).rejects.toMatchObject({ code: 'NOT_FOUND' });
    for (const statement of ['UPDATE billing_terms SET free_nano = 0', 'DELETE FROM billing_terms']) {
      await expect(kit.db.admin(statement)).rejects.toMatchObject({ code: '42501' });
    }
  });
});

describe('a minimum charge that does not fit into the balance', () => {
  test('waits, and is posted when there is room for all of it', async () => {
    kit.clock.set(Date.UTC(2024, 0, 2));
    const customer = await kit.customer(100n);
    await kit.setTerms(customer.tenantId, { freeNano: 10n, minimumNano: 500n });
    await kit.charge(customer, { endedAt: '2024-02-10T00:00:00Z', inputNano: 100n });
    kit.clock.set(AFTER_FEBRUARY);
    const draft = await kit.close(customer.tenantId);
    expect(draft).toMatchObject({ openNano: 410n, document: { totalNano: 500n } });
    // The allowance is given whatever becomes of the rest.
    expect(await kit.available(customer)).toBe(10n);
    const invoice = await kit.finalise(draft.id);
    expect(invoice).toMatchObject({ state: 'FINALISED', openNano: 410n });

    expect(await kit.invoicing.invoices.collectOpenCharges()).toEqual({ posted: 0, failed: [] });
    await kit.topUp(customer, 399n);
    expect(await kit.invoicing.invoices.collectOpenCharges()).toEqual({ posted: 0, failed: [] });
    expect(await kit.available(customer)).toBe(409n);
    // What was charged so far is what can be given back: 90 of 500.
    await expect(kit.credit(invoice.id, 91n)).rejects.toMatchObject({ code: 'CREDIT_EXCEEDED' });

    const rest = await kit.topUp(customer, 401n);
    const collected = await Promise.all([1, 2, 3].map(() => kit.invoicing.invoices.collectOpenCharges()));
    expect(collected.reduce((sum, { posted }) => sum + posted, 0)).toBe(1);
    expect(await kit.available(customer)).toBe(400n);
    // The balance had paid 100 of 500, and the top-up has brought the other 400.
    const paid = await kit.markPaid(invoice.id, 'transfer 7', rest);
    expect(paid).toMatchObject({ state: 'PAID', openNano: 0n, paymentReference: 'transfer 7' });
    expect(await kit.available(customer)).toBe(400n);
    expect((await kit.credit(invoice.id, 500n)).amountNano).toBe(500n);
  });

  test('is posted when the invoice is paid, and fits into a credit limit too', async () => {
    kit.clock.set(Date.UTC(2024, 0, 2));
    const [waiting, limited] = [await kit.customer(), await kit.customer()];
    for (const { tenantId } of [waiting, limited]) await kit.setTerms(tenantId, { minimumNano: 50n });
    await kit.ledger.setCreditLimit(limited.accountId, 50n, 'limit');
    kit.clock.set(AFTER_FEBRUARY);
    expect(await kit.close(limited.tenantId)).toMatchObject({ openNano: 0n });
    expect(await kit.available(limited)).toBe(0n);
    const { id, dueNano } = await kit.finalise((await kit.close(waiting.tenantId)).id);
    expect(dueNano).toBe(50n);
    expect(await kit.markPaid(id)).toMatchObject({ state: 'PAID', openNano: 0n });
    expect(await kit.available(waiting)).toBe(0n);
  });

  test('is written down when it is posted, and so is that the bill is paid by it', async () => {
    kit.clock.set(Date.UTC(2024, 0, 2));
    const customer = await kit.customer();
    await kit.setTerms(customer.tenantId, { minimumNano: 50n });
    kit.clock.set(AFTER_FEBRUARY);
    const { id } = await kit.finalise((await kit.close(customer.tenantId)).id);
    await kit.ledger.setCreditLimit(customer.accountId, 50n, 'limit');
    expect(await kit.invoicing.invoices.collectOpenCharges()).toEqual({ posted: 1, failed: [] });
    await kit.credit(id, 50n);
    expect(await kit.audit(id)).toEqual([
      { action: 'invoice.collected', actor_kind: 'SYSTEM', before: { openNano: '50' } },
      { action: 'invoice.finalise', actor_kind: 'OPERATOR', before: { state: 'DRAFT' } },
      { action: 'invoice.settled', actor_kind: 'SYSTEM', before: { state: 'FINALISED' } },
      { action: 'period.close', actor_kind: 'OPERATOR', before: null },
    ]);
  });

  test('is never posted when the invoice is made void', async () => {
    kit.clock.set(Date.UTC(2024, 0, 2));
    const customer = await kit.customer(30n);
    await kit.setTerms(customer.tenantId, { minimumNano: 500n });
    await kit.charge(customer, { endedAt: '2024-02-10T00:00:00Z', inputNano: 30n });
    kit.clock.set(AFTER_FEBRUARY);
    const { id } = await kit.finalise((await kit.close(customer.tenantId)).id);
    await kit.credit(id, 10n);
    const input = { idempotencyKey: randomUUID(), invoiceId: id };
    expect(await kit.invoicing.invoices.void(OPERATOR, input)).toMatchObject({ state: 'VOID', openNano: 0n });
    expect(await kit.available(customer)).toBe(0n);
    await kit.topUp(customer, 1_000n);
    expect(await kit.invoicing.invoices.collectOpenCharges()).toEqual({ posted: 0, failed: [] });
    expect(await kit.available(customer)).toBe(1_000n);
  });

  // The last one: from here on the books do not agree.
  test('keeps no other from being posted when it cannot be', async () => {
    kit.clock.set(Date.UTC(2024, 0, 2));
    const [first, second] = [await kit.customer(), await kit.customer()];
    for (const { tenantId } of [first, second]) await kit.setTerms(tenantId, { minimumNano: 50n });
    kit.clock.set(AFTER_FEBRUARY);
    const bills = [await kit.close(first.tenantId), await kit.close(second.tenantId)];
    // Somebody has used the key of the first for something else.
    await kit.topUp(first, 60n, 'invoice.minimum:2024-02');
    await kit.topUp(second, 60n);
    const { posted, failed } = await kit.invoicing.invoices.collectOpenCharges();
    expect([posted, failed]).toMatchObject([
      1,
      [{ invoiceId: bills[0]?.id, error: { code: 'LEDGER_CONFLICT' } }],
    ]);
  });
});

test('without any price there is no currency, and nothing to close', async () => {
  const empty = await openPricing();
  empty.clock.set(AFTER_FEBRUARY);
  const invoicing = createInvoicing({ database: empty.db.database, clock: empty.clock });
  const tenantId = await empty.tenant();
  await empty.db.admin(`UPDATE tenant SET created_at = '2024-01-01T00:00:00Z' WHERE id = $1`, [tenantId]);
  const input = { idempotencyKey: randomUUID(), tenantId, period: FEBRUARY };
  await expect(invoicing.periods.close(OPERATOR, input)).rejects.toMatchObject({ code: 'PRICE_MISSING' });
  await empty.setPrice(ofBackbone(await empty.backbone()), {});
  expect((await invoicing.periods.close(OPERATOR, input)).document.currency).toBe('USD');
  await empty.db.dispose();
});
