import type { Clock } from '../../kernel/clock.ts';
import type { Uuid } from '../../kernel/ids.ts';
import { namedDocuments, receiptText } from './document.ts';
import type { DocumentStore } from './document-store.ts';
import type { IssuedReceipt, ReceiptIssuer } from './issuer.ts';

/** The pace of signing. */
export interface DeskOptions {
  /** Between two batches: what settles meanwhile is signed together. */
  readonly betweenMs: number;
  /** How long who asks for a receipt waits at most. */
  readonly patienceMs: number;
  /** How often it is looked whether lost processes have left something. */
  readonly lostEveryMs: number;
}

/** Values that suit a server. A batch costs some milliseconds of processor time, so there is one in a second at most. */
export const DESK_DEFAULTS: DeskOptions = { betweenMs: 1_000, patienceMs: 3_000, lostEveryMs: 5_000 };

/** What a desk works with. */
export interface DeskDeps {
  readonly issuer: Pick<ReceiptIssuer, 'issue' | 'issueLost' | 'batchMax'>;
  readonly documents: Pick<DocumentStore, 'published'>;
  readonly clock: Pick<Clock, 'monotonicMs'>;
  /** Resolves after the time, or at once when the signal fires. */
  readonly pause: (ms: number, signal: AbortSignal) => Promise<void>;
  readonly onError: (error: unknown) => void;
}

/**
 * Has receipts signed as requests settle, many at once when many settle, and hands them to who asks. What settles after a pause
 * is signed at once.
 */
export class ReceiptDesk {
  readonly #options: DeskOptions;
  readonly #deps: DeskDeps;
  readonly #waiting = new Map<Uuid, (receipt: IssuedReceipt | null) => void>();
  readonly #closing = new AbortController();
  #running: Promise<void> | null = null;
  #wanted = false;
  #signedMs = Number.NEGATIVE_INFINITY;
  #lostMs = Number.NEGATIVE_INFINITY;

  constructor(options: DeskOptions, dependencies: DeskDeps) {
    this.#options = options;
    this.#deps = dependencies;
  }

  /**
   * Has a request signed that this process has just settled. What it returns waits for the receipt and gives it as the tenant's
   * document, or null when that takes too long; nobody else waits.
   */
  settled(requestId: Uuid): () => Promise<string | null> {
    const issued = new Promise<IssuedReceipt | null>((resolve) => {
      this.#waiting.set(requestId, resolve);
    });
    this.wake();
    return () => this.#textOf(issued);
  }

  /** Has signed what has settled, and now and then what processes that were lost have left. */
  wake(): void {
    this.#wanted = true;
    if (!this.#closing.signal.aborted) this.#running ??= this.#run();
  }

  /** Signs once more what has settled, and stops. */
  async close(): Promise<void> {
    this.#wanted = true;
    this.#closing.abort();
    this.#running ??= this.#run();
    await this.#running;
  }

  async #textOf(issued: Promise<IssuedReceipt | null>): Promise<string | null> {
    const patience = new AbortController();
    const late = this.#deps.pause(this.#options.patienceMs, patience.signal).then(() => null);
    const receipt = await Promise.race([issued, late]);
    patience.abort();
    if (receipt === null) return null;
    try {
      return receiptText(receipt.view(await this.#deps.documents.published(namedDocuments(receipt.opened))));
    } catch (error) {
      this.#deps.onError(error);
      return null;
    }
  }

  async #run(): Promise<void> {
    while (this.#wanted) {
      const left = this.#signedMs + this.#options.betweenMs - this.#deps.clock.monotonicMs();
      if (left > 0 && this.#waiting.size > 0) await this.#deps.pause(left, this.#closing.signal);
      this.#wanted = false;
      try {
        await this.#signWaiting();
        await this.#signLost();
      } catch (error) {
        this.#deps.onError(error);
      }
    }
    this.#running = null;
  }

  async #signWaiting(): Promise<void> {
    const { clock, issuer } = this.#deps;
    const ids = [...this.#waiting.keys()];
    if (ids.length > 0) this.#signedMs = clock.monotonicMs();
    for (let at = 0; at < ids.length; at += issuer.batchMax) {
      const batch = ids.slice(at, at + issuer.batchMax);
      const issued = new Map((await issuer.issue(batch)).map((receipt) => [receipt.requestId, receipt]));
      for (const id of batch) {
        // Without one another process took it for lost, and its receipt is asked for by id.
        this.#waiting.get(id)?.(issued.get(id) ?? null);
        this.#waiting.delete(id);
      }
    }
  }

  async #signLost(): Promise<void> {
    const { clock, issuer } = this.#deps;
    if (clock.monotonicMs() < this.#lostMs + this.#options.lostEveryMs) return;
    this.#lostMs = clock.monotonicMs();
    for (let isFull = true; isFull; ) isFull = (await issuer.issueLost()) === issuer.batchMax;
  }
}
