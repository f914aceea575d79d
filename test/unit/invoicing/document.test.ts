import { expect, test } from 'vitest';
import { documentText, hashOf, parseDocument } from '../../../src/invoicing/document.ts';
import { pieces } from '../../../src/invoicing/posting.ts';
import { firstDifference } from '../../../src/invoicing/verify.ts';
import { ADAPTER_LINE, documentOf, line } from './sample.ts';

test('a document has these bytes, and no others', () => {
  expect(documentText(documentOf([line()]))).toBe(
    '{"adjustments":[{"amountNano":"-1","kind":"ALLOWANCE"},' +
      '{"amountNano":"-62","basisNano":"500","discountPpm":"125000","fromNano":"0","kind":"TIER"}],' +
      '"chargesNano":"501","currency":"USD","format":"patchbay.invoice.v1",' +
      `"lines":[{"adapterId":null,"adapterVersionId":null,"backboneDigest":"${'ab'.repeat(32)}",` +
      '"cachedNano":"1","cachedTokens":"2","inputNano":"100","inputTokens":"10","outputNano":"400",' +
      '"outputTokens":"5","priceVersionId":"018f3c5e-7b1a-7c4e-9d2f-0000000000b0","priority":"STANDARD",' +
      '"rankNano":"0","requests":"1","royaltyNano":"0","royaltyVersionId":null,"totalNano":"501"}],' +
      '"period":{"end":"2024-03-01T00:00:00.000Z","start":"2024-02-01T00:00:00.000Z"},' +
      '"tenantId":"018f3c5e-7b1a-7c4e-9d2f-0000000000a0",' +
      '"terms":{"currency":"USD","freeNano":"1","id":"018f3c5e-7b1a-7c4e-9d2f-0000000000f0","minimumNano":"0",' +
      '"tiers":[{"discountPpm":"125000","fromNano":"0"}]},"totalNano":"438"}',
  );
});

test('the order in which lines are read does not matter, and the plain backbone comes first', () => {
  const lines = [
    line(),
    ADAPTER_LINE,
    line({ priority: 'BATCH' }),
    { ...ADAPTER_LINE, royaltyVersionId: null },
  ];
  const texts = [lines, lines.toReversed(), [lines[2], lines[0], lines[3], lines[1]]].map((some) =>
    documentText(documentOf(some.flatMap((one) => one ?? []))),
  );
  expect(new Set(texts).size).toBe(1);
  const [first, second] = documentOf(lines.toReversed()).lines;
  expect([first?.adapterVersionId, first?.priority, second?.priority]).toEqual([null, 'BATCH', 'STANDARD']);
});

test('a document that is read back is the same, beyond 2^53 too', () => {
  for (const lines of [[], [line()], [ADAPTER_LINE, line()]]) {
    const document = documentOf(lines);
    expect(parseDocument(documentText(document))).toEqual(document);
    expect(documentText(parseDocument(documentText(document)))).toBe(documentText(document));
  }
  expect(documentOf([ADAPTER_LINE]).chargesNano).toBe(9_007_199_254_741_494n);
  expect(() => parseDocument('{"format":"patchbay.invoice.v2"}')).toThrow();
});

test('the hash is of the UTF-8 bytes, and the first byte that differs is found', () => {
  expect(Buffer.from(hashOf('é')).toString('hex')).toBe(
    '4a99557e4033c3539de2eb65472017cad5f9557f7a0625a09f1c3f6e2ba69c4c',
  );
  expect(firstDifference('aéb', 'aéc')).toBe(3);
  expect(firstDifference('abc', 'abc')).toBe(3);
  expect(firstDifference('ab', 'abc')).toBe(2);
});

test('an amount goes to the ledger in pieces that it takes', () => {
  const most = 10n ** 18n;
  expect(pieces(0n)).toEqual([]);
  expect(pieces(most)).toEqual([most]);
  expect(pieces(2n * most + 5n)).toEqual([most, most, 5n]);
});
