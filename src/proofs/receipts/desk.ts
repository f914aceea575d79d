import type { Clock } from '../../kernel/clock.ts';
import type { Uuid } from '../../kernel/ids.ts';
import { namedDocuments, receiptText } from './document.ts';
import type { DocumentStore } from './document-store.ts';
import type { IssuedReceipt, ReceiptIssuer } from './issuer.ts';

/** The pace of signing. */
export interface DeskOptions {
  /** Between two batches: what settles meanwhile is signed together. */
  readonly betweenMs: number;
  /** How long who waits for a receipt waits at most. */
  readonly patienceMs: number;
}

/** Values that suit a server: at most ten signatures in a second, of a millisecond each. */
export const DESK_DEFAULTS: DeskOptions = { betweenMs: 100, patienceMs: 2_000 };

/** What a desk works with. */
export interface DeskDeps {
  readonly issuer: Pick<ReceiptIssuer, 'issue' | 'batchMax'>;
  readonly documents: Pick<DocumentStore, 'published'>;
  readonly clock: Pick<Clock, 'monotonicMs'>;
  /** Resolves after the time, or at once when the signal fires. */
  readonly pause: (ms: number, signal: AbortSignal) => Promise<void>;
  readonly onError: (error: unknown) => void;
}

/** Has receipts signed as requests settle, many at once when many settle, and hands them to who waits. */
export class ReceiptDesk {
  readonly #options: DeskOptions;
  readonly #deps: DeskDeps;
  readonly #waiting = new Map<Uuid, (receipt: IssuedReceipt) => void>();
  readonly #closing = new AbortController();
  #running: Promise<void> | null = null;
  #wanted = false;
  #lastMs = Number.NEGATIVE_INFINITY;

  constructor(options: DeskOptions, dependencies: DeskDeps) {
    this.#options = options;
    this.#deps = dependencies;
  }

  /**
   * The receipt of a request that this process has just settled, as the tenant's document; null when it is not there in
   * time, because signing fails or another process took it. It can be asked for later.
   */
  async receiptOf(requestId: Uuid): Promise<string | null> {
    const patience = new AbortController();
    const issued = new Promise<IssuedReceipt>((resolve) => {
      this.#waiting.set(requestId, resolve);
    });
    this.wake();
    const late = this.#deps.pause(this.#options.patienceMs, patience.signal).then(() => null);
    const receipt = await Promise.race([issued, late]);
    patience.abort();
    this.#waiting.delete(requestId);
    if (receipt === null) return null;
    try {
      return receiptText(receipt.view(await this.#deps.documents.published(namedDocuments(receipt.opened))));
    } catch (error) {
      this.#deps.onError(error);
      return null;
    }
  }

  /** Has signed what somebody waits for, and what processes that were lost have left. */
  wake(): void {
    this.#wanted = true;
    if (!this.#closing.signal.aborted) this.#running ??= this.#run();
  }

  /** Signs once more what is waited for, and stops. */
  async close(): Promise<void> {
    this.#wanted = true;
    this.#running ??= this.#run();
    this.#closing.abort();
    await this.#running;
  }

  async #run(): Promise<void> {
    while (this.#wanted) {
      const { clock } = this.#deps;
      const left = this.#lastMs + this.#options.betweenMs - clock.monotonicMs();
      if (left > 0) await this.#deps.pause(left, this.#closing.signal);
      this.#wanted = false;
      this.#lastMs = clock.monotonicMs();
      try {
        const { issuer } = this.#deps;
        for (let isFull = true; isFull; ) {
          const batch = await issuer.issue([...this.#waiting.keys()]);
          for (const receipt of batch) this.#waiting.get(receipt.requestId)?.(receipt);
          isFull = batch.length === issuer.batchMax;
        }
      } catch (error) {
        this.#deps.onError(error);
      }
    }
    this.#running = null;
  }
}
