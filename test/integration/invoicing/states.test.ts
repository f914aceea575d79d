import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { sqlState } from '../../../src/db/errors.ts';
import { verifyInvoices } from '../../../src/invoicing/verify.ts';
import { actorOf, OPERATOR } from '../pricing/kit.ts';
import { AFTER_FEBRUARY, type InvoicingKit, openInvoicing } from './kit.ts';

let kit: InvoicingKit;
beforeAll(async () => {
  kit = await openInvoicing();
});
afterAll(() => kit.db.dispose());
beforeEach(() => kit.clock.set(AFTER_FEBRUARY));

const keyed = (invoiceId: string) => ({ idempotencyKey: randomUUID(), invoiceId });
const markPaid = (invoiceId: string, reference: string | null = null) => kit.markPaid(invoiceId, reference);
const makeVoid = (invoiceId: string) => kit.makeVoid(invoiceId);

/** The SQLSTATE that a statement of the superuser fails with; null when it does not fail. */
async function stateOf(statement: string, values: readonly unknown[] = []): Promise<string | null> {
  try {
    await kit.db.admin(statement, values);
    return null;
  } catch (error) {
    return sqlState(error);
  }
}

describe('states', () => {
  test('go from draft to final to paid, with an event for each in the same transaction', async () => {
    const { customer, invoice } = await kit.finalInvoice();
    expect(invoice).toMatchObject({ state: 'FINALISED', number: expect.stringMatching(/^INV-2024-\d{6}$/) });
    expect(invoice.finalisedAt?.getTime()).toBe(AFTER_FEBRUARY);
    const paid = await markPaid(invoice.id, 'bank 1');
    expect(invoice).toMatchObject({ prepaidNano: 0n, dueNano: 1_000n });
    expect(paid).toEqual({
      ...invoice,
      ...{ state: 'PAID', dueNano: 0n, paidAt: paid.paidAt },
      ...{ paymentReference: 'bank 1', paymentTransferId: expect.any(String) },
    });
    expect(await kit.events(invoice.id)).toEqual(
      ['invoice.finalised', 'invoice.paid'].map((kind) => ({
        kind,
        payload: {
          number: invoice.number,
          period: '2024-02',
          currency: 'USD',
          totalNano: '1000',
          sha256: invoice.sha256,
        },
      })),
    );
    // Nothing was left of the balance, and what was due has come in.
    expect(await kit.available(customer)).toBe(1_000n);
  });

  test('go no other way, in the program and in the database', async () => {
    const customer = await kit.customer();
    const draft = await kit.close(customer.tenantId);
    const { invoice: final } = await kit.finalInvoice();
    const { id: paid } = await markPaid((await kit.finalInvoice()).invoice.id);
    const { id: gone } = await makeVoid((await kit.finalInvoice()).invoice.id);
    const refused = { code: 'INVOICE_STATE', field: 'invoice' };
    const { id: open } = draft;
    for (const work of [() => markPaid(open), () => makeVoid(open), () => kit.credit(open, 1n)]) {
      await expect(work()).rejects.toMatchObject({ ...refused, meta: { state: 'DRAFT' } });
    }
    for (const id of [final.id, paid, gone]) await expect(kit.finalise(id)).rejects.toMatchObject(refused);
    for (const id of [paid, gone]) {
      await expect(markPaid(id)).rejects.toMatchObject(refused);
      // What a customer has paid stays.
      await expect(makeVoid(id)).rejects.toMatchObject(refused);
    }
    await expect(kit.credit(gone, 1n)).rejects.toMatchObject(refused);
    await expect(kit.finalise(randomUUID())).rejects.toMatchObject({ code: 'NOT_FOUND' });

    const moves: [string, string][] = [
      [draft.id, `state = 'PAID', paid_at = now()`],
      [draft.id, `state = 'VOID', voided_at = now()`],
      [draft.id, `finalised_at = now()`],
      [final.id, `state = 'DRAFT', finalised_at = NULL`],
      [final.id, `state = 'FINALISED'`],
      // Without a payment.
      [final.id, `state = 'PAID', paid_at = now()`],
      [final.id, `state = 'PAID', paid_at = now(), payment_transfer_id = gen_random_uuid()`],
      [paid, `state = 'FINALISED', paid_at = NULL`],
      [paid, `state = 'VOID', voided_at = now()`],
      [gone, `state = 'PAID', voided_at = NULL, paid_at = now()`],
    ];
    for (const [id, change] of moves) {
      expect(await stateOf(`UPDATE invoice SET ${change} WHERE id = $1`, [id]), change).toBe('23514');
    }
    const forgotten = `UPDATE invoice SET state = 'VOID', voided_at = now(), payment_transfer_id = NULL WHERE id = $1`;
    expect(await stateOf(forgotten, [paid])).toBe('42501');
    const numbered = `UPDATE invoice SET state = 'VOID', voided_at = now(), number = 'INV-1' WHERE id = $1`;
    expect(await stateOf(numbered, [final.id])).toBe('42501');
  });

  test('leave everything else as it was written, whoever tries', async () => {
    const { invoice } = await kit.finalInvoice();
    const draft = await kit.close((await kit.customer()).tenantId);
    const [columns] = await kit.db.admin<{ names: string[] }>(
      `SELECT array_agg(attname::text) AS names FROM pg_attribute WHERE attrelid = 'invoice'::regclass AND attnum > 0
         AND NOT attisdropped`,
    );
    expect(columns?.names.length).toBeGreaterThan(15);
    const changes: Readonly<Record<string, string>> = {
      id: 'gen_random_uuid()',
      tenant_id: `(SELECT id FROM tenant WHERE id <> invoice.tenant_id AND slug <> 'platform' LIMIT 1)`,
      period_start: `'2023-02-01T00:00:00Z'`,
      period_end: `'2023-03-01T00:00:00Z'`,
      currency: `'EUR'`,
      names: `'{"a": "b"}'`,
      content_sha256: `sha256('x')`,
      charges_nano: 'charges_nano + 1',
      total_nano: 'total_nano + 1',
      revision: 'revision + 1',
      reduction_nano: 'reduction_nano + 1',
      minimum_nano: 'minimum_nano + 1',
      prepaid_nano: 'prepaid_nano + 1',
      payment_transfer_id: 'gen_random_uuid()',
    };
    for (const name of columns?.names ?? []) {
      const value = changes[name] ?? (/_(at|serial|year)$/.test(name) ? null : `'x'`);
      const to = value ?? (name.endsWith('_at') ? 'now()' : '77');
      for (const { id } of [invoice, draft]) {
        const state = await stateOf(`UPDATE invoice SET ${name} = ${to} WHERE id = $1`, [id]);
        expect(['42501', '23514'], `${name}: ${state}`).toContain(state);
      }
    }
    for (const statement of ['DELETE FROM invoice', 'TRUNCATE invoice CASCADE']) {
      expect(await stateOf(statement), statement).toBe('42501');
    }
    const copy = `INSERT INTO invoice SELECT (jsonb_populate_record(i, jsonb_build_object(
      'id', gen_random_uuid(), 'period_start', '2023-02-01T00:00:00Z', 'period_end', '2023-03-01T00:00:00Z',
      'number_serial', 77))).* FROM invoice i WHERE id = $1`;
    expect(await stateOf(copy, [invoice.id])).toBe('23514');
    expect(await stateOf(copy, [draft.id])).toBe('23514');
    expect((await kit.invoicing.reader.get(OPERATOR, invoice.id))?.content).toBe(invoice.content);
  });

  test('are changed by operators alone, once for each key, and are in the audit log', async () => {
    const { customer, invoice } = await kit.finalInvoice();
    const tenant = actorOf(customer.tenantId);
    const { invoices } = kit.invoicing;
    const input = keyed(invoice.id);
    const attempts = [
      () => invoices.finalise(tenant, input),
      () => invoices.markPaid(tenant, { ...input, reference: null, topUpId: null }),
      () => invoices.void(tenant, input),
      () => invoices.credit(tenant, { ...input, amountNano: 1n, reason: 'x' }),
    ];
    for (const attempt of attempts) await expect(attempt()).rejects.toMatchObject({ code: 'FORBIDDEN' });
    const pay = () => invoices.markPaid(OPERATOR, { ...input, reference: 'r', topUpId: null });
    expect(await pay()).toEqual(await pay());
    await expect(
      invoices.markPaid(OPERATOR, { ...input, reference: 's', topUpId: null }),
    ).rejects.toMatchObject({
      code: 'IDEMPOTENCY_CONFLICT',
    });
    await expect(markPaid(invoice.id, '')).rejects.toMatchObject({ code: 'BAD_INPUT', field: 'reference' });
    const lines = await kit.db.admin(
      `SELECT action, outcome::text, before, after FROM audit_log WHERE tenant_id = $1 AND target_id = $2`,
      [customer.tenantId, invoice.id],
    );
    const { number } = invoice;
    // The clock stands, so that their ids do not tell which came first.
    expect(lines).toHaveLength(7);
    const wanted = [
      {
        action: 'period.close',
        outcome: 'DONE',
        before: null,
        after: { period: '2024-02', state: 'DRAFT', totalNano: '1000', openNano: '0' },
      },
      {
        action: 'invoice.finalise',
        outcome: 'DONE',
        before: { state: 'DRAFT' },
        after: { state: 'FINALISED', number },
      },
      ...['finalise', 'markPaid', 'void'].map((name) => ({
        action: `invoice.${name}`,
        outcome: 'DENIED',
        before: null,
        after: null,
      })),
      { action: 'creditNote.create', outcome: 'DENIED', before: null, after: null },
      {
        action: 'invoice.markPaid',
        outcome: 'DONE',
        before: { state: 'FINALISED' },
        after: {
          ...{ state: 'PAID', number, paymentReference: 'r' },
          ...{ paymentTransferId: expect.any(String), paidNano: '1000' },
        },
      },
    ];
    expect(lines).toEqual(expect.arrayContaining(wanted));
  });
});

describe('an invoice that is taken back', () => {
  test('undoes what it has posted, once, and its month is billed anew by other terms', async () => {
    kit.clock.set(Date.UTC(2024, 0, 2));
    const customer = await kit.customer(2_000n);
    const wrong = await kit.setTerms(customer.tenantId, { freeNano: 900n });
    await kit.charge(customer, { endedAt: '2024-02-10T00:00:00Z', inputNano: 1_000n });
    kit.clock.set(AFTER_FEBRUARY);
    const first = await kit.finalise((await kit.close(customer.tenantId)).id);
    expect(first).toMatchObject({ revision: 1, state: 'PAID', document: { totalNano: 100n } });
    await kit.credit(first.id, 50n);
    expect(await kit.available(customer)).toBe(1_950n);
    const borne = await kit.borne();
    // While the bill counts, the terms of its month are what they were.
    const set = () => kit.setTerms(customer.tenantId, { freeNano: 200n }, new Date(Date.UTC(2024, 1, 29)));
    await expect(set()).rejects.toMatchObject({ code: 'TERMS_CONFLICT' });

    const input = keyed(first.id);
    const take = () => kit.invoicing.invoices.void(OPERATOR, input);
    const [gone, again] = await Promise.all([take(), take()]);
    expect(gone).toEqual(again);
    expect(gone).toMatchObject({ state: 'VOID', number: first.number, dueNano: 0n });
    // As before the month was closed: the allowance and the credit note are taken back.
    expect(await kit.available(customer)).toBe(1_000n);
    expect((await kit.borne()) - borne).toBe(-950n);
    const kinds = (await kit.events(first.id)).map(({ kind }) => kind);
    expect(kinds).toEqual(['invoice.finalised', 'invoice.paid', 'invoice.voided']);

    const right = await set();
    const second = await kit.finalise((await kit.close(customer.tenantId)).id);
    expect(second).toMatchObject({ revision: 2, state: 'PAID', document: { totalNano: 800n } });
    expect([gone?.document.terms?.id, second.document.terms?.id]).toEqual([wrong.id, right.id]);
    const serial = (number: string | null): number => Number(number?.slice(-6));
    expect(serial(second.number)).toBe(serial(first.number) + 1);
    expect(await kit.available(customer)).toBe(1_200n);
    await expect(kit.close(customer.tenantId)).rejects.toMatchObject({ code: 'INVOICE_STATE' });
    // The void one is still what the terms of its time give.
    expect((await verifyInvoices(kit.db.database)).problems).toEqual([]);
  });

  test('stays when the balance has no room for what it has given', async () => {
    kit.clock.set(Date.UTC(2024, 0, 2));
    const customer = await kit.customer(1_000n);
    await kit.setTerms(customer.tenantId, { freeNano: 900n });
    await kit.charge(customer, { endedAt: '2024-02-10T00:00:00Z', inputNano: 1_000n });
    kit.clock.set(AFTER_FEBRUARY);
    const { id } = await kit.finalise((await kit.close(customer.tenantId)).id);
    await kit.charge(customer, { endedAt: '2024-03-01T10:00:00Z', inputNano: 1n });
    await expect(makeVoid(id)).rejects.toMatchObject({ code: 'BUDGET_EXCEEDED' });
    expect((await kit.invoicing.reader.get(OPERATOR, id))?.state).toBe('PAID');
    await kit.topUp(customer, 1n);
    expect((await makeVoid(id)).state).toBe('VOID');
    expect(await kit.available(customer)).toBe(0n);
  });

  test('may be about nothing', async () => {
    const { customer, invoice } = await kit.finalInvoice(0n);
    expect((await makeVoid(invoice.id)).state).toBe('VOID');
    expect(await kit.available(customer)).toBe(0n);
  });
});

describe('credit notes', () => {
  test('give back a part, refer to the invoice, and never change', async () => {
    const { customer, invoice } = await kit.finalInvoice(1_000n);
    const note = await kit.credit(invoice.id, 400n, 'Outage of <3 March>');
    expect(note).toMatchObject({
      invoiceId: invoice.id,
      tenantId: customer.tenantId,
      number: expect.stringMatching(/^CN-2024-\d{6}$/),
      amountNano: 400n,
      currency: 'USD',
    });
    expect(await kit.available(customer)).toBe(400n);
    expect(await kit.events(note.id)).toEqual([
      {
        kind: 'credit_note.created',
        payload: {
          number: note.number,
          invoiceId: invoice.id,
          invoiceNumber: invoice.number,
          currency: 'USD',
          amountNano: '400',
        },
      },
    ]);
    const read = await kit.invoicing.reader.get(OPERATOR, invoice.id);
    expect(read).toEqual({ ...invoice, dueNano: 600n, creditNotes: [note] });
    for (const statement of ['UPDATE credit_note SET amount_nano = 1', 'DELETE FROM credit_note']) {
      expect(await stateOf(statement), statement).toBe('42501');
    }
    // A paid invoice can be corrected too; what was due on it was the rest.
    await markPaid(invoice.id);
    expect(await kit.available(customer)).toBe(1_000n);
    expect((await kit.credit(invoice.id, 600n)).amountNano).toBe(600n);
    expect(await kit.available(customer)).toBe(1_600n);
  });

  test('never exceed the invoice, whoever races', async () => {
    const { customer, invoice } = await kit.finalInvoice(1_000n);
    const racing = await Promise.allSettled(Array.from({ length: 6 }, () => kit.credit(invoice.id, 300n)));
    expect(racing.filter(({ status }) => status === 'fulfilled')).toHaveLength(3);
    const lost = racing.filter(({ status }) => status === 'rejected');
    for (const one of lost)
      expect(one).toMatchObject({ reason: { code: 'CREDIT_EXCEEDED', meta: { left: '100' } } });
    expect(await kit.available(customer)).toBe(900n);
    const write = (amount: number, tenantId: string) =>
      stateOf(
        `INSERT INTO credit_note (id, tenant_id, invoice_id, currency, amount_nano, reason, created_at)
         VALUES (gen_random_uuid(), $1, $2, 'USD', $3, 'x', now())`,
        [tenantId, invoice.id, amount],
      );
    expect(await write(101, customer.tenantId)).toBe('23514');
    // About an invoice of another tenant.
    expect(await write(1, (await kit.customer()).tenantId)).toBe('23514');
  });

  test('need an amount and a reason', async () => {
    const { invoice } = await kit.finalInvoice(10n);
    const refused = (amount: bigint, reason: string) =>
      expect(kit.credit(invoice.id, amount, reason)).rejects;
    await refused(0n, 'x').toMatchObject({ code: 'BAD_INPUT', field: 'amount' });
    await refused(-1n, 'x').toMatchObject({ code: 'BAD_INPUT', field: 'amount' });
    await refused(10n ** 18n + 1n, 'x').toMatchObject({ code: 'BAD_INPUT', field: 'amount' });
    await refused(1n, '').toMatchObject({ code: 'BAD_INPUT', field: 'reason' });
    await refused(1n, 'x'.repeat(1_001)).toMatchObject({ code: 'BAD_INPUT', field: 'reason' });
    await refused(1n, 'a\0b').toMatchObject({ code: 'BAD_INPUT', field: 'reason' });
    const input = { idempotencyKey: randomUUID(), invoiceId: invoice.id, amountNano: 4n, reason: 'x' };
    const give = () => kit.invoicing.invoices.credit(OPERATOR, input);
    expect(await give()).toEqual(await give());
    await expect(kit.credit(invoice.id, 7n)).rejects.toMatchObject({ meta: { left: '6' } });
  });
});
