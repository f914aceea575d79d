import type { PriorityClass } from '../kernel/priority.ts';
import { CLASS_RANK, type ClassTargets, prefillMs } from './classes.ts';
import type { StepCostModel } from './cost-model.ts';
import type { ClassDemand } from './demand.ts';
import { type Entry, mayYieldTo, stepsLeft } from './entry.ts';
import type { WorkAhead } from './policy.ts';

/** Bounds of the engine that predictions need. */
export interface ForecastLimits {
  readonly maxBatch: number;
  readonly prefillTokensPerStep: number;
  readonly maxPreemptions: number;
  readonly kvBudgetBytes: number;
}

/** When a sequence that came now would get its first token. */
export interface Forecast {
  /** Until it starts, in milliseconds. */
  readonly waitMs: number;
  /** From its start to its first token, in milliseconds. */
  readonly readMs: number;
}

/** What the prediction takes from the scheduler's books. */
export interface Outlook {
  readonly running: readonly Entry[];
  readonly ahead: WorkAhead;
  /** Which part of their tokens sequences generate in the mean before a stop rule ends them. */
  readonly completion: number;
  /** Rows that later arrivals of more urgent classes will take. */
  readonly rowsBefore: number;
  /** Factor on the work ahead, see {@link ClassDemand.caution}. */
  readonly caution: number;
}

/** Least share of the rows that a class is taken to get, however busy more urgent ones are: aging gives it some. */
const LEAST_SHARE = 0.05;

/**
 * Predicts a sequence's start. Rows that it could preempt are as good as free to it. The others end one after another:
 * the first when it has surely ended, each further one after its share of a row's occupation. How many rows run at
 * once is bounded by KV memory too, at the size that sequences have now.
 */
export function forecast(
  entry: Entry,
  { running, ahead, completion, rowsBefore, caution }: Outlook,
  model: StepCostModel,
  limits: ForecastLimits,
): Forecast {
  const rank = CLASS_RANK[entry.priority];
  const urgent = Number.isFinite(entry.latestStartMs);
  let busyRows = 0;
  let firstEnd = Number.POSITIVE_INFINITY;
  let unreadTokens = 0;
  let kvBytes = entry.kvBytes;
  for (const other of running) {
    kvBytes += other.kvBytes;
    if (urgent && mayYieldTo(rank, other, limits)) continue;
    busyRows += 1;
    firstEnd = Math.min(firstEnd, stepsLeft(other, limits.prefillTokensPerStep));
    unreadTokens += Math.max(0, other.known - other.processed - 1);
  }
  const inMemory = Math.floor((limits.kvBudgetBytes * (running.length + 1)) / kvBytes);
  const rows = Math.min(limits.maxBatch, Math.max(1, inMemory));
  const readMs = prefillMs(entry.promptTokens - entry.cachedTokens, model.costs, limits);
  if (busyRows + ahead.sequences < rows) {
    return { waitMs: 0, readMs: readMs + unreadTokens * model.costs.prefillTokenMs };
  }
  const firstEndMs = busyRows < rows ? 0 : firstEnd * model.recentMs;
  const share = Math.max(LEAST_SHARE, 1 - rowsBefore / rows);
  return { waitMs: (completion * (firstEndMs + (caution * ahead.rowMs) / rows)) / share, readMs };
}

/**
 * Whether to refuse a sequence because it would come too late: the milliseconds after which a new attempt would not be
 * refused, or null to accept it. The wait may take what reading the prompt leaves of the class's target, and half of
 * the target in any case: a prompt that alone takes longer than the target must not be refused for ever.
 *
 * @param percent how much of that wait is tolerated; 0 tolerates any
 */
export function refusal(
  priority: PriorityClass,
  { waitMs, readMs }: Forecast,
  targets: ClassTargets,
  percent: number,
): number | null {
  const { ttftMs } = targets[priority];
  if (percent === 0 || !Number.isFinite(ttftMs)) return null;
  const tolerated = (Math.max(ttftMs - readMs, ttftMs / 2) * percent) / 100;
  return waitMs > tolerated ? waitMs - tolerated : null;
}
