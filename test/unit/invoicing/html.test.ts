import { expect, test } from 'vitest';
import { renderInvoice } from '../../../src/invoicing/html.ts';
import { ADAPTER_LINE, BACKBONE, invoice, line, TENANT, VERSION } from './sample.ts';

const HOSTILE = `</style><script>alert("1")</script><img src=x onerror='x'>&amp;`;
const ESCAPED =
  '&lt;/style&gt;&lt;script&gt;alert(&quot;1&quot;)&lt;/script&gt;&lt;img src=x onerror=&#39;x&#39;&gt;&amp;amp;';

const note = {
  id: TENANT,
  tenantId: TENANT,
  invoiceId: TENANT,
  number: 'CN-2024-000001',
  currency: 'USD',
  amountNano: 500_000_000n,
  reason: 'An outage',
  createdAt: new Date('2024-03-05T00:00:00Z'),
};

test('every text that comes from outside is escaped', () => {
  const page = renderInvoice(
    invoice([line(), ADAPTER_LINE], {
      customerName: HOSTILE,
      issuer: HOSTILE,
      names: { [VERSION]: HOSTILE, [BACKBONE]: HOSTILE },
      number: HOSTILE,
      state: 'PAID',
      paymentReference: HOSTILE,
      paidAt: new Date(0),
      creditNotes: [{ ...note, reason: HOSTILE, number: HOSTILE }],
    }),
  );
  expect(page).not.toContain('<script');
  expect(page).not.toContain('<img');
  expect(page.match(/<\/style>/g)).toHaveLength(1);
  // Title, heading, issuer, customer, payment, adapter, its backbone, the plain backbone, and the note's number and reason.
  expect(page.split(ESCAPED)).toHaveLength(11);
});

test('the page shows what the invoice says, exactly', () => {
  const page = renderInvoice(
    invoice([line(), ADAPTER_LINE], {
      number: 'INV-2024-000007',
      state: 'FINALISED',
      finalisedAt: new Date('2024-03-02T10:00:00Z'),
      openNano: 1n,
      creditNotes: [note],
    }),
  );
  for (const text of [
    '<h1>Invoice INV-2024-000007</h1>',
    '2024-02-01 to 2024-02-29 (UTC)',
    '<dt>Date</dt><dd>2024-03-02</dd>',
    'owner/poet v3, on starter',
    // 9 007 199.254740993 royalties, which a double would round.
    '9007199.254740993',
    '9007199.254741995',
    'Free allowance',
    'Volume discount from 0 USD: 12.5 % of 9007199.254741994',
    '-0.5',
    '0.000000001 USD wait',
    'CN-2024-000001',
  ]) {
    expect(page, text).toContain(text);
  }
});

test('a draft of nothing is a page too, fetches nothing, and is made for paper', () => {
  const page = renderInvoice(invoice([]));
  expect(page).toContain('Draft 2024-02');
  expect(page).toMatch(/Total<\/td><td class="n">0 USD/);
  expect(page).not.toMatch(/https?:|url\(|@import|<link|<script/);
  expect(page).toContain(`content="default-src 'none'; style-src 'unsafe-inline'"`);
  for (const rule of ['@page', '@media print', 'table-header-group', 'break-inside: avoid']) {
    expect(page).toContain(rule);
  }
});
