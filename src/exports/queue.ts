import { mkdir, rename, rm } from 'node:fs/promises';
import { ClaimLost, ClaimQueue } from '../db/claim-queue.ts';
import type { Database } from '../db/client.ts';
import type { Clock } from '../kernel/clock.ts';
import { PatchbayError } from '../kernel/errors.ts';
import type { Uuid } from '../kernel/ids.ts';
import type { Checkpoint, Resume } from './checkpoint.ts';
import {
  type Claim,
  claimExport,
  finishFailed,
  finishReady,
  releaseClaim,
  renewClaim,
  saveCheckpoint,
} from './claims.ts';
import { exportPath } from './files.ts';
import type { ExportSpec } from './rows.ts';
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

/** What a file is written with, besides what it holds and where it is. */
export interface RunOptions {
  readonly signal: AbortSignal;
  readonly onProgress: (progress: ExportProgress) => void;
  readonly onCheckpoint: (checkpoint: Checkpoint) => void;
  readonly resume: Resume | null;
}

/** Writes one file; in the server in a thread of its own (thread.ts), because encoding would keep streams waiting. */
export type RunExport = (spec: ExportSpec, path: string, how: RunOptions) => Promise<WrittenExport>;

interface ExportQueueDependencies {
  readonly database: Pick<Database, 'querySystem'>;
  readonly clock: Clock;
  readonly run: RunExport;
  readonly onError?: (error: unknown, exportId: Uuid | null) => void;
}

/** A claim, and how far it is. */
interface Writing {
  readonly claim: Claim;
  progress: ExportProgress | null;
  /** What is to be saved yet. */
  checkpoint: Checkpoint | null;
}

/**
 * Writes exports off the request path. The queue is the table: rows are claimed under a lease, and when this process dies
 * another goes on where the file is known to be on the disk. It comes to the same bytes, because the range of an export is
 * closed.
 */
export class ExportQueue {
  readonly #options: ExportQueueOptions;
  readonly #deps: ExportQueueDependencies;
  readonly #queue: ClaimQueue<Writing>;

  constructor(options: ExportQueueOptions, dependencies: ExportQueueDependencies) {
    this.#options = options;
    this.#deps = dependencies;
    const { concurrency, pollMs, leaseMs } = options;
    const { database, onError } = dependencies;
    this.#queue = new ClaimQueue(
      { concurrency, pollMs, renewMs: Math.min(leaseMs / 3, RENEW_MS) },
      {
        async claim() {
          const claim = await claimExport(database, options);
          return claim && { claim, progress: null, checkpoint: null };
        },
        renew: (writing) => this.#renew(writing),
        run: (writing, signal) => this.#publish(writing, signal),
        conclude: (writing, error) => this.#conclude(writing, error),
        onError: (error, writing) => onError?.(error, writing?.claim.exportId ?? null),
      },
    );
  }

  /** Begins to look for work. */
  start(): void {
    this.#queue.start();
  }

  /** Looks for work now. */
  wake(): void {
    this.#queue.wake();
  }

  /** Stops claiming, gives back what is running, and waits for that. */
  close(): Promise<void> {
    return this.#queue.close();
  }

  async #renew(writing: Writing): Promise<boolean> {
    const { database } = this.#deps;
    const held = await renewClaim(database, writing.claim, this.#options.leaseMs, writing.progress);
    if (held) await this.#save(writing);
    return held;
  }

  async #save(writing: Writing): Promise<void> {
    const { claim, checkpoint } = writing;
    if (checkpoint === null) return;
    await saveCheckpoint(this.#deps.database, claim, checkpoint);
    if (writing.checkpoint === checkpoint) writing.checkpoint = null;
  }

  /** Writes the file, gives it its name, and only then says that it is there. */
  async #publish(writing: Writing, signal: AbortSignal): Promise<void> {
    const { folder, keepMs, maxAttempts } = this.#options;
    const { exportId, attempts, number, spec, reached } = writing.claim;
    if (attempts > maxAttempts) throw gaveUp(maxAttempts);
    await mkdir(folder, { recursive: true, mode: 0o700 });
    const part = exportPath(folder, { exportId, claim: number, ending: 'part' });
    const file = exportPath(folder, { exportId, claim: number, ending: spec.format });
    const written = await this.#deps.run(spec, part, {
      signal,
      onProgress: (progress) => {
        writing.progress = progress;
      },
      onCheckpoint: (checkpoint) => {
        writing.checkpoint = checkpoint;
      },
      resume: reached && {
        path: exportPath(folder, { exportId, claim: reached.claim, ending: 'part' }),
        checkpoint: reached.checkpoint,
      },
    });
    await rename(part, file);
    const nowMs = this.#deps.clock.nowMs();
    const times = { finishedAt: new Date(nowMs), expiresAt: new Date(nowMs + keepMs) };
    if (await finishReady(this.#deps.database, writing.claim, written, times)) return;
    await rm(file, { force: true });
  }

  /** Writes down how a claim ended that did not make its export ready. */
  #conclude(writing: Writing, error: unknown): () => Promise<void> {
    const { database, clock, onError } = this.#deps;
    const { pollMs: delayMs, maxAttempts } = this.#options;
    const { claim } = writing;
    const stopping = this.#queue.closing;
    const away = error instanceof PatchbayError && error.code === 'DATABASE_UNAVAILABLE';
    if (!stopping && !(error instanceof ClaimLost)) onError?.(error, claim.exportId);
    if (stopping || away) {
      return async () => {
        await this.#save(writing);
        await releaseClaim(database, claim, { delayMs: stopping ? 0 : delayMs, counts: false });
      };
    }
    if (claim.attempts < maxAttempts) return () => releaseClaim(database, claim, { delayMs, counts: true });
    return () => finishFailed(database, claim, reasonOf(error, maxAttempts), new Date(clock.nowMs()));
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
