import { createHash } from 'node:crypto';
import { formatMoney } from '../kernel/money.ts';
import type { PaymentOrder } from './rail.ts';

const COLUMNS = [
  'record',
  'batch',
  'key',
  'beneficiary',
  'account_name',
  'account_reference',
  'currency',
  'amount',
  'count',
];

/**
 * An order as the file that the bank gets: a header, a line for each payment with its key, and a line of control totals:
 * the SHA-256 of everything before it, sum and count. The same order is always the same bytes.
 */
export function renderPaymentFile({ batchId, currency, payments }: PaymentOrder): string {
  const lines = payments.map(({ key, beneficiary, accountName, accountReference, amount }) => [
    'PAYMENT',
    batchId,
    key,
    beneficiary,
    accountName,
    accountReference,
    currency,
    formatMoney(amount),
    '',
  ]);
  const body = [COLUMNS, ...lines].map(csvLine).join('');
  const total = payments.reduce((sum, { amount }) => sum + amount, 0n);
  const count = String(payments.length);
  return body + csvLine(['TOTAL', batchId, sha256(body), '', '', '', currency, formatMoney(total), count]);
}

/** Lower-case hex SHA-256 of a text's UTF-8. */
export function sha256(text: string): string {
  return createHash('sha256').update(text, 'utf8').digest('hex');
}

/** A line of RFC 4180. */
function csvLine(fields: readonly string[]): string {
  return `${fields.map((field) => (/[",\r\n]/.test(field) ? `"${field.replaceAll('"', '""')}"` : field)).join(',')}\r\n`;
}
