import { afterAll, beforeAll, expect, test } from 'vitest';
import { z } from 'zod';
import { LineProcess } from '../../kit/line-process.ts';
import { AFTER_FEBRUARY, type InvoicingKit, openInvoicing } from './kit.ts';

const report = z.object({ numbers: z.array(z.string()) });

let kit: InvoicingKit;
beforeAll(async () => {
  kit = await openInvoicing();
  kit.clock.set(AFTER_FEBRUARY);
});
afterAll(() => kit.db.dispose());

const drafts = async (count: number): Promise<readonly string[]> => {
  const made: string[] = [];
  for (let i = 0; i < count; i += 1) made.push((await kit.close((await kit.customer()).tenantId)).id);
  return made;
};
const numbers = async (): Promise<readonly string[]> => {
  const rows = await kit.db.admin<{ number: string }>(
    'SELECT number FROM invoice WHERE number IS NOT NULL ORDER BY number_year, number_serial',
  );
  return rows.map(({ number }) => number);
};
const upTo = (year: number, count: number) =>
  Array.from({ length: count }, (_, i) => `INV-${year}-${String(i + 1).padStart(6, '0')}`);

test('invoices that are finalised at once, by three processes, are numbered without gaps', async () => {
  const processes = [1, 2, 3].map(
    () => new LineProcess('test/integration/invoicing/numbers-process.ts', [kit.db.appUrl, kit.db.systemUrl]),
  );
  try {
    const ids = await drafts(24);
    await Promise.all(processes.map((one) => one.next(report)));
    for (const [index, one] of processes.entries()) {
      const invoiceIds = ids.filter((_, i) => i % processes.length === index);
      one.send({ nowMs: kit.clock.nowMs(), invoiceIds });
    }
    const done = await Promise.all(processes.map((one) => one.next(report)));
    expect(done.map((one) => one.numbers.length)).toEqual([8, 8, 8]);
    expect(done.flatMap((one) => one.numbers).toSorted()).toEqual(upTo(2024, 24));
  } finally {
    await Promise.all(processes.map((one) => one.end()));
  }
  expect(await numbers()).toEqual(upTo(2024, 24));
});

test('a rollback leaves no gap, and whoever waited for it gets its number', async () => {
  const [first = '', second = ''] = await drafts(2);
  const before = (await numbers()).length;
  const finalise = `UPDATE invoice SET state = 'FINALISED', finalised_at = '2024-03-02T00:00:00Z'
    WHERE id = $1 RETURNING number`;
  const lost: unknown[] = [];
  let waiting: Promise<unknown> = Promise.resolve();
  await kit.db.database
    .withSystemPg(async (client) => {
      lost.push(...(await client.query(finalise, [first])).rows);
      waiting = kit.finalise(second);
      // The other one is blocked until this transaction ends.
      const blocked = async () =>
        (
          await client.query<{ n: number }>(
            `SELECT count(*)::integer AS n FROM pg_locks l JOIN pg_stat_activity a USING (pid)
           WHERE NOT l.granted AND a.datname = current_database()`,
          )
        ).rows[0]?.n ?? 0;
      while ((await blocked()) === 0) await new Promise((resolve) => setImmediate(resolve));
      throw new Error('rolled back');
    })
    .catch((error: unknown) => expect(error).toMatchObject({ message: 'rolled back' }));
  const next = `INV-2024-${String(before + 1).padStart(6, '0')}`;
  expect(lost).toEqual([{ number: next }]);
  expect(await waiting).toMatchObject({ number: next });
  expect(await kit.finalise(first)).toMatchObject({
    number: `INV-2024-${String(before + 2).padStart(6, '0')}`,
  });
  expect(await numbers()).toEqual(upTo(2024, before + 2));
});

test('a credit note that is refused leaves no gap, and each kind and year counts for itself', async () => {
  const customer = await kit.customer(100n);
  await kit.charge(customer, { endedAt: '2024-02-10T00:00:00Z', inputNano: 100n });
  const draft = await kit.close(customer.tenantId);
  const [second = ''] = await drafts(1);
  // The last instant of a year, and the first of the next one.
  kit.clock.set(Date.UTC(2025, 0, 1) - 1);
  const last = await kit.finalise(draft.id);
  expect(last.number).toMatch(/^INV-2024-/);
  kit.clock.set(Date.UTC(2025, 0, 1));
  expect((await kit.finalise(second)).number).toBe('INV-2025-000001');
  expect((await kit.credit(last.id, 10n)).number).toBe('CN-2025-000001');
  await expect(kit.credit(last.id, 91n)).rejects.toMatchObject({ code: 'CREDIT_EXCEEDED' });
  // Refused by the database itself, when its number was taken already.
  await expect(
    kit.db.admin(
      `INSERT INTO credit_note (id, tenant_id, invoice_id, currency, amount_nano, reason, created_at)
       VALUES (gen_random_uuid(), $1, $2, 'USD', 1, '', '2025-01-01T00:00:00Z')`,
      [customer.tenantId, last.id],
    ),
  ).rejects.toMatchObject({ code: '23514' });
  const racing = await Promise.all(Array.from({ length: 8 }, () => kit.credit(last.id, 1n)));
  expect(racing.map(({ number }) => number).toSorted()).toEqual(
    Array.from({ length: 8 }, (_, i) => `CN-2025-${String(i + 2).padStart(6, '0')}`),
  );
});

test('no program can choose or spend a number', async () => {
  const tries = [
    `SELECT patchbay.next_number('INVOICE', 2024)`,
    `UPDATE number_series SET last = 999`,
    `INSERT INTO number_series VALUES ('INVOICE', 2030, 5)`,
    `DELETE FROM number_series`,
  ];
  for (const text of tries) {
    await expect(kit.db.database.querySystem(text, []), text).rejects.toMatchObject({ code: '42501' });
    await expect(kit.db.database.queryApp(text, []), text).rejects.toMatchObject({ code: '42501' });
  }
});

test('numbers grow beyond six digits', async () => {
  const [row] = await kit.db.admin(`SELECT patchbay.document_number('INV', 2024, 1234567) AS number`);
  expect(row).toEqual({ number: 'INV-2024-1234567' });
});
