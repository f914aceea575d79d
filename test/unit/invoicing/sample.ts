import { composeDocument, documentText, type InvoiceLine } from '../../../src/invoicing/document.ts';
import type { Invoice } from '../../../src/invoicing/rows.ts';
import { parsePeriod } from '../../../src/kernel/period.ts';

const id = (tail: string): string => `018f3c5e-7b1a-7c4e-9d2f-${tail.padStart(12, '0')}`;

export const TENANT = id('a0');
export const VERSION = id('c0');
export const BACKBONE = 'ab'.repeat(32);

/** A line of the plain backbone, of which a test names what it is about. */
export function line(more: Partial<InvoiceLine> = {}): InvoiceLine {
  return {
    adapterVersionId: null,
    adapterId: null,
    backboneDigest: BACKBONE,
    priority: 'STANDARD',
    priceVersionId: id('b0'),
    royaltyVersionId: null,
    requests: 1n,
    inputTokens: 10n,
    cachedTokens: 2n,
    outputTokens: 5n,
    inputNano: 100n,
    cachedNano: 1n,
    outputNano: 400n,
    rankNano: 0n,
    royaltyNano: 0n,
    totalNano: 501n,
    ...more,
  };
}

/** A line of an adapter with a royalty. */
export const ADAPTER_LINE = line({
  adapterVersionId: VERSION,
  adapterId: id('d0'),
  royaltyVersionId: id('e0'),
  royaltyNano: 9_007_199_254_740_993n,
  totalNano: 9_007_199_254_741_494n,
});

export function documentOf(lines: readonly InvoiceLine[]) {
  return composeDocument({
    tenantId: TENANT,
    period: parsePeriod('2024-02'),
    currency: 'USD',
    lines,
    terms: {
      id: id('f0'),
      terms: {
        currency: 'USD',
        freeNano: 1n,
        minimumNano: 0n,
        tiers: [{ fromNano: 0n, discountPpm: 125_000n }],
      },
    },
  });
}

/** An invoice of these lines. */
export function invoice(lines: readonly InvoiceLine[], more: Partial<Invoice> = {}): Invoice {
  const document = documentOf(lines);
  return {
    id: id('90'),
    tenantId: TENANT,
    customerName: 'A customer',
    names: { [VERSION]: 'owner/poet v3', [BACKBONE]: 'starter' },
    state: 'DRAFT',
    number: null,
    ...{ period: document.period, currency: document.currency },
    ...{ chargesNano: document.chargesNano, totalNano: document.totalNano },
    document,
    content: documentText(document),
    sha256: '00'.repeat(32),
    ...{ revision: 1, issuer: null, prepaidNano: 0n, dueNano: document.totalNano, paymentTransferId: null },
    openNano: 0n,
    creditNotes: [],
    paymentReference: null,
    createdAt: new Date('2024-03-02T00:00:00Z'),
    finalisedAt: null,
    paidAt: null,
    voidedAt: null,
    ...more,
  };
}
