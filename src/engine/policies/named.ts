import type { SchedulingPolicyName } from '../options.ts';
import type { SchedulingPolicy } from '../policy.ts';
import { firstComeFirstServed } from './ordered.ts';
import { roundRobin } from './round-robin.ts';
import { type VtcOptions, virtualTokenCounters } from './vtc.ts';

/** The policy that an operator names. */
export function namedPolicy(name: SchedulingPolicyName, options: VtcOptions = {}): SchedulingPolicy {
  switch (name) {
    case 'fair':
      return virtualTokenCounters(options);
    case 'round-robin':
      return roundRobin;
    case 'fcfs':
      return firstComeFirstServed;
  }
}
