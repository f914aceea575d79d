import { describe, expect, test } from 'vitest';
import { sha256 } from '../../../src/payouts/payment-file.ts';
import { parseResults } from '../../../src/payouts/results.ts';
import { resultsFile } from './files.ts';

const A = 'a'.repeat(64);
const B = 'b'.repeat(64);
const GOOD = [
  { key: A, state: 'PAID', amount: 1_250_000_000n, reference: 'BANK-1' },
  { key: B, state: 'failed', amount: 2n ** 59n },
];

test('a file is read with its lines, states and totals', () => {
  for (const options of [{}, { hash: false }, { eol: '\n' }]) {
    const text = resultsFile(GOOD, options);
    expect(parseResults(text)).toEqual({
      sha256: sha256(text),
      total: 1_250_000_000n + 2n ** 59n,
      results: [
        { line: 2, key: A, state: 'PAID', amount: 1_250_000_000n, reference: 'BANK-1' },
        { line: 3, key: B, state: 'FAILED', amount: 2n ** 59n, reference: null },
      ],
    });
  }
});

test('quotes, a byte order mark and empty lines are understood', () => {
  const text = `\uFEFFkey,state,amount,reference\n\n${A},PAID,1.5,"a ""b"", c"\n\nTOTAL,1,1.50,\n`;
  expect(parseResults(text).results).toEqual([
    { line: 3, key: A, state: 'PAID', amount: 1_500_000_000n, reference: 'a "b", c' },
  ]);
});

describe('a file is refused, and the line is named,', () => {
  const lines = (...rows: readonly string[]) => ['key,state,amount,reference', ...rows].join('\n');
  const one = `${A},PAID,1,x`;
  test.each<readonly [string, string, number | null]>([
    ['without anything', '', 1],
    ['with another header', `id,state,amount,reference\n${one}\nTOTAL,1,1,`, 1],
    ['without control totals', lines(one), 2],
    ['when it was cut off', lines(one, `${B},PAID`), null],
    ['with control totals in the middle', lines('TOTAL,1,1,', one), 3],
    ['with a wrong count', lines(one, 'TOTAL,2,1,'), 3],
    ['with a wrong sum', lines(one, 'TOTAL,1,1.01,'), 3],
    ['with a wrong SHA-256', lines(one, `TOTAL,1,1,${'0'.repeat(64)}`), 3],
    ['without results', lines('TOTAL,0,0,'), 2],
    ['with a key twice', lines(one, one, 'TOTAL,2,2,'), 3],
    ['with a short key', lines(`${A.slice(1)},PAID,1,x`, 'TOTAL,1,1,'), 2],
    ['with a key in capitals', lines(`${A.toUpperCase()},PAID,1,x`, 'TOTAL,1,1,'), 2],
    ['with an unknown state', lines(`${A},SENT,1,x`, 'TOTAL,1,1,'), 2],
    ['with no amount', lines(`${A},PAID,,x`, 'TOTAL,1,0,'), 2],
    ['with a negative amount', lines(`${A},PAID,-1,x`, 'TOTAL,1,-1,'), 2],
    ['with an amount in words', lines(`${A},PAID,1e3,x`, 'TOTAL,1,1000,'), 2],
    ['with a payment without a reference', lines(`${A},PAID,1,`, 'TOTAL,1,1,'), 2],
    ['with a long reference', lines(`${A},PAID,1,${'x'.repeat(141)}`, 'TOTAL,1,1,'), 2],
    ['with too few columns', lines(`${A},PAID,1`, 'TOTAL,1,1,'), null],
    ['with an open quote', lines(`${A},PAID,1,"x`, 'TOTAL,1,1,'), null],
  ])('%s', (_name, text, line) => {
    expect(() => parseResults(text)).toThrow(
      expect.objectContaining({
        code: 'PAYOUT_FILE',
        field: 'content',
        meta: { line },
        fix: expect.stringContaining('Nothing'),
      }),
    );
  });

  test('when it is longer than any file of ours', () => {
    expect(() => parseResults('x'.repeat(4_000_001))).toThrow(
      expect.objectContaining({ code: 'PAYOUT_FILE' }),
    );
  });
});
