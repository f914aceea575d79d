import type { PoolClient } from 'pg';
import type { Database } from '../../db/client.ts';
import type { Clock } from '../../kernel/clock.ts';
import { invariant, PatchbayError } from '../../kernel/errors.ts';
import { canonical } from '../documents.ts';
import { KEEP_KEY } from '../keys/registry.ts';
import type { Query } from '../log/store.ts';
import type { DigestSigner, TreeHead } from '../log/types.ts';
import { epochDigest } from '../typed.ts';
import { sealAccounts, writeAccounts } from './account-store.ts';
import { sha256 } from './commit.ts';
import type { DocumentDigests } from './compare.ts';
import { epochMember, epochText } from './documents.ts';
import { type Examined, type ExamineOptions, examine } from './examine.ts';
import { MISSING_DEFAULTS } from './quarantine.ts';
import { type EpochBefore, epochBefore, headOfEpoch, headWithin, type Pace } from './range.ts';
import type { Epoch } from './types.ts';
import { writeEpoch } from './write.ts';

/** How epochs are closed. */
export interface CloserOptions extends Pace, ExamineOptions {
  readonly logId: Uint8Array;
  /** A record without a leaf is missing so long after its end. */
  readonly missingAfterMs: number;
  /**
   * Most leaves that one epoch quarantines, with those that were missing and that it has, unless it is as short as it can be: a
   * document has to stay readable.
   */
  readonly listedMax: number;
  /** Leaves of an epoch that would list more. */
  readonly shortLeaves: number;
  /** Most epochs that one run closes, so that a run ends. */
  readonly epochsMax: number;
}

/** Values that suit a server. */
export const CLOSER_DEFAULTS = {
  pageLeaves: 1_000,
  missingAfterMs: 600_000,
  listedMax: 16_000,
  shortLeaves: 8_192,
  releasedMax: 8_000,
  differingMax: 2_000,
  missing: MISSING_DEFAULTS,
  epochsMax: 100,
} as const satisfies Omit<CloserOptions, keyof Pace | 'logId'>;

/** What a closer works with. */
export interface CloserDeps {
  readonly database: Pick<Database, 'withSystemPg'>;
  readonly clock: Clock;
  readonly signer: DigestSigner;
  readonly documents: DocumentDigests;
  readonly randomBytes: (size: number) => Buffer;
}

const LOCK = `SELECT pg_try_advisory_xact_lock(hashtextextended('patchbay.epoch_close', 0)) AS locked`;

/**
 * Closes epochs when it is their time. Any number of processes may call it: one closes, and the others find nothing to do. An
 * epoch is one transaction, so that a process that dies leaves everything to the next one. It reads first, statement by
 * statement, and writes in the end: a transaction that has written holds back what follows the outbox, and nothing here may be
 * waited for.
 */
export class EpochCloser {
  readonly #options: CloserOptions;
  readonly #deps: CloserDeps;

  constructor(options: CloserOptions, dependencies: CloserDeps) {
    this.#options = options;
    this.#deps = dependencies;
  }

  /**
   * Closes every epoch whose time has come, or as many as a run may; returns them in order. A signal ends it where it is, and
   * leaves nothing of the epoch that it was closing.
   */
  async run(signal: AbortSignal | null = null): Promise<readonly Epoch[]> {
    const closed: Epoch[] = [];
    while (closed.length < this.#options.epochsMax) {
      const epoch = await this.#deps.database.withSystemPg((client) => this.#next(client, signal));
      if (epoch === null) break;
      closed.push(epoch);
    }
    return closed;
  }

  async #next(client: PoolClient, signal: AbortSignal | null): Promise<Epoch | null> {
    const query: Query = async <R extends Record<string, unknown>>(
      text: string,
      values: readonly unknown[],
    ) => {
      signal?.throwIfAborted();
      return (await client.query<R>(text, [...values])).rows;
    };
    const [lock] = await query<{ readonly locked: boolean }>(LOCK, []);
    if (lock?.locked !== true) return null;
    // Pages are joined with one another, which loops over both would make a square of. Rows of large tables are named by ids, or
    // looked up one by one where it says so.
    await query('SET LOCAL enable_nestloop = off', []);
    // A statement of its own: what the one before committed is seen only by what begins after its lock was gone.
    const before = await epochBefore(query);
    const nowMs = this.#deps.clock.nowMs();
    const head = await headOfEpoch(query, before.size, nowMs, this.#options);
    if (head === null) return null;
    // Before the work rather than after it, where it would be for nothing.
    await this.#requireKeyInUse(query, nowMs);
    return this.#close(query, before, head, nowMs);
  }

  async #close(query: Query, before: EpochBefore, head: TreeHead, nowMs: number): Promise<Epoch> {
    const { logId, listedMax, shortLeaves } = this.#options;
    // Clocks of two servers need not agree, and no epoch looks older than what it is made of.
    const closedAt = new Date(Math.max(nowMs, before.closedAt.getTime(), head.signedAtMs));
    const examined = await this.#examine(query, before, head);
    const leaves = examined.quarantined.filter(({ leaf }) => leaf !== null).length;
    const arrived = examined.released.filter(({ leaf }) => leaf === null).length;
    if (leaves + arrived > listedMax) {
      const shorter = await headWithin(query, before.size, shortLeaves);
      if (shorter !== null && shorter.size < head.size) return this.#close(query, before, shorter, nowMs);
    }
    const number = before.number + 1n;
    const ends = { accounts: examined.accounts.all, number, logId, randomBytes: this.#deps.randomBytes };
    const sealed = await sealAccounts(query, ends);
    const facts = {
      ...{
        number,
        firstSize: before.size,
        size: head.size,
        root: head.root,
        previous: before.digest,
        closedAt,
      },
      accounts: { root: sealed.root, size: sealed.leaves.length },
      receipts: BigInt(head.size - before.size - leaves + examined.released.length - arrived),
      ...{ quarantined: examined.quarantined, released: examined.released },
    };
    const member = epochMember(logId, facts);
    const digest = sha256(canonical(member));
    const signedAt = closedAt.getTime();
    await query(KEEP_KEY, []);
    await this.#requireKeyInUse(query, signedAt);
    const signature = await this.#deps.signer.sign(epochDigest(logId, { number, digest, signedAt }));
    const document = epochText(logId, member, head, { signedAt, signature });
    const { scannedUntil, comparedUntil } = examined;
    await writeEpoch(query, { ...facts, digest, document, scannedUntil, comparedUntil });
    await writeAccounts(query, number, sealed);
    const { firstSize, size, root, previous } = facts;
    return { number, firstSize, size, root, digest, previous, closedAt };
  }

  async #examine(query: Query, before: EpochBefore, head: TreeHead): Promise<Examined> {
    const { logId, missingAfterMs } = this.#options;
    // Records are dated by the database, whose clock need not agree with the server's.
    const [time] = await query<{ readonly before: Date }>(
      `SELECT now() - $1 * interval '1 millisecond' AS before`,
      [missingAfterMs],
    );
    invariant(time, 'the database tells the time');
    const missingBefore = time.before;
    return examine(
      { query, documents: this.#deps.documents, logId },
      { start: before.size, end: head.size, missingBefore },
      this.#options,
    );
  }

  /** A server that goes on after its key was replaced, or whose clock is behind, closes nothing that nobody would accept. */
  async #requireKeyInUse(query: Query, signedAt: number): Promise<void> {
    const [key] = await query<{ readonly address: string; readonly valid_from: string }>(
      'SELECT address, valid_from FROM proof_key ORDER BY position DESC LIMIT 1',
      [],
    );
    invariant(key, 'the deployment has a key');
    const { address } = this.#deps.signer;
    const isValid = Number(key.valid_from) <= signedAt;
    if (key.address === address && isValid) return;
    const meta = { address, inUse: key.address, validFrom: key.valid_from };
    const message = isValid
      ? `The key ${address} is not the one in use, ${key.address}.`
      : `The key ${key.address} is valid from ${new Date(Number(key.valid_from)).toISOString()}, and this server's clock is behind.`;
    throw new PatchbayError('PROOF_KEY_UNKNOWN', message, { meta });
  }
}
