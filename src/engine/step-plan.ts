import type { SchedulingPolicy } from './policy.ts';
import type { Entry, PlannedRow } from './scheduler.ts';

/** Bounds of one step's prefill. */
export interface PrefillLimits {
  readonly prefillTokensPerStep: number;
  readonly maxPrefillStall: number;
}

/**
 * Plans the rows of one step: every running sequence that is past its prompt decodes one token; what the prefill
 * budget allows is read from prompts.
 *
 * A chunk that continues a prompt has many tokens and a past, which the runner can only run by itself, while
 * first chunks have no past and share one run. So at most one row per step is *partial*: it continues a prompt, or
 * begins one that the budget cuts off. Others begin only if their whole prompt fits into what is left. A single
 * token with a past looks like a decode row to the runner and is exempt.
 *
 * No prompt is left aside for long: one that was skipped `maxPrefillStall` steps in a row goes first, longest
 * stalled first, so each of n running sequences gets a chunk at least every `maxPrefillStall + n` steps.
 */
export function planRows(
  running: readonly Entry[],
  limits: PrefillLimits,
  policy: SchedulingPolicy,
  nowMs: number,
): PlannedRow[] {
  const rows: PlannedRow[] = [];
  const reading: Entry[] = [];
  for (const entry of running) {
    if (entry.known - entry.processed === 1 && entry.processed >= entry.promptTokens)
      rows.push(row(entry, 1));
    else reading.push(entry);
  }
  if (reading.length === 0) return rows;
  let budget = limits.prefillTokensPerStep;
  let partialTaken = false;
  for (const entry of prefillOrder(reading, limits, policy, nowMs)) {
    const left = entry.known - entry.processed;
    const tokens = Math.min(left, budget);
    const partial = tokens > 0 && (entry.processed > 0 ? tokens > 1 : tokens < left);
    if (tokens === 0 || (partial && partialTaken)) {
      entry.stalled += 1;
      continue;
    }
    if (partial) partialTaken = true;
    entry.stalled = 0;
    budget -= tokens;
    rows.push(row(entry, tokens));
  }
  return rows;
}

function row(entry: Entry, tokens: number): PlannedRow {
  const past = entry.processed;
  return { key: entry.key, tokens, past, wantsLogits: past + tokens === entry.known };
}

function prefillOrder(
  reading: readonly Entry[],
  { maxPrefillStall }: PrefillLimits,
  policy: SchedulingPolicy,
  nowMs: number,
): Entry[] {
  const overdue = reading
    .filter((entry) => entry.stalled >= maxPrefillStall)
    .sort((a, b) => b.stalled - a.stalled || a.key - b.key);
  const rest = reading.filter((entry) => entry.stalled < maxPrefillStall);
  const byKey = new Map(rest.map((entry) => [entry.key, entry]));
  const ordered: Entry[] = [];
  for (const view of policy.prefillOrder(rest, nowMs)) {
    const entry = byKey.get(view.key);
    if (entry !== undefined) ordered.push(entry);
  }
  return [...overdue, ...ordered];
}
