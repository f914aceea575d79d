import { PatchbayError } from '../kernel/errors.ts';

/** A month of the calendar in UTC. */
export interface Period {
  /** Such as `2028-02`. */
  readonly label: string;
  /** Its first instant. */
  readonly start: Date;
  /** The first instant after it. */
  readonly end: Date;
}

const LABEL = /^(2\d{3})-(0[1-9]|1[0-2])$/;

/** Reads a month such as `2028-02`. Months are UTC's, so they have no summer time and are the same everywhere. */
export function parsePeriod(label: string, field = 'period'): Period {
  const [, year, month] = LABEL.exec(label) ?? [];
  if (year === undefined || month === undefined) {
    throw new PatchbayError('BAD_INPUT', 'A period is a month, such as 2028-02.', { field });
  }
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
