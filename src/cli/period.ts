import { UsageError } from './io.ts';

/** Whole days (UTC); `to` is exclusive. */
export interface Period {
  readonly from: Date;
  readonly to: Date;
}

/** Reads the flags `--from` and `--to`, of which the second is exclusive. */
export function periodOf(flags: { readonly from: string; readonly to: string }): Period {
  const period = { from: day(flags.from, '--from'), to: day(flags.to, '--to') };
  if (period.to <= period.from) throw new UsageError('The period is empty.', 'Let --to be after --from.');
  return period;
}

/** Midnight (UTC) of a day. */
export function day(text: string, flag: string): Date {
  const at = new Date(`${text}T00:00:00Z`);
  // A day that no month has, such as February 30th, reads as another one.
  if (!/^\d{4}-\d{2}-\d{2}$/.test(text) || Number.isNaN(at.getTime()) || !at.toISOString().startsWith(text)) {
    throw new UsageError(`${flag} ${JSON.stringify(text)} is not a day.`, 'Give one such as 2026-01-31.');
  }
  return at;
}
