import type { SchedulingPolicy } from '../policy.ts';
import { byArrival, Line, type Order } from './line.ts';

/** One line for the class, in a fixed order; who is served is none of its business. */
export function ordered(order: Order): SchedulingPolicy {
  return () => {
    const line = new Line(order);
    return {
      add: (sequence) => line.add(sequence),
      remove: (sequence) => line.remove(sequence),
      // A copy is not needed: the scheduler stops iterating before it changes the line.
      candidates: () => line.sequences,
      charge: () => {},
      ended: () => {},
      workAhead: () => ({ rowMs: line.rowMs, sequences: line.size }),
    };
  };
}

/** Whoever came first, whoever that is: one client's burst delays everybody behind it. */
export const firstComeFirstServed: SchedulingPolicy = ordered(byArrival);
