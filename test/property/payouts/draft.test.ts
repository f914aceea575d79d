import fc from 'fast-check';
import { expect, test } from 'vitest';
import { AMOUNT_MAX } from '../../../src/ledger/types.ts';
import { draftPayouts, payableNow } from '../../../src/payouts/draft.ts';
import { renderPaymentFile } from '../../../src/payouts/payment-file.ts';
import { parseResults } from '../../../src/payouts/results.ts';
import { ceilTo, floorTo } from '../../../src/payouts/unit.ts';
import { payment } from '../../conformance/payout-rail.ts';
import { ManualClock } from '../../kit/fake-runner.ts';
import { resultsFile } from '../../unit/payouts/files.ts';

const SEED = Number(process.env['PATCHBAY_TEST_SEED'] ?? 20_261_129);
const unit = fc.constantFrom(1n, 1_000_000n, 10_000_000n, 1_000_000_000n);
const amount = fc.oneof(fc.bigInt(-(10n ** 12n), 10n ** 12n), fc.bigInt(0n, 3n * AMOUNT_MAX));

test(`a draft pays whole amounts of at least the minimum, to the first who fit, and never more than payable (seed ${SEED})`, () => {
  const clock = new ManualClock();
  fc.assert(
    fc.property(
      fc.array(amount, { maxLength: 12 }),
      unit,
      fc.bigInt(0n, 10n ** 12n),
      fc.integer({ min: 1, max: 6 }),
      (payables, one, minimum, batchMax) => {
        const least = ceilTo(one, minimum);
        const candidates = payables.map((payable, index) => ({
          ...{ tenantId: `t${index}`, accountId: `a${index}`, destinationId: `d${index}`, payable },
          ...{ kind: 'FILE' as const, accountName: 'A', accountReference: 'A1234' },
        }));
        const terms = { currency: 'USD', earnedBefore: new Date(0), least, unit: one, batchMax };
        const payouts = draftPayouts(candidates, terms, clock);
        expect(payouts.length).toBeLessThanOrEqual(batchMax);
        expect(new Set(payouts.map(({ paymentKey }) => paymentKey)).size).toBe(payouts.length);
        let total = 0n;
        for (const { accountId, amountNano } of payouts) {
          const payable = candidates.find((candidate) => candidate.accountId === accountId)?.payable ?? -1n;
          expect(amountNano % one).toBe(0n);
          expect(amountNano >= least && amountNano <= payable && amountNano <= AMOUNT_MAX).toBe(true);
          if (payable <= AMOUNT_MAX) expect(payable - amountNano < one).toBe(true);
          total += amountNano;
        }
        expect(total <= AMOUNT_MAX).toBe(true);
        const due = candidates.filter(({ payable }) => payableNow(payable, least, one) > 0n);
        const everything = due.reduce((sum, { payable }) => sum + floorTo(one, payable), 0n);
        if (everything <= AMOUNT_MAX) expect(payouts).toHaveLength(Math.min(batchMax, due.length));
      },
    ),
    { seed: SEED, numRuns: 300 },
  );
});

test(`what a bank says of a payment file is read back to the nano-unit (seed ${SEED})`, () => {
  const state = fc.constantFrom('PAID', 'FAILED', 'UNKNOWN');
  const text = fc.string({
    unit: fc.constantFrom('a', 'Z', '9', '-', '/', 'ß'),
    minLength: 1,
    maxLength: 20,
  });
  fc.assert(
    fc.property(
      fc.array(fc.record({ amount: fc.bigInt(1n, AMOUNT_MAX), state, text }), { minLength: 1, maxLength: 8 }),
      (rows) => {
        const payments = rows.map((row) => payment(row.amount));
        const order = { batchId: 'b', currency: 'USD', payments };
        expect(renderPaymentFile(order)).toBe(renderPaymentFile(structuredClone(order)));
        const said = rows.map((row, index) => ({
          key: payments[index]?.key ?? '',
          amount: row.amount,
          state: row.state,
          reference: row.text,
        }));
        const read = parseResults(resultsFile(said));
        expect(read.results.map(({ line: _line, ...result }) => result)).toEqual(said);
        expect(read.total).toBe(rows.reduce((sum, row) => sum + row.amount, 0n));
      },
    ),
    { seed: SEED, numRuns: 200 },
  );
});
