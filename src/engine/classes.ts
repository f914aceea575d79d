import { PRIORITY_CLASSES, type PriorityClass } from '../kernel/priority.ts';
import type { StepCosts } from './cost-model.ts';
import type { SequenceView } from './policy.ts';

/** What a class promises; infinite where it promises nothing. */
export interface ClassTarget {
  /** From arrival to the first token, in milliseconds. */
  readonly ttftMs: number;
  /** Between tokens of a running sequence, in milliseconds. */
  readonly interTokenMs: number;
}

export type ClassTargets = Readonly<Record<PriorityClass, ClassTarget>>;

const NO_TARGET: ClassTarget = { ttftMs: Number.POSITIVE_INFINITY, interTokenMs: Number.POSITIVE_INFINITY };

export const NO_TARGETS: ClassTargets = { INTERACTIVE: NO_TARGET, STANDARD: NO_TARGET, BATCH: NO_TARGET };

/** 0 for the most urgent class. */
export const CLASS_RANK: Readonly<Record<PriorityClass, number>> = {
  INTERACTIVE: PRIORITY_CLASSES.indexOf('INTERACTIVE'),
  STANDARD: PRIORITY_CLASSES.indexOf('STANDARD'),
  BATCH: PRIORITY_CLASSES.indexOf('BATCH'),
};

/** The shape of prefill, for predictions of how long a prompt takes. */
export interface PrefillShape {
  readonly prefillTokensPerStep: number;
  readonly maxBatch: number;
}

/** How long a prompt takes to read beside a full batch of decode rows, in milliseconds. */
export function prefillMs(promptTokens: number, costs: StepCosts, shape: PrefillShape): number {
  const steps = Math.ceil(promptTokens / shape.prefillTokensPerStep);
  return (
    promptTokens * costs.prefillTokenMs + steps * (costs.stepMs + costs.decodeRowMs * (shape.maxBatch - 1))
  );
}

/** A class with somebody waiting. */
export interface WaitingClass {
  /** Who of it would start first. */
  readonly head: SequenceView;
  /** Starts of more urgent classes since one of its own. */
  readonly passed: number;
}

/**
 * The order in which classes may start someone.
 *
 * - *Aging*: a class that was passed `maxBypass` times goes first, whatever the others promise; of two, the one that
 *   was passed more often.
 * - Otherwise the more urgent class goes first, except that a head whose time is running out overtakes one of a more
 *   urgent class that can spare the time (least slack first, where that costs nobody his target). One that is late
 *   already overtakes nobody: it could only make others late too.
 */
export function classOrder<C extends WaitingClass>(
  waiting: readonly C[],
  nowMs: number,
  maxBypass: number,
  costs: StepCosts,
  shape: PrefillShape,
): C[] {
  const order: C[] = [];
  for (const candidate of waiting.toSorted((a, b) => rank(a) - rank(b))) {
    let at = order.length;
    while (at > 0 && overtakes(candidate, order[at - 1], nowMs, maxBypass, costs, shape)) at -= 1;
    order.splice(at, 0, candidate);
  }
  return order;
}

function overtakes(
  candidate: WaitingClass,
  other: WaitingClass | undefined,
  nowMs: number,
  maxBypass: number,
  costs: StepCosts,
  shape: PrefillShape,
): boolean {
  if (other === undefined) return false;
  if (isAged(other, maxBypass)) return candidate.passed > other.passed;
  if (isAged(candidate, maxBypass)) return true;
  const slack = candidate.head.latestStartMs - nowMs;
  const otherSlack = other.head.latestStartMs - nowMs;
  return (
    slack >= 0 && slack < otherSlack && otherSlack >= prefillMs(candidate.head.promptTokens, costs, shape)
  );
}

/** Whether the class must go first because it was passed too often. The most urgent class is never passed. */
export function isAged({ head, passed }: WaitingClass, maxBypass: number): boolean {
  return CLASS_RANK[head.priority] > 0 && passed >= Math.max(1, maxBypass);
}

/** Whether nobody else may start before one of the class does: it went first, did not fit, and was passed as often again. */
export function isOverdue(contender: WaitingClass, maxBypass: number): boolean {
  return isAged(contender, maxBypass) && contender.passed >= 2 * Math.max(1, maxBypass);
}

function rank({ head }: WaitingClass): number {
  return CLASS_RANK[head.priority];
}
