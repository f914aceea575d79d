import { PatchbayError } from '../kernel/errors.ts';

export interface QueueLimits {
  /** Most sequences that have not started. */
  readonly maxQueue: number;
  /** How many a tenant may have waiting for each place that is free; 0 is no limit. */
  readonly queueShare: number;
}

/**
 * Places of the queue, by tenant. With a share, a tenant gets no further place when it has more than so many times the
 * places that are left (Choudhury and Hahne, _Dynamic Queue Length Thresholds_, 1998): one flood leaves half of the
 * queue free with a share of 1, two leave a third, so that those who send little always find a place.
 */
export class QueuePlaces {
  readonly #limits: QueueLimits;
  readonly #taken = new Map<string, number>();
  #total = 0;

  constructor(limits: QueueLimits) {
    this.#limits = limits;
  }

  get full(): boolean {
    return this.#total >= this.#limits.maxQueue;
  }

  /** @throws PatchbayError `ENGINE_FULL` if there is no place for the tenant */
  take(tenantId: string): void {
    const { maxQueue, queueShare } = this.#limits;
    const own = this.#taken.get(tenantId) ?? 0;
    if (this.full || (queueShare > 0 && own > queueShare * (maxQueue - this.#total))) {
      throw new PatchbayError(
        'ENGINE_FULL',
        this.full ? 'The queue of the engine is full.' : 'The tenant has its share of the queue.',
        { meta: { maxQueue } },
      );
    }
    this.#taken.set(tenantId, own + 1);
    this.#total += 1;
  }

  leave(tenantId: string): void {
    const own = this.#taken.get(tenantId) ?? 0;
    if (own > 1) this.#taken.set(tenantId, own - 1);
    else this.#taken.delete(tenantId);
    this.#total -= 1;
  }
}
