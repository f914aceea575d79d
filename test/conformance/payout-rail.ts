import { createHash, randomUUID } from 'node:crypto';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Payment, PaymentOrder, PayoutRail } from '../../src/payouts/rail.ts';

/** A rail under test, and a look behind it. */
export interface PayoutRailFixture {
  readonly rail: PayoutRail;
  /** Another process on the same rail. */
  restarted(): PayoutRail;
  /** An account that it pays to; left out: one of a bank. */
  account?(): string;
  /** Every payment that the rail will make, across all orders. */
  payments(): Promise<readonly { readonly key: string; readonly amount: bigint }[]>;
  close(): Promise<void>;
}

export function payment(amount: bigint, more: Partial<Payment> = {}): Payment {
  return {
    key: createHash('sha256').update(randomUUID()).digest('hex'),
    beneficiary: randomUUID(),
    accountName: 'Ada "the first", Lovelace',
    accountReference: 'DE89370400440532013000',
    amount,
    ...more,
  };
}

/** What every {@link PayoutRail} guarantees; run it on each driver with an empty rail per test. */
export function describePayoutRail(driver: string, open: () => Promise<PayoutRailFixture>): void {
  describe(`payout rail: ${driver}`, () => {
    let fixture: PayoutRailFixture;
    let unit: bigint;
    beforeEach(async () => {
      fixture = await open();
      unit = fixture.rail.unitNano('USD');
    });
    afterEach(() => fixture.close());

    const pay = (amount: bigint): Payment => {
      const accountReference = fixture.account?.();
      return payment(amount, accountReference === undefined ? {} : { accountReference });
    };
    const order = (payments: readonly Payment[]): PaymentOrder => ({
      batchId: randomUUID(),
      currency: 'USD',
      payments,
    });
    const brief = (payments: readonly Payment[]) => payments.map(({ key, amount }) => ({ key, amount }));

    it('says what it can pay of a currency: something, in amounts that are multiples of its unit', async () => {
      const { leastNano } = await fixture.rail.terms('USD');
      expect(leastNano >= unit && leastNano % unit === 0n).toBe(true);
      expect(fixture.rail.refuses.has(pay(unit).accountReference)).toBe(false);
    });

    it('makes every payment of an order, in amounts past 2^53', async () => {
      const payments = [pay(unit), pay(123n * unit), pay((10n ** 18n / unit) * unit)];
      const receipt = await fixture.rail.submit(order(payments));
      expect(receipt.reference).not.toBe('');
      expect(receipt.sha256).toMatch(/^[0-9a-f]{64}$/);
      expect(await fixture.payments()).toEqual(brief(payments));
    });

    it('answers an order that it has with the same receipt, and pays nothing twice', async () => {
      const asked = order([pay(unit), pay(2n * unit)]);
      const first = await fixture.rail.submit(asked);
      expect(await fixture.rail.submit(structuredClone(asked))).toEqual(first);
      expect(await fixture.restarted().submit(asked)).toEqual(first);
      expect(await fixture.payments()).toEqual(brief(asked.payments));
    });

    it('takes an order once when it is given many times at once', async () => {
      const asked = order([pay(unit), pay(2n * unit)]);
      const receipts = await Promise.all(
        Array.from({ length: 8 }, (_, i) => (i % 2 === 0 ? fixture.rail : fixture.restarted()).submit(asked)),
      );
      expect(new Set(receipts.map(({ sha256 }) => sha256)).size).toBe(1);
      expect(await fixture.payments()).toEqual(brief(asked.payments));
    });

    it('keeps batches apart', async () => {
      const [one, two] = [order([pay(unit)]), order([pay(3n * unit)])];
      const [first, second] = [await fixture.rail.submit(one), await fixture.rail.submit(two)];
      expect(first.reference).not.toBe(second.reference);
      const paid = await fixture.payments();
      expect(paid).toHaveLength(2);
      expect(paid).toEqual(expect.arrayContaining(brief([...one.payments, ...two.payments])));
    });

    it('refuses another order of a batch that it has, and keeps the first', async () => {
      const asked = order([pay(unit), pay(2n * unit)]);
      await fixture.rail.submit(asked);
      const [first] = asked.payments;
      for (const payments of [
        [...asked.payments, pay(unit)],
        asked.payments.slice(1),
        [{ ...pay(unit), ...first, amount: 2n * unit }],
      ]) {
        await expect(fixture.rail.submit({ ...asked, payments })).rejects.toMatchObject({
          code: 'PAYOUT_RAIL',
        });
      }
      expect(await fixture.payments()).toEqual(brief(asked.payments));
    });

    it('refuses what cannot be paid as it is: nothing, a key twice, amounts that are not whole', async () => {
      const twice = pay(unit);
      const broken = unit > 1n ? [[pay(unit + 1n)]] : [];
      for (const payments of [[], [twice, twice], [pay(0n)], [pay(-unit)], ...broken]) {
        await expect(fixture.rail.submit(order(payments))).rejects.toMatchObject({ code: 'PAYOUT_RAIL' });
      }
      expect(await fixture.payments()).toEqual([]);
    });
  });
}
