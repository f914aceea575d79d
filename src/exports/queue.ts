import { mkdir, rename, rm } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import type { Database } from '../db/client.ts';
import type { Clock } from '../kernel/clock.ts';
import { PatchbayError } from '../kernel/errors.ts';
import type { Uuid } from '../kernel/ids.ts';
import { exportPath } from './files.ts';
import {
  type Claim,
  claimExport,
  type ExportSpec,
  finishFailed,
  finishReady,
  releaseClaim,
  renewClaim,
} from './rows.ts';
import type { ExportProgress, WrittenExport } from './write.ts';

/** How exports are written. */
export interface ExportQueueOptions {
  /** Names this process among all that share the database. */
  readonly instanceId: Uuid;
  /** Where files are; shared by all processes of the installation. */
  readonly folder: string;
  /** Exports that this process writes at the same time. */
  readonly concurrency: number;
  /** How long a claim lasts without being renewed. */
  readonly leaseMs: number;
  /** Claims after which an export whose writing never ends has failed. */
  readonly maxAttempts: number;
  /** How often to look for work that no call announced. */
  readonly pollMs: number;
  /** How long a file is kept. */
  readonly keepMs: number;
}

export const DEFAULT_EXPORT_QUEUE: Omit<ExportQueueOptions, 'instanceId' | 'folder' | 'keepMs'> = {
  concurrency: 1,
  leaseMs: 30_000,
  maxAttempts: 5,
  pollMs: 5_000,
};

/** Writes one file; in the server in a thread of its own (thread.ts), because encoding would keep streams waiting. */
export type RunExport = (
  spec: ExportSpec,
  path: string,
  how: { readonly signal: AbortSignal; readonly onProgress: (progress: ExportProgress) => void },
) => Promise<WrittenExport>;

interface ExportQueueDependencies {
  readonly database: Pick<Database, 'querySystem'>;
  readonly clock: Clock;
  readonly run: RunExport;
  readonly onError?: (error: unknown, exportId: Uuid | null) => void;
}

/** Why a writing was ended from outside. */
class Ended extends Error {}

/**
 * Writes exports off the request path. The queue is the table: rows are claimed under a lease, and when this process dies
 * another begins the file anew. It comes to the same bytes, because the range of an export is closed.
 */
export class ExportQueue {
  readonly #options: ExportQueueOptions;
  readonly #deps: ExportQueueDependencies;
  readonly #running = new Set<Promise<void>>();
  readonly #closing = new AbortController();
  #timer: NodeJS.Timeout | undefined;
  #looking = false;
  #lookAgain = false;

  constructor(options: ExportQueueOptions, dependencies: ExportQueueDependencies) {
    this.#options = options;
    this.#deps = dependencies;
  }

  /** Begins to look for work. */
  start(): void {
    this.#timer ??= setInterval(() => this.wake(), this.#options.pollMs);
    this.wake();
  }

  /** Looks for work now. */
  wake(): void {
    if (this.#closing.signal.aborted) return;
    if (this.#looking) {
      this.#lookAgain = true;
      return;
    }
    this.#looking = true;
    this.#look()
      .catch((error: unknown) => this.#deps.onError?.(error, null))
      .finally(() => {
        this.#looking = false;
        if (!this.#lookAgain) return;
        this.#lookAgain = false;
        this.wake();
      });
  }

  /** Stops claiming, gives back what is running, and waits for that. */
  async close(): Promise<void> {
    this.#closing.abort();
    clearInterval(this.#timer);
    await Promise.all(this.#running);
  }

  async #look(): Promise<void> {
    while (!this.#closing.signal.aborted && this.#running.size < this.#options.concurrency) {
      const claim = await claimExport(this.#deps.database, this.#options);
      if (claim === null) return;
      const work: Promise<void> = this.#write(claim)
        .catch((error: unknown) => this.#deps.onError?.(error, claim.exportId))
        .finally(() => {
          this.#running.delete(work);
          this.wake();
        });
      this.#running.add(work);
    }
  }

  async #write(claim: Claim): Promise<void> {
    const { database, onError } = this.#deps;
    const { leaseMs } = this.#options;
    const lost = new AbortController();
    let progress: ExportProgress | null = null;
    const renewal = setInterval(
      () => {
        renewClaim(database, claim, leaseMs, progress)
          .then((held) => {
            if (!held) lost.abort(new Ended('the claim is lost'));
          })
          .catch((error: unknown) => onError?.(error, claim.exportId));
      },
      Math.min(leaseMs / 3, RENEW_MS),
    );
    const signal = AbortSignal.any([lost.signal, this.#closing.signal]);
    try {
      await this.#publish(claim, signal, (now) => {
        progress = now;
      });
    } catch (error) {
      await this.#conclude(claim, error);
    } finally {
      clearInterval(renewal);
    }
  }

  /** Writes the file, gives it its name, and only then says that it is there. */
  async #publish(
    claim: Claim,
    signal: AbortSignal,
    onProgress: (progress: ExportProgress) => void,
  ): Promise<void> {
    const { folder, keepMs, maxAttempts } = this.#options;
    const { exportId, attempts, spec } = claim;
    if (attempts > maxAttempts) throw gaveUp(maxAttempts);
    await mkdir(folder, { recursive: true, mode: 0o700 });
    const part = exportPath(folder, { exportId, attempts, ending: 'part' });
    const file = exportPath(folder, { exportId, attempts, ending: spec.format });
    const written = await this.#deps.run(spec, part, { signal, onProgress });
    await rename(part, file);
    const nowMs = this.#deps.clock.nowMs();
    const times = { finishedAt: new Date(nowMs), expiresAt: new Date(nowMs + keepMs) };
    if (await finishReady(this.#deps.database, claim, written, times)) return;
    await rm(file, { force: true });
  }

  /** Writes down how a claim ended that did not make its export ready. */
  async #conclude(claim: Claim, error: unknown): Promise<void> {
    const { database, clock, onError } = this.#deps;
    const { pollMs: delayMs, maxAttempts } = this.#options;
    const stopping = this.#closing.signal.aborted;
    const transient = error instanceof PatchbayError && error.code === 'DATABASE_UNAVAILABLE';
    if (!stopping && !(error instanceof Ended)) onError?.(error, claim.exportId);
    for (;;) {
      try {
        if (stopping) await releaseClaim(database, claim, { delayMs: 0, counts: false });
        else if (transient) await releaseClaim(database, claim, { delayMs, counts: false });
        else if (claim.attempts < maxAttempts) await releaseClaim(database, claim, { delayMs, counts: true });
        else await finishFailed(database, claim, reasonOf(error, maxAttempts), new Date(clock.nowMs()));
        return;
      } catch (failure) {
        if (!(failure instanceof PatchbayError && failure.code === 'DATABASE_UNAVAILABLE')) throw failure;
        if (this.#closing.signal.aborted) throw failure;
        await delay(delayMs, undefined, { signal: this.#closing.signal }).catch(() => {});
      }
    }
  }
}

/** How often a claim is renewed at least, because that is also when others hear how far it is. */
const RENEW_MS = 1_000;

/** What whoever asked for it is told: what is meant for them, and nothing of what is not. */
function reasonOf(error: unknown, attempts: number): PatchbayError {
  return error instanceof PatchbayError && error.code !== 'INTERNAL' ? error : gaveUp(attempts);
}

function gaveUp(attempts: number): PatchbayError {
  return new PatchbayError('INTERNAL', `The export did not end in ${attempts} attempts.`, {
    fix: 'Ask for it again, for a shorter range; tell the operator if it persists.',
  });
}
