import type { Demand } from './capacity.ts';
import { CLASS_RANK } from './classes.ts';
import type { SequenceView } from './policy.ts';

/** A sequence as it is handed to the scheduler. */
export interface SequenceSpec
  extends Pick<
    SequenceView,
    'key' | 'tenantId' | 'priority' | 'adapters' | 'arrivedMs' | 'promptTokens' | 'maxTokens'
  > {
  /** KV bytes of prompt plus all tokens that it may generate; reserved when it starts. */
  readonly kvBytes: number;
  /** Tokens of the prompt that are expected not to need computing when it starts, for predictions; 0 by default. */
  readonly cachedTokens?: number;
}

/** An adapter's share of the bank. */
export interface AdapterPages {
  readonly digest: string;
  readonly pages: number;
}

/** The scheduler's own record of a sequence. */
export interface Entry extends SequenceSpec, SequenceView {
  state: 'pending' | 'waiting' | 'running';
  pages: readonly AdapterPages[];
  bytesLoaded: number;
  /** Once it has started, what its first start found. */
  cachedTokens: number;
  serviceCost: number;
  processed: number;
  known: number;
  /** Starts that passed it by while it was next and did not fit. */
  bypassed: number;
  /** Consecutive steps in which its prompt was left aside. */
  stalled: number;
  /** Whether it has run before. */
  started: boolean;
  /** Whether its keys and values are in the cache, or reserved there; also while it is paused. */
  holdsKv: boolean;
  /** Tokens, counted from the first, whose keys and values were computed before: computing them again is not service. */
  computed: number;
  /** How often it was preempted. */
  preempted: number;
  /** Started because of its age: must not be preempted. */
  aged: boolean;
  /** Has been in a step since its last start: only then may it be preempted, so that every start brings it further. */
  stepped: boolean;
}

/** What it takes to start or to resume a sequence. */
export function demandOf(entry: Entry): Demand {
  return { rows: 1, kvBytes: entry.holdsKv ? 0 : entry.kvBytes, pages: entry.pages };
}

/** What a running sequence gives back when it ends or is evicted. */
export function heldBy(entry: Entry): Demand {
  return { rows: 1, kvBytes: entry.kvBytes, pages: entry.pages };
}

/** What a running sequence gives back when it pauses and keeps its KV. */
export function pausable(entry: Entry): Demand {
  return { rows: 1, kvBytes: 0, pages: entry.pages };
}

/** What a paused sequence gives back when it is evicted. */
export function cachedBy(entry: Entry): Demand {
  return { rows: 0, kvBytes: entry.kvBytes, pages: [] };
}

/** Steps until a sequence has surely ended once it runs; stop rules may end it earlier. */
export function stepsLeft(entry: Entry, prefillTokensPerStep: number): number {
  const unread = Math.max(0, entry.known - entry.processed - 1);
  return Math.ceil(unread / prefillTokensPerStep) + entry.promptTokens + entry.maxTokens - entry.known;
}

/** Whether a running sequence may be preempted for one of the class with that rank. */
export function mayYieldTo(
  rank: number,
  entry: Entry,
  { maxPreemptions }: { readonly maxPreemptions: number },
): boolean {
  return (
    CLASS_RANK[entry.priority] > rank && entry.stepped && !entry.aged && entry.preempted < maxPreemptions
  );
}
