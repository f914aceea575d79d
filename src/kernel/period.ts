import { PatchbayError } from './errors.ts';

/** A month of the calendar in UTC: what bills and statements are about. */
export interface Period {
  /** Such as `2028-02`. */
  readonly label: string;
  /** Its first instant. */
  readonly start: Date;
  /** The first instant after it. */
  readonly end: Date;
}

const LABEL = /^(2\d{3})-(0[1-9]|1[0-2])$/;

/** Reads a month such as `2028-02`, or `BAD_INPUT`. Months are UTC's, so they have no summer time and are the same everywhere. */
export function parsePeriod(label: string, field = 'period'): Period {
  const period = findPeriod(label);
  if (period !== null) return period;
  throw new PatchbayError('BAD_INPUT', 'A period is a month, such as 2028-02.', { field });
}

/** {@link parsePeriod}, and null for what is no month. */
export function findPeriod(label: string): Period | null {
  const [, year, month] = LABEL.exec(label) ?? [];
  if (year === undefined || month === undefined) return null;
  const index = Number(month) - 1;
  return {
    label,
    start: new Date(Date.UTC(Number(year), index)),
    end: new Date(Date.UTC(Number(year), index + 1)),
  };
}

/** The month that a time lies in. */
export function periodOf(at: Date): Period {
  return parsePeriod(at.toISOString().slice(0, 7));
}
