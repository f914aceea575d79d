import { CLASS_RANK, type ClassTargets } from './classes.ts';
import type { StepCosts } from './cost-model.ts';
import type { Entry } from './entry.ts';

/** One row of a step. */
export interface PlannedRow {
  readonly key: number;
  /** How many of the sequence's known tokens to process, after the `past` ones. */
  readonly tokens: number;
  readonly past: number;
  /** How many of them were processed before, until the sequence lost its KV. The sequence is not charged for them. */
  readonly redone: number;
  /** True when these are the last known tokens, so that the next one can be drawn. */
  readonly wantsLogits: boolean;
}

/** Bounds of one step's prefill. */
export interface PrefillLimits {
  readonly prefillTokensPerStep: number;
  readonly maxPrefillStall: number;
}

/** Least share of the prefill budget that inter-token targets leave, so that prompts always move on. */
const LEAST_BUDGET_SHARE = 1 / 8;

/**
 * Plans the rows of one step: every running sequence that is past its prompt decodes one token; what the prefill
 * budget allows is read from prompts. What an evicted sequence has to read again counts as prompt.
 *
 * Several may go on at once. No prompt is left aside for long: one that was skipped `maxPrefillStall` steps in a row
 * goes first, longest stalled first, so each of n running sequences gets a chunk at least every `maxPrefillStall + n`
 * steps.
 */
export function planRows(
  running: Iterable<Entry>,
  limits: PrefillLimits,
  targets: ClassTargets,
  costs: StepCosts,
): PlannedRow[] {
  const rows: PlannedRow[] = [];
  const reading: Entry[] = [];
  let interTokenMs = Number.POSITIVE_INFINITY;
  for (const entry of running) {
    if (entry.known - entry.processed === 1 && entry.processed >= entry.promptTokens) {
      rows.push(row(entry, 1));
      interTokenMs = Math.min(interTokenMs, targets[entry.priority].interTokenMs);
    } else reading.push(entry);
  }
  if (reading.length === 0) return rows;
  let budget = prefillBudget(rows.length, interTokenMs, limits, costs);
  for (const entry of reading.sort((a, b) => byUrgency(a, b, limits))) {
    const tokens = Math.min(entry.known - entry.processed, budget);
    if (tokens === 0) {
      entry.stalled += 1;
      continue;
    }
    entry.stalled = 0;
    budget -= tokens;
    rows.push(row(entry, tokens));
  }
  return rows;
}

/** As many prompt tokens as leave the step within the shortest inter-token target of its decode rows. */
export function prefillBudget(
  decodeRows: number,
  interTokenMs: number,
  { prefillTokensPerStep }: PrefillLimits,
  costs: StepCosts,
): number {
  if (!Number.isFinite(interTokenMs)) return prefillTokensPerStep;
  const spareMs = interTokenMs - costs.stepMs - costs.decodeRowMs * decodeRows;
  const least = Math.max(1, Math.floor(prefillTokensPerStep * LEAST_BUDGET_SHARE));
  const affordable = Math.floor(spareMs / costs.prefillTokenMs);
  return Math.min(prefillTokensPerStep, Math.max(least, affordable));
}

function row(entry: Entry, tokens: number): PlannedRow {
  const past = entry.processed;
  const redone = Math.max(0, Math.min(past + tokens, entry.computed) - past);
  return { key: entry.key, tokens, past, redone, wantsLogits: past + tokens === entry.known };
}

/** Those left aside too long, then by class, then least slack first. */
function byUrgency(a: Entry, b: Entry, { maxPrefillStall }: PrefillLimits): number {
  const overdueA = a.stalled >= maxPrefillStall ? a.stalled : -1;
  const overdueB = b.stalled >= maxPrefillStall ? b.stalled : -1;
  if (overdueA !== overdueB) return overdueB - overdueA;
  const byClass = CLASS_RANK[a.priority] - CLASS_RANK[b.priority];
  if (byClass !== 0 || overdueA >= 0) return overdueA >= 0 ? a.key - b.key : byClass;
  if (a.latestStartMs !== b.latestStartMs) return a.latestStartMs < b.latestStartMs ? -1 : 1;
  return a.key - b.key;
}
