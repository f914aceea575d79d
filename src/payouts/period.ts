import { PatchbayError } from '../kernel/errors.ts';

const MONTH = /^(\d{4})-(0[1-9]|1[0-2])$/;

/** A month in UTC; `to` is exclusive. */
export interface Period {
  readonly name: string;
  readonly from: Date;
  readonly to: Date;
}

/** The month that a text such as `2026-02` names, or BAD_INPUT. */
export function parsePeriod(text: string): Period {
  const match = MONTH.exec(text);
  const year = Number(match?.[1] ?? 0);
  if (match === null || year < 1970) {
    throw new PatchbayError('BAD_INPUT', 'A period is a month such as `2026-02`.', { field: 'period' });
  }
  const month = Number(match[2]) - 1;
  return { name: text, from: new Date(Date.UTC(year, month)), to: new Date(Date.UTC(year, month + 1)) };
}
