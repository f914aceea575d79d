import type { Capacity, Demand } from './capacity.ts';
import { demandOf, type Entry, heldBy, stepsLeft } from './entry.ts';

/** The promise to a sequence that is next and does not fit: when there will be room, and out of whose hands. */
export interface Reservation {
  readonly entry: Entry;
  /** Steps until the running sequences that stand in its way have surely ended. */
  readonly steps: number;
  /** What they give back. */
  readonly released: readonly Demand[];
}

/**
 * Reserves room for a sequence, as backfilling batch schedulers do (EASY: Lifka, _The ANL/IBM SP scheduling
 * system_, 1995): the running sequences that end first and together make room for it.
 */
export function reserve(
  entry: Entry,
  running: readonly Entry[],
  capacity: Capacity,
  prefillTokensPerStep: number,
): Reservation {
  const soonest = running
    .map((holder) => ({ holder, left: stepsLeft(holder, prefillTokensPerStep) }))
    .sort((a, b) => a.left - b.left);
  const released: Demand[] = [];
  let steps = 0;
  for (const { holder, left } of soonest) {
    if (capacity.wouldFit([demandOf(entry)], released)) break;
    released.push(heldBy(holder));
    steps = left;
  }
  return { entry, steps, released };
}

/** Whether another sequence may start without delaying the one that has the reservation. */
export function isHarmless(
  other: Entry,
  reservation: Reservation,
  capacity: Capacity,
  prefillTokensPerStep: number,
): boolean {
  if (stepsLeft(other, prefillTokensPerStep) <= reservation.steps) return true;
  return capacity.wouldFit([demandOf(reservation.entry), demandOf(other)], reservation.released);
}
