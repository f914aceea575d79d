import { CsvError, parse } from 'csv-parse/sync';
import { z } from 'zod';
import { PatchbayError } from '../kernel/errors.ts';
import { parseMoney } from '../kernel/money.ts';
import { sha256 } from './payment-file.ts';
import { RESULT_STATES, type ResultState } from './types.ts';

/** Longest file of results. */
export const RESULTS_CHARS_MAX = 4_000_000;

/** What a bank says of one payment. */
export interface BankResult {
  /** Line of the file, from 1. */
  readonly line: number;
  readonly key: string;
  readonly state: ResultState;
  readonly amount: bigint;
  readonly reference: string | null;
}

/** A file of results whose control totals are right. */
export interface BankResults {
  readonly sha256: string;
  readonly results: readonly BankResult[];
  /** Of all amounts. */
  readonly total: bigint;
}

const COLUMNS = ['key', 'state', 'amount', 'reference'];
const KEY = /^[0-9a-f]{64}$/;
/** What banks call payments. */
export const BANK_REFERENCE = /^[^\p{Cc}]{1,140}$/u;
const parsed = z.array(z.object({ record: z.array(z.string()), info: z.object({ lines: z.number() }) }));

/**
 * Reads a file of results: the header `key,state,amount,reference`, a line for each payment, and the control totals
 * `TOTAL,<count>,<sum>,<SHA-256 of everything before this line, or nothing>`. Throws `PAYOUT_FILE` that names the line.
 */
export function parseResults(text: string): BankResults {
  if (text.length > RESULTS_CHARS_MAX)
    throw bad(`The file has more than ${RESULTS_CHARS_MAX} characters.`, null);
  const [header, ...lines] = readCsv(text);
  if (header === undefined || header.fields.join(',').toLowerCase() !== COLUMNS.join(',')) {
    throw bad(`The first line must be \`${COLUMNS.join(',')}\`.`, 1);
  }
  const totals = lines.pop();
  if (totals === undefined || totals.fields[0] !== 'TOTAL') {
    throw bad(
      'The last line must be the control totals, `TOTAL,<count>,<sum>,<SHA-256>`.',
      totals?.line ?? 1,
    );
  }
  const results = lines.map(toResult);
  const seen = new Map<string, number>();
  for (const { key, line } of results) {
    const first = seen.get(key);
    if (first !== undefined) throw bad(`The key ${key} is on line ${first} already.`, line);
    seen.set(key, line);
  }
  const total = results.reduce((sum, { amount }) => sum + amount, 0n);
  checkTotals(totals, text, results.length, total);
  if (results.length === 0) throw bad('The file has no results.', totals.line);
  return { sha256: sha256(text), results, total };
}

interface Line {
  readonly line: number;
  readonly fields: readonly string[];
}

function readCsv(text: string): readonly Line[] {
  try {
    const rows = parsed.parse(
      parse(text, { bom: true, info: true, skip_empty_lines: true, trim: true, relax_column_count: false }),
    );
    return rows.map(({ record, info }) => ({ line: info.lines, fields: record }));
  } catch (error) {
    if (!(error instanceof CsvError)) throw error;
    throw bad(`It is no CSV of ${COLUMNS.length} columns: ${error.message}.`, null);
  }
}

function toResult({ line, fields }: Line): BankResult {
  const [key = '', state = '', amount = '', reference = ''] = fields;
  if (!KEY.test(key)) throw bad('The key is not 64 hex digits.', line);
  const known = RESULT_STATES.find((one) => one === state.toUpperCase());
  if (known === undefined) throw bad(`The state is none of ${RESULT_STATES.join(', ')}.`, line);
  const nano = parseMoney(amount);
  if (nano === null || nano <= 0n) throw bad('The amount is not a positive decimal number.', line);
  if (reference !== '' && !BANK_REFERENCE.test(reference))
    throw bad('The reference has more than 140 characters.', line);
  if (reference === '' && (known === 'PAID' || known === 'RETURNED')) {
    throw bad('A payment that was made, or that came back, has a reference.', line);
  }
  return { line, key, state: known, amount: nano, reference: reference === '' ? null : reference };
}

function checkTotals({ line, fields }: Line, text: string, count: number, total: bigint): void {
  const [, saidCount = '', saidTotal = '', saidSha256 = ''] = fields;
  if (saidCount !== String(count)) throw bad(`The file has ${count} results and says ${saidCount}.`, line);
  if (parseMoney(saidTotal) !== total) throw bad('The amounts do not add up to the control total.', line);
  if (saidSha256 === '') return;
  const body = text.slice(0, Math.max(0, text.lastIndexOf('TOTAL,')));
  if (saidSha256.toLowerCase() !== sha256(body)) {
    throw bad('The SHA-256 is not the one of the lines before the control totals.', line);
  }
}

function bad(message: string, line: number | null): PatchbayError {
  return fileError(message, line);
}

/** The error for a file of results, which says where in it. */
export function fileError(
  message: string,
  line: number | null,
  code: 'PAYOUT_FILE' | 'PAYOUT_STATE' = 'PAYOUT_FILE',
): PatchbayError {
  return new PatchbayError(code, line === null ? message : `Line ${line}: ${message}`, {
    field: 'content',
    fix: 'Nothing of the file was taken in. Correct it, or ask the bank for another, and import the whole file again.',
    meta: { line },
  });
}
