import { PRIORITY_CLASSES, type PriorityClass } from '../kernel/priority.ts';

/** A sequence as policies see it; the scheduler changes the numbers, policies only read. */
export interface SequenceView {
  /** Number that the shell gave the sequence; rises with arrival. */
  readonly key: number;
  readonly tenantId: string;
  readonly priority: PriorityClass;
  /** Digests of its adapters. */
  readonly adapters: readonly string[];
  /** Monotonic time of arrival, in milliseconds. */
  readonly arrivedMs: number;
  readonly promptTokens: number;
  readonly maxTokens: number;
  /** Tokens whose keys and values are cached. */
  readonly processed: number;
  /** Tokens of prompt and completion so far. */
  readonly known: number;
  /** Later arrivals that started while this one was ready. */
  readonly bypassed: number;
  /** Consecutive steps in which its prompt was left aside. */
  readonly stalled: number;
}

/** What happened to a sequence, for policies that keep counters of service. */
export type PolicyEvent =
  | { readonly kind: 'arrived' | 'started' | 'ended'; readonly sequence: SequenceView }
  | {
      readonly kind: 'processed';
      readonly sequence: SequenceView;
      readonly tokens: number;
      /** Whether the tokens belong to the prompt. */
      readonly prefill: boolean;
    };

/**
 * Who goes first. The scheduler asks; it alone enforces capacity, budgets and the bounds on waiting, so a policy can
 * be unfair but it can neither over-commit memory nor starve anyone. A policy may keep state, which it
 * derives from {@link SchedulingPolicy.observe} and the times that it is given: no clock, no randomness.
 */
export interface SchedulingPolicy {
  /**
   * The same sequences, the one that should start first in front. Asked again after every start, so that an order may
   * depend on what the start changed.
   */
  admissionOrder(waiting: readonly SequenceView[], nowMs: number): readonly SequenceView[];
  /** The running sequences with prompt left, the one whose prompt should be read first in front. */
  prefillOrder(reading: readonly SequenceView[], nowMs: number): readonly SequenceView[];
  observe(event: PolicyEvent): void;
}

const CLASS_RANK: Readonly<Record<PriorityClass, number>> = {
  INTERACTIVE: PRIORITY_CLASSES.indexOf('INTERACTIVE'),
  STANDARD: PRIORITY_CLASSES.indexOf('STANDARD'),
  BATCH: PRIORITY_CLASSES.indexOf('BATCH'),
};

function byClassThenArrival(a: SequenceView, b: SequenceView): number {
  return CLASS_RANK[a.priority] - CLASS_RANK[b.priority] || a.key - b.key;
}

/** Most urgent class first, first come first served within a class. */
export function firstComeFirstServed(): SchedulingPolicy {
  return {
    admissionOrder: (waiting) => waiting.toSorted(byClassThenArrival),
    prefillOrder: (reading) => reading.toSorted(byClassThenArrival),
    observe: () => {},
  };
}
