import { PatchbayError } from '../kernel/errors.ts';

/** Widths of time buckets, in UTC. */
export const BUCKETS = ['hour', 'day'] as const;
export type Bucket = (typeof BUCKETS)[number];

/** Most buckets that one query may span. */
export const RANGE_BUCKETS_MAX = 2_000;

const HOUR_MS = 3_600_000;
const WIDTH_MS: Readonly<Record<Bucket, number>> = { hour: HOUR_MS, day: 24 * HOUR_MS };

/** A period in whole buckets; `to` is exclusive. */
export interface UsageRange {
  readonly from: Date;
  readonly to: Date;
  readonly bucket: Bucket;
}

/**
 * Widens a period to whole buckets: down at its start, up at its end. UTC has no summer time, so all buckets of a
 * kind are equally wide.
 *
 * @throws PatchbayError `BAD_INPUT` when it is empty or spans too many buckets.
 */
export function alignRange(range: UsageRange): UsageRange {
  const width = WIDTH_MS[range.bucket];
  const from = Math.floor(range.from.getTime() / width) * width;
  const to = Math.ceil(range.to.getTime() / width) * width;
  if (!Number.isFinite(from) || !Number.isFinite(to)) bad('from', 'The period has an invalid time.');
  if (range.to <= range.from) bad('to', 'The period ends before it starts.');
  if ((to - from) / width > RANGE_BUCKETS_MAX)
    bad('to', `The period spans more than ${RANGE_BUCKETS_MAX} buckets.`);
  return { from: new Date(from), to: new Date(to), bucket: range.bucket };
}

function bad(field: string, message: string): never {
  throw new PatchbayError('BAD_INPUT', message, { field });
}
