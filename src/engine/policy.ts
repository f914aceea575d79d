import type { PriorityClass } from '../kernel/priority.ts';

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
  /**
   * When it must start at the latest to give its first token in time: arrival + target − predicted prefill,
   * monotonic milliseconds; infinite without a target. What is left until then is its slack.
   */
  readonly latestStartMs: number;
  /** Service that it will be charged in all, as predicted when it came, see service-cost.ts. */
  readonly serviceCost: number;
  /** How long it will occupy a row, in milliseconds, as predicted when it came. */
  readonly rowMs: number;
}

/** What has to be served before somebody's turn comes, as a policy predicts it. */
export interface WorkAhead {
  /** Row occupation, in milliseconds; rows share it. */
  readonly rowMs: number;
  /** About how many sequences that is. */
  readonly sequences: number;
}

/**
 * Who goes first among the waiting sequences of one priority class. The scheduler asks; it alone enforces capacity,
 * the order of classes, and how often one that is next may be passed because it does not fit. A policy can be unfair,
 * but it cannot over-commit memory. It keeps state that it derives from what it is told: no clock, no randomness.
 */
export interface QueuePolicy {
  /** The sequence waits: it is new and its adapters are in memory, or it was preempted. */
  add(sequence: SequenceView): void;
  /** The sequence no longer waits: it starts, or it ends without having started. */
  remove(sequence: SequenceView): void;
  /**
   * Who should start, best first. Lazy: the scheduler takes the next only if the one before does not fit, and stops at
   * the first that does. May leave out sequences that must not overtake those before them.
   */
  candidates(): Iterable<SequenceView>;
  /** The sequence received service, in the unit of service-cost.ts. */
  charge(sequence: SequenceView, cost: number): void;
  /** The sequence has ended and will not be charged again. */
  ended(sequence: SequenceView): void;
  /** What would be served before a sequence that came now. */
  workAhead(sequence: SequenceView): WorkAhead;
}

/** Makes the policy of one class; classes share nothing. */
export type SchedulingPolicy = () => QueuePolicy;
