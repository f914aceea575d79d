/** What a step takes, in milliseconds, as a sum over what it does. */
export interface StepCosts {
  /** Every step: reading the weights, building inputs. */
  readonly stepMs: number;
  /** Each row that decodes. */
  readonly decodeRowMs: number;
  /** Each prompt token, or token that is read again after a preemption. */
  readonly prefillTokenMs: number;
  /** Each distinct adapter page. */
  readonly pageMs: number;
  /** Each cached token that attention looks at. */
  readonly contextTokenMs: number;
}

/** What a step does. */
export interface StepWork {
  readonly decodeRows: number;
  readonly prefillTokens: number;
  readonly pages: number;
  readonly contextTokens: number;
}

/**
 * Fitted to `bench engine --backbone synthetic:30m` (docs/operating/benchmarks.md): 16 rows decode at 1,038 tokens/s,
 * with 32 distinct pages at 735, and 1,024 prompt tokens cost 345 ms. The split between step and row is a guess.
 */
export const DEFAULT_STEP_COSTS: StepCosts = {
  stepMs: 7,
  decodeRowMs: 0.5,
  prefillTokenMs: 0.33,
  pageMs: 0.2,
  contextTokenMs: 0.0005,
};

/** Share of the prediction error that one step corrects. */
const LEARNING_RATE = 0.1;
/** Bounds of how far measurements may take a cost from the prior. */
const FACTOR = { least: 1 / 64, most: 64 } as const;
/** Weight of one step in the running mean of step times. */
const RECENT = 0.05;

/** A step's predicted time under given costs, in milliseconds. */
export function stepMs(costs: StepCosts, work: StepWork): number {
  return (
    costs.stepMs +
    costs.decodeRowMs * work.decodeRows +
    costs.prefillTokenMs * work.prefillTokens +
    costs.pageMs * work.pages +
    costs.contextTokenMs * work.contextTokens
  );
}

/**
 * Step costs that follow what is measured, by normalised least mean squares: each step's error is shared among its
 * terms by the square of their size, so a cost is corrected by steps in which it matters and left alone by others.
 */
export class StepCostModel {
  readonly #prior: StepCosts;
  #costs: StepCosts;
  #recentMs: number;
  #measured = false;

  /** @param typical the work of a full step, for predictions before the first measurement */
  constructor(prior: StepCosts, typical: StepWork) {
    this.#prior = prior;
    this.#costs = prior;
    this.#recentMs = stepMs(prior, typical);
  }

  get costs(): StepCosts {
    return this.#costs;
  }

  /** Running mean of the time of a step, in milliseconds. */
  get recentMs(): number {
    return this.#recentMs;
  }

  learn(work: StepWork, measuredMs: number): void {
    const costs = this.#costs;
    const terms = {
      stepMs: costs.stepMs,
      decodeRowMs: costs.decodeRowMs * work.decodeRows,
      prefillTokenMs: costs.prefillTokenMs * work.prefillTokens,
      pageMs: costs.pageMs * work.pages,
      contextTokenMs: costs.contextTokenMs * work.contextTokens,
    };
    const power = Object.values(terms).reduce((sum, term) => sum + term * term, 0);
    const gain = (LEARNING_RATE * (measuredMs - stepMs(costs, work))) / power;
    const corrected = (name: keyof StepCosts): number => {
      const prior = this.#prior[name];
      const next = costs[name] * (1 + gain * terms[name]);
      return Math.min(prior * FACTOR.most, Math.max(prior * FACTOR.least, next));
    };
    this.#costs = {
      stepMs: corrected('stepMs'),
      decodeRowMs: corrected('decodeRowMs'),
      prefillTokenMs: corrected('prefillTokenMs'),
      pageMs: corrected('pageMs'),
      contextTokenMs: corrected('contextTokenMs'),
    };
    this.#recentMs = this.#measured ? this.#recentMs + RECENT * (measuredMs - this.#recentMs) : measuredMs;
    this.#measured = true;
  }
}
