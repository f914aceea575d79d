import { ClaimQueue } from '../db/claim-queue.ts';
import type { Database } from '../db/client.ts';
import { SQLSTATE, sqlState } from '../db/errors.ts';
import type { Clock } from '../kernel/clock.ts';
import { PatchbayError } from '../kernel/errors.ts';
import type { Uuid } from '../kernel/ids.ts';
import {
  checkReceived,
  isTransient,
  isVerdict,
  proveEffect,
  storeReceived,
  unstore,
  type ValidationTools,
} from './validate.ts';
import {
  type Claim,
  claimVersion,
  duplicateOf,
  finishReady,
  finishRejected,
  releaseClaim,
  renewClaim,
  tenantHasDigest,
} from './validation-rows.ts';

/** How validation is run. */
export interface ValidationOptions {
  /** Names this process among all that share the database. */
  readonly instanceId: Uuid;
  /** Versions validated at the same time. */
  readonly concurrency: number;
  /** How long a claim lasts without being renewed. */
  readonly leaseMs: number;
  /**
   * Claims after which a version whose validation never ends is rejected: those whose process died or that failed for
   * an unknown reason. A full or stopping engine and a database that does not answer cost no attempt.
   */
  readonly maxAttempts: number;
  /** How often to look for work that no notification announced. */
  readonly pollMs: number;
}

export const DEFAULT_VALIDATION: Omit<ValidationOptions, 'instanceId'> = {
  concurrency: 2,
  leaseMs: 30_000,
  maxAttempts: 5,
  pollMs: 5_000,
};

/** What validation needs besides {@link ValidationTools}. */
interface ValidationDependencies extends ValidationTools {
  readonly database: Database;
  readonly clock: Clock;
  readonly onError?: (error: unknown, versionId: Uuid | null) => void;
}

/**
 * Validates versions off the request path. The queue is the table: rows in VALIDATING, claimed under a lease, so that
 * another process takes over when this one dies. Every step can be repeated.
 */
export class ValidationQueue {
  readonly #options: ValidationOptions;
  readonly #deps: ValidationDependencies;
  readonly #queue: ClaimQueue<Claim>;

  constructor(options: ValidationOptions, dependencies: ValidationDependencies) {
    this.#options = options;
    this.#deps = dependencies;
    const { database, context, onError } = dependencies;
    const { concurrency, pollMs, leaseMs } = options;
    this.#queue = new ClaimQueue(
      { concurrency, pollMs, renewMs: leaseMs / 3 },
      {
        claim: () => claimVersion(database, options, context.backboneDigest),
        renew: (claim) => renewClaim(database, claim, leaseMs),
        run: (claim) => this.#judge(claim),
        conclude: (claim, error) => this.#conclude(claim, error),
        onError: (error, claim) => onError?.(error, claim?.versionId ?? null),
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

  /** Stops claiming and waits for what is running. */
  close(): Promise<void> {
    return this.#queue.close();
  }

  /** Writes down how a claim ended that did not make its version ready. */
  #conclude(claim: Claim, error: unknown): () => Promise<void> {
    const { database, onError } = this.#deps;
    const { pollMs: delayMs, maxAttempts } = this.#options;
    if (isVerdict(error)) return () => finishRejected(database, claim, error);
    onError?.(error, claim.versionId);
    if (isTransient(error)) return () => releaseClaim(database, claim, { delayMs, counts: false });
    if (claim.attempts < maxAttempts) return () => releaseClaim(database, claim, { delayMs, counts: true });
    return () => finishRejected(database, claim, gaveUp(claim.attempts));
  }

  /** Throws a verdict, or another error that says nothing about the files. */
  async #judge(claim: Claim): Promise<void> {
    const { database, clock, store } = this.#deps;
    if (claim.attempts > this.#options.maxAttempts) throw gaveUp(claim.attempts - 1);
    const { digest, summary } = await checkReceived(this.#deps, claim.files);
    const version = { digest, tenantId: claim.tenantId };
    const twin = await duplicateOf(database, claim, digest);
    if (twin !== null) throw duplicate(twin);
    await storeReceived(this.#deps, claim.files, version);
    try {
      await proveEffect(this.#deps, digest);
      await finishReady(database, claim, { digest, summary, readyAt: new Date(clock.nowMs()) });
    } catch (error) {
      if (sqlState(error) === SQLSTATE.uniqueViolation)
        throw duplicate((await duplicateOf(database, claim, digest)) ?? 0);
      // The owner's other adapters may hold the same content; their copy is this one.
      if (isVerdict(error) && !(await tenantHasDigest(database, version))) await unstore(store, version);
      throw error;
    }
  }
}

function duplicate(number: number): PatchbayError {
  return new PatchbayError('ADAPTER_DUPLICATE', `Version ${number} of this adapter has the same weights.`, {
    fix: `Use version ${number}.`,
  });
}

function gaveUp(attempts: number): PatchbayError {
  return new PatchbayError('INTERNAL', `The validation did not end in ${attempts} attempts.`, {
    fix: 'Upload the adapter again; tell the operator if it persists.',
  });
}
