import { afterAll, beforeAll, expect, test } from 'vitest';
import { sqlState } from '../../../src/db/errors.ts';
import type { Invoice } from '../../../src/invoicing/rows.ts';
import { actorOf, OPERATOR } from '../pricing/kit.ts';
import { AFTER_FEBRUARY, type Customer, type InvoicingKit, openInvoicing } from './kit.ts';

const TABLES = ['invoice', 'invoice_open_charge', 'credit_note', 'billing_terms', 'number_series'] as const;
const page = { first: 10, after: null };

let kit: InvoicingKit;
let owner: Customer;
let stranger: Customer;
let invoice: Invoice;

beforeAll(async () => {
  kit = await openInvoicing();
  kit.clock.set(Date.UTC(2024, 0, 2));
  owner = await kit.customer(10n);
  stranger = await kit.customer();
  await kit.setTerms(owner.tenantId, { minimumNano: 100n });
  await kit.charge(owner, { endedAt: '2024-02-10T00:00:00Z', inputNano: 10n });
  kit.clock.set(AFTER_FEBRUARY);
  const { id } = await kit.finalise((await kit.close(owner.tenantId)).id);
  await kit.credit(id, 1n);
  const read = await kit.invoicing.reader.get(OPERATOR, id);
  if (read === null) throw new Error('The invoice is there.');
  invoice = read;
});
afterAll(() => kit.db.dispose());

async function counts(tenant: string): Promise<readonly (number | string | null)[]> {
  const found: (number | string | null)[] = [];
  for (const table of TABLES) {
    try {
      const count = await kit.db.database.withTenantPg(tenant, async (client) => {
        const { rows } = await client.query<{ n: number }>(`SELECT count(*)::int AS n FROM ${table}`);
        return rows[0]?.n ?? -1;
      });
      found.push(count);
    } catch (error) {
      found.push(sqlState(error));
    }
  }
  return found;
}

test('the database shows each tenant its own bills, and nobody without a tenant any', async () => {
  expect(await counts(owner.tenantId)).toEqual([1, 1, 1, 1, '42501']);
  expect(await counts(stranger.tenantId)).toEqual([0, 0, 0, 0, '42501']);
  for (const table of TABLES.slice(0, 4)) {
    const [row] = await kit.db.database.queryApp<{ n: number }>(
      `SELECT count(*)::int AS n FROM ${table}`,
      [],
    );
    expect(row?.n, table).toBe(0);
  }
});

test('no tenant writes a bill, its own or another’s', async () => {
  for (const table of TABLES) {
    for (const text of [
      `INSERT INTO ${table} SELECT * FROM ${table}`,
      `DELETE FROM ${table}`,
      `UPDATE ${table} SET ${table === 'number_series' ? 'last = 1' : 'tenant_id = tenant_id'}`,
    ]) {
      const attempt = kit.db.database.withTenantPg(owner.tenantId, (client) => client.query(text));
      await expect(attempt, text).rejects.toMatchObject({ code: '42501' });
    }
  }
});

test('a tenant reads its own, an operator all, and a key needs the scope', async () => {
  const { reader, terms } = kit.invoicing;
  const [mine, strange, weak] = [
    actorOf(owner.tenantId),
    actorOf(stranger.tenantId),
    actorOf(owner.tenantId, ['usage:read', 'payouts:write']),
  ];
  const all = { tenantId: null };
  expect((await reader.list(mine, all, page)).items).toEqual([invoice]);
  expect((await reader.list(mine, { tenantId: owner.tenantId }, page)).items).toEqual([invoice]);
  expect((await reader.list(OPERATOR, all, page)).items).toEqual([invoice]);
  expect((await reader.list(OPERATOR, { tenantId: stranger.tenantId }, page)).items).toEqual([]);
  expect(await reader.get(mine, invoice.id)).toEqual(invoice);
  expect((await reader.list(strange, all, page)).items).toEqual([]);
  expect(await reader.get(strange, invoice.id)).toBeNull();
  await expect(reader.list(strange, { tenantId: owner.tenantId }, page)).rejects.toMatchObject({
    code: 'NOT_FOUND',
  });
  await expect(terms.list(strange, owner.tenantId, page)).rejects.toMatchObject({ code: 'NOT_FOUND' });
  await expect(reader.list(weak, all, page)).rejects.toMatchObject({ code: 'FORBIDDEN' });
  await expect(reader.get(weak, invoice.id)).rejects.toMatchObject({ code: 'FORBIDDEN' });
  await expect(terms.list(weak, null, page)).rejects.toMatchObject({ code: 'FORBIDDEN' });
});
