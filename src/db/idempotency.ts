import { createHash } from 'node:crypto';
import { z } from 'zod';
import type { Clock } from '../kernel/clock.ts';
import { PatchbayError } from '../kernel/errors.ts';
import type { Uuid } from '../kernel/ids.ts';
import { canonicalJson, type Json } from '../kernel/json.ts';
import type { Database, Tx } from './client.ts';
import { SQLSTATE, sqlState } from './errors.ts';
import { seal, unseal } from './seal.ts';

export type { Json };

/** Which operation must not happen twice. */
export interface IdempotencyRequest {
  /** Whose record it is: the tenant that the transaction is of, and who acts. */
  readonly scope: { readonly tenantId: Uuid; readonly actor: 'TENANT' | 'OPERATOR' | 'SYSTEM' };
  /** Name of the operation, such as `createApiKey`. */
  readonly operation: string;
  /** The client's key, 1 to 200 characters. */
  readonly key: string;
  /** {@link hashRequest} of the arguments. */
  readonly requestHash: Uint8Array<ArrayBuffer>;
}

/** How answers are kept. */
export interface IdempotencyOptions<T extends Json> {
  /** Reads an answer back; it must accept what `work` returns. */
  readonly codec: z.ZodType<T>;
  readonly clock: Clock;
  /** When the answer holds a secret that is shown once: the pepper to seal it with (see seal.ts). */
  readonly sealWith?: string;
  /** How long to wait for the same operation running elsewhere before IDEMPOTENCY_IN_PROGRESS. */
  readonly waitMs?: number;
}

const KEY_CHARS_MAX = 200;
const WAIT_MS = 5_000;
const sealedAnswer = z.object({ sealed: z.string() });

interface StoredRow {
  readonly request_hash: Uint8Array;
  readonly state: string;
  readonly response: unknown;
}

/** SHA-256 over the arguments, independent of the order of their names. */
export function hashRequest(args: Json): Uint8Array<ArrayBuffer> {
  return sha256(canonicalJson(args));
}

function sha256(text: string): Uint8Array<ArrayBuffer> {
  return new Uint8Array(createHash('sha256').update(text).digest());
}

/**
 * Runs the work unless the same operation was done before, and answers what it answered then. The record commits
 * or rolls back with the work's own effects, because both use the caller's transaction. A duplicate that runs at
 * the same time waits for the first: the unique key makes the database queue them. Work that throws leaves no
 * record, so a retry runs it again.
 */
export async function runIdempotent<T extends Json>(
  request: IdempotencyRequest,
  tx: Tx,
  options: IdempotencyOptions<T>,
  work: () => Promise<T>,
): Promise<{ readonly value: T; readonly replayed: boolean }> {
  if (request.key.length < 1 || request.key.length > KEY_CHARS_MAX) {
    throw new PatchbayError('BAD_INPUT', `The idempotency key must have 1 to ${KEY_CHARS_MAX} characters.`, {
      field: 'idempotencyKey',
    });
  }
  const keyHash = sha256(request.key);
  if (!(await claim(request, keyHash, tx, options))) {
    return { value: await replay(request, keyHash, tx, options), replayed: true };
  }
  const value = await work();
  const { tenantId, actor } = request.scope;
  const response = JSON.stringify(
    options.sealWith === undefined
      ? value
      : { sealed: seal(options.sealWith, context(request), JSON.stringify(value)) },
  );
  await tx.$executeRaw`
    UPDATE idempotency_key SET state = 'DONE', response = ${response}::jsonb
    WHERE tenant_id = ${tenantId}::uuid AND scope = ${actor} AND operation = ${request.operation}
      AND key_hash = ${keyHash}`;
  return { value, replayed: false };
}

/** Inserts the record; false when it exists. Blocks while another transaction holds the same record uncommitted. */
async function claim(
  request: IdempotencyRequest,
  keyHash: Uint8Array<ArrayBuffer>,
  tx: Tx,
  options: { readonly clock: Clock; readonly waitMs?: number },
): Promise<boolean> {
  const { tenantId, actor } = request.scope;
  const createdAt = new Date(options.clock.nowMs());
  await tx.$queryRaw`SELECT set_config('lock_timeout', ${String(options.waitMs ?? WAIT_MS)}, true)`;
  try {
    const inserted = await tx.$executeRaw`
      INSERT INTO idempotency_key (tenant_id, scope, operation, key_hash, request_hash, created_at)
      VALUES (${tenantId}::uuid, ${actor}, ${request.operation}, ${keyHash}, ${request.requestHash}, ${createdAt})
      ON CONFLICT DO NOTHING`;
    await tx.$queryRaw`SELECT set_config('lock_timeout', '0', true)`;
    return inserted === 1;
  } catch (error) {
    if (sqlState(error) !== SQLSTATE.lockNotAvailable) throw error;
    throw new PatchbayError(
      'IDEMPOTENCY_IN_PROGRESS',
      'An operation with this idempotency key is still running.',
      { cause: error },
    );
  }
}

async function replay<T extends Json>(
  request: IdempotencyRequest,
  keyHash: Uint8Array<ArrayBuffer>,
  tx: Tx,
  options: IdempotencyOptions<T>,
): Promise<T> {
  const { tenantId, actor } = request.scope;
  const rows = await tx.$queryRaw<StoredRow[]>`
    SELECT request_hash, state::text AS state, response FROM idempotency_key
    WHERE tenant_id = ${tenantId}::uuid AND scope = ${actor} AND operation = ${request.operation}
      AND key_hash = ${keyHash}`;
  const stored = rows[0];
  // A record that was purged between the two statements, or one that a multi-step operation has yet to finish.
  if (stored === undefined || stored.state !== 'DONE') {
    throw new PatchbayError(
      'IDEMPOTENCY_IN_PROGRESS',
      'An operation with this idempotency key is still running.',
    );
  }
  if (!Buffer.from(stored.request_hash).equals(request.requestHash)) {
    throw new PatchbayError(
      'IDEMPOTENCY_CONFLICT',
      'The idempotency key was used before with other arguments.',
      {
        field: 'idempotencyKey',
      },
    );
  }
  if (options.sealWith === undefined) return options.codec.parse(stored.response);
  const { sealed } = sealedAnswer.parse(stored.response);
  return options.codec.parse(JSON.parse(unseal(options.sealWith, context(request), sealed)));
}

function context({ scope, operation, key }: IdempotencyRequest): string {
  return JSON.stringify(['idempotency', scope.tenantId, scope.actor, operation, key]);
}

/** Removes records created before the time and answers how many. A retry after that runs the operation again. */
export async function purgeIdempotencyKeys(database: Database, beforeMs: number): Promise<number> {
  return database.withSystem(async (tx) => {
    const { count } = await tx.idempotencyKey.deleteMany({
      where: { createdAt: { lt: new Date(beforeMs) } },
    });
    return count;
  });
}
