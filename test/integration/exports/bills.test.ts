import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { IBAN } from '../payouts/kit.ts';
import { type Bills, LEAP_YEAR, MARCH, PAID_AT, writeBills } from './bills-kit.ts';
import { ALL, type ExportKit, of, openExportKit, parseLines } from './kit.ts';

let kit: ExportKit;
let bills: Bills;
beforeAll(async () => {
  kit = await openExportKit();
  bills = await writeBills(kit.db);
});
afterAll(async () => {
  await bills.dispose();
  await kit.dispose();
});

const sum = (amounts: readonly unknown[]): bigint =>
  amounts.reduce<bigint>((total, amount) => total + BigInt(String(amount)), 0n);

test('the rows of an invoice are what its document says, and add up to its total', async () => {
  const { invoice, customer } = bills;
  const rows = parseLines((await kit.write('invoices', 'jsonl', of(customer), MARCH)).content);
  const { document } = invoice;
  expect(rows.map(({ record, line }) => `${record} ${line}`)).toEqual([
    'invoice 0',
    'line 1',
    'line 2',
    'line 3',
    'adjustment 4',
    'adjustment 5',
  ]);
  for (const row of rows) {
    expect(row).toMatchObject({
      invoice_id: invoice.id,
      tenant_id: customer,
      number: invoice.number,
      customer_name: invoice.customerName,
      state: 'PAID',
      paid_at: '2024-03-10T00:00:00.000000Z',
      payment_reference: 'Wire 7',
      voided_at: null,
      period_start: '2024-02-01T00:00:00.000000Z',
      period_end: '2024-03-01T00:00:00.000000Z',
      charges_nano: String(document.chargesNano),
      total_nano: String(document.totalNano),
      content_sha256: invoice.sha256,
    });
  }
  const [whole, ...parts] = rows;
  expect(whole).toMatchObject({ amount_nano: null, requests: null, adjustment_kind: null });
  expect(sum(parts.map((row) => row['amount_nano']))).toBe(document.totalNano);
  expect(parts.slice(0, 3)).toMatchObject(
    document.lines.map((line) => ({
      amount_nano: String(line.totalNano),
      adapter_id: line.adapterId,
      adapter_version_id: line.adapterVersionId,
      adapter_name: line.adapterVersionId === null ? null : invoice.names[line.adapterVersionId],
      backbone_digest: line.backboneDigest,
      backbone_name: invoice.names[line.backboneDigest],
      priority_class: line.priority,
      price_version_id: line.priceVersionId,
      royalty_version_id: line.royaltyVersionId,
      requests: String(line.requests),
      input_tokens: String(line.inputTokens),
      cached_tokens: String(line.cachedTokens),
      output_tokens: String(line.outputTokens),
      input_nano: String(line.inputNano),
      cached_nano: String(line.cachedNano),
      output_nano: String(line.outputNano),
      rank_nano: String(line.rankNano),
      royalty_nano: String(line.royaltyNano),
      adjustment_kind: null,
    })),
  );
  const [allowance, tier] = document.adjustments;
  expect(allowance?.kind).toBe('ALLOWANCE');
  if (tier?.kind !== 'TIER') throw new Error('The second adjustment is a tier.');
  expect(parts.slice(3)).toMatchObject([
    { adjustment_kind: 'ALLOWANCE', amount_nano: '-100', tier_from_nano: null, backbone_digest: null },
    {
      adjustment_kind: 'TIER',
      amount_nano: String(tier.amountNano),
      tier_from_nano: '0',
      tier_discount_ppm: '500000',
      tier_basis_nano: String(tier.basisNano),
    },
  ]);
});

test('an invoice is told as it was at the end of the range, so that no later change touches a file', async () => {
  const rows = parseLines((await kit.write('invoices', 'jsonl', ALL, MARCH)).content);
  const states = new Map(rows.map(({ invoice_id: id, state }) => [id, state]));
  const { invoice, voided, empty } = bills;
  expect(states).toEqual(
    new Map([
      [invoice.id, 'PAID'],
      [voided.id, 'VOID'],
      [empty.id, 'PAID'],
    ]),
  );
  // An invoice of nothing has a number too, so it is there; a draft has none, and is not.
  expect(rows.filter(({ invoice_id: id }) => id === empty.id)).toMatchObject([
    { record: 'invoice', total_nano: '0' },
  ]);

  const early = { from: MARCH.from, until: PAID_AT };
  const before = parseLines((await kit.write('invoices', 'jsonl', ALL, early)).content);
  expect(before).toHaveLength(rows.length);
  for (const row of before) {
    // On an invoice of nothing there is nothing due, so it was paid when it became final.
    const isEmpty = row['invoice_id'] === empty.id;
    expect(row).toMatchObject({
      state: isEmpty ? 'PAID' : 'FINALISED',
      paid_at: isEmpty ? row['finalised_at'] : null,
      voided_at: null,
      payment_reference: null,
    });
  }
  const after = { from: PAID_AT, until: MARCH.until };
  expect((await kit.write('invoices', 'csv', ALL, after)).rows).toBe(0n);
});

test('credit notes say what was given back of which invoice', async () => {
  const { invoice, customer } = bills;
  const { content } = await kit.write('credit_notes', 'jsonl', of(customer), MARCH);
  const notes = { tenant_id: customer, invoice_id: invoice.id, invoice_number: invoice.number };
  expect(parseLines(content)).toMatchObject([
    { ...notes, number: 'CN-2024-000001', amount_nano: '3', reason: 'An "outage", twice' },
    { ...notes, number: 'CN-2024-000002', amount_nano: '4', reason: 'An outage' },
  ]);
});

test('a payout is exported once its outcome is known, without the account that it went to', async () => {
  const { beneficiary, paid, failed, unknown } = bills;
  const files = async () => {
    const jsonl = await kit.write('payouts', 'jsonl', of(beneficiary), LEAP_YEAR);
    return { rows: parseLines(jsonl.content), text: readFileSync(jsonl.path, 'utf8') };
  };
  const { rows, text } = await files();
  const common = (payout: typeof paid) => ({
    payout_id: payout.id,
    batch_id: payout.batchId,
    line: 1,
    tenant_id: beneficiary,
    currency: payout.currency,
    amount_nano: String(payout.amountNano),
    payment_key: payout.paymentKey,
    destination_id: payout.destination.id,
    destination_kind: 'FILE',
    earned_before: payout.earnedBefore.toISOString().replace('Z', '000Z'),
  });
  expect(rows).toMatchObject([
    { ...common(paid), state: 'PAID', bank_reference: 'B-1' },
    { ...common(failed), state: 'FAILED', bank_reference: null },
  ]);
  expect(text).not.toContain(IBAN);
  expect(text).not.toContain('Lovelace');

  const until = new Date(String(rows[0]?.['ended_at']));
  until.setUTCMilliseconds(until.getUTCMilliseconds() + 1);
  const closed = { from: LEAP_YEAR.from, until };
  const before = await kit.write('payouts', 'parquet', of(beneficiary), closed);
  await bills.resolve();
  const after = await kit.write('payouts', 'parquet', of(beneficiary), closed);
  expect({ rows: after.rows, sha256: after.sha256 }).toEqual({ rows: 2n, sha256: before.sha256 });
  const { rows: later } = await files();
  expect(later).toHaveLength(3);
  expect(later[2]).toMatchObject({ ...common(unknown), state: 'PAID', bank_reference: 'B-2' });
});
