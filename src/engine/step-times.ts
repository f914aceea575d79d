import type { EngineStatus } from './port.ts';

export type StepTimes = EngineStatus['stepMs'];

const PARTS = ['total', 'model', 'adapter', 'host'] as const;

/** A ring of the most recent steps' times, in milliseconds. */
export class RecentSteps {
  readonly #capacity: number;
  readonly #ring: StepTimes[] = [];
  #next = 0;

  constructor(capacity: number) {
    this.#capacity = capacity;
  }

  add(times: StepTimes): void {
    this.#ring[this.#next] = times;
    this.#next = (this.#next + 1) % this.#capacity;
  }

  /** Lower medians of each part; zeros before the first step. */
  medians(): StepTimes {
    const medians = { total: 0, model: 0, adapter: 0, host: 0 };
    for (const part of PARTS) {
      const sorted = this.#ring.map((times) => times[part]).sort((a, b) => a - b);
      medians[part] = sorted[(sorted.length - 1) >> 1] ?? 0;
    }
    return medians;
  }
}
