import { PatchbayError } from '../kernel/errors.ts';
import type { EventPlace } from './types.ts';

const PLACE = /^([1-9]\d{0,18})-([1-9]\d{0,18})$/;
const BIGINT_MAX = 2n ** 63n - 1n;

/** A place as the text inside of a cursor. */
export function formatPlace({ transaction, position }: EventPlace): string {
  return `${transaction}-${position}`;
}

/** The place that the text stands for, or `BAD_INPUT`. */
export function parsePlace(text: string): EventPlace {
  const [, transaction = '', position = ''] = PLACE.exec(text) ?? [];
  if (transaction !== '') {
    const place = { transaction: BigInt(transaction), position: BigInt(position) };
    if (place.transaction <= BIGINT_MAX && place.position <= BIGINT_MAX) return place;
  }
  throw new PatchbayError('BAD_INPUT', '`after` is not the cursor of an event.', { field: 'after' });
}

/** The place behind every event of the transactions before this one. */
export function placeBefore(horizon: bigint): EventPlace {
  return { transaction: horizon - 1n, position: BIGINT_MAX };
}
