import { z } from 'zod';
import { type Actor, requireOperatorScope } from '../../auth/principal.ts';
import type { Database } from '../../db/client.ts';
import { SQLSTATE, sqlState } from '../../db/errors.ts';
import { hashRequest, runIdempotent } from '../../db/idempotency.ts';
import { PLATFORM_TENANT_ID } from '../../db/platform.ts';
import type { Clock } from '../../kernel/clock.ts';
import { PatchbayError } from '../../kernel/errors.ts';
import type { Uuid } from '../../kernel/ids.ts';
import { auditDenied, type RequestContext, recordAudit } from '../../tenant/audit.ts';
import { FIRST_ID } from './quarantine.ts';

/** Whose proofs are to be erased. */
export interface EraseProofsInput {
  readonly idempotencyKey: string;
  readonly tenantId: Uuid;
}

/** What one call has erased. */
export interface ErasedProofs {
  readonly receipts: bigint;
  /** Salts of the commitments to prompts and answers. */
  readonly salts: bigint;
  readonly accounts: bigint;
}

/** Rows of one transaction. */
const BATCH = 5_000;
/** How long an epoch that is being closed is waited for: about what a hundred thousand leaves take. */
const CLOSE_WAIT_MS = 120_000;

// By the numbers, which have an index by tenants; an index of the views would be paid for by every request that settles.
const ERASE_VIEWS = `
WITH page AS MATERIALIZED (
  SELECT n.kind, n.request_id FROM receipt_number n
  WHERE n.tenant_id = $1 AND (n.kind, n.request_id) > ($2, $3::uuid)
  ORDER BY n.kind, n.request_id LIMIT $4
), gone AS (
  DELETE FROM receipt_view v USING (SELECT DISTINCT p.request_id FROM page p) p
  WHERE v.request_id = p.request_id AND v.tenant_id = $1 RETURNING v.request_id
)
SELECT p.kind, p.request_id, (SELECT count(*) FROM gone)::integer AS gone
FROM page p ORDER BY p.kind DESC, p.request_id DESC LIMIT 1`;

const ERASE_SALTS = `
WITH page AS MATERIALIZED (
  SELECT s.request_id FROM usage_salt s
  WHERE s.tenant_id = $1 AND s.request_id > $2::uuid ORDER BY s.request_id LIMIT $3
), gone AS (
  DELETE FROM usage_salt s USING page p
  WHERE s.request_id = p.request_id AND s.tenant_id = $1 RETURNING s.request_id
)
SELECT p.request_id, (SELECT count(*) FROM gone)::integer AS gone FROM page p ORDER BY p.request_id DESC LIMIT 1`;

const ERASE_ACCOUNTS = `
WITH page AS MATERIALIZED (
  SELECT s.epoch, s.kind, s.subject_id FROM epoch_statement s
  WHERE s.tenant_id = $1 AND s.epoch <= $2::bigint ORDER BY s.epoch, s.kind, s.subject_id LIMIT $3
), gone AS (
  DELETE FROM epoch_statement s USING page p
  WHERE s.tenant_id = $1 AND (s.epoch, s.kind, s.subject_id) = (p.epoch, p.kind, p.subject_id) RETURNING s.epoch
)
SELECT count(*)::integer AS gone FROM gone`;

const done = z.object({});

/**
 * Erases what opens the receipts and accounts of a tenant, those of its own requests and of its adapter versions, and the
 * commitments to its prompts and answers. Nobody can
 * show any more what they are about, and every receipt, inclusion and epoch verifies as before.
 */
export class ProofErasure {
  readonly #deps: { readonly database: Database; readonly clock: Clock };
  readonly #closeWaitMs: number;

  /** @param closeWaitMs how long an epoch that is being closed is waited for */
  constructor(
    dependencies: { readonly database: Database; readonly clock: Clock },
    closeWaitMs: number = CLOSE_WAIT_MS,
  ) {
    this.#deps = dependencies;
    this.#closeWaitMs = closeWaitMs;
  }

  /**
   * Erases in batches, each in a transaction of its own. It is recorded before the first, so that one that was interrupted is
   * known, and done to its end by whoever repeats it. For operators.
   *
   * @throws PatchbayError `EPOCH_CLOSING` when receipts are erased, and accounts will be when it is repeated
   */
  async erase(actor: Actor, input: EraseProofsInput, context: RequestContext = {}): Promise<ErasedProofs> {
    const { tenantId, idempotencyKey } = input;
    const { database, clock } = this.#deps;
    const action = { actor, action: 'proofs.erase', targetType: 'tenant', targetId: tenantId, context };
    await auditDenied(this.#deps, action, () => requireOperatorScope(actor, 'tenants:write'));
    const request = {
      scope: { tenantId: PLATFORM_TENANT_ID, actor: actor.kind },
      operation: 'eraseProofs',
      key: idempotencyKey,
      requestHash: hashRequest({ tenantId }),
    };
    await database.withSystem((tx) =>
      runIdempotent(request, tx, { codec: done, clock }, async () => {
        if ((await tx.tenant.findUnique({ where: { id: tenantId } })) === null) {
          throw new PatchbayError('NOT_FOUND', 'No such tenant is visible to you.', { field: 'tenant' });
        }
        await recordAudit(tx, clock, { ...action, tenantId, after: { erased: true } });
        return {};
      }),
    );
    const receipts = await this.#eraseViews(tenantId);
    const salts = await this.#eraseSalts(tenantId);
    return { receipts, salts, accounts: await this.#eraseAccounts(tenantId) };
  }

  async #eraseSalts(tenantId: Uuid): Promise<bigint> {
    let [erased, requestId] = [0n, FIRST_ID];
    for (;;) {
      const [last] = await this.#deps.database.querySystem<{
        readonly request_id: Uuid;
        readonly gone: number;
      }>(ERASE_SALTS, [tenantId, requestId, BATCH]);
      if (last === undefined) return erased;
      erased += BigInt(last.gone);
      requestId = last.request_id;
    }
  }

  async #eraseViews(tenantId: Uuid): Promise<bigint> {
    let [erased, kind, requestId] = [0n, '', FIRST_ID];
    for (;;) {
      const [last] = await this.#deps.database.querySystem<{
        readonly kind: string;
        readonly request_id: Uuid;
        readonly gone: number;
      }>(ERASE_VIEWS, [tenantId, kind, requestId, BATCH]);
      if (last === undefined) return erased;
      erased += BigInt(last.gone);
      [kind, requestId] = [last.kind, last.request_id];
    }
  }

  /** Accounts of epochs that are closed from now on are not kept if they are about anything that was erased. */
  async #eraseAccounts(tenantId: Uuid): Promise<bigint> {
    const last = await this.#lastEpoch();
    for (let erased = 0n; ; ) {
      const [row] = await this.#deps.database.querySystem<{ readonly gone: number }>(ERASE_ACCOUNTS, [
        tenantId,
        last,
        BATCH,
      ]);
      if (row === undefined || row.gone === 0) return erased;
      erased += BigInt(row.gone);
    }
  }

  /** The last epoch that may have been closed by somebody who had seen what was erased: waits for who is closing one. */
  async #lastEpoch(): Promise<string> {
    try {
      return await this.#deps.database.withSystemPg(async (client) => {
        await client.query(`SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = ${this.#closeWaitMs}`);
        await client.query(`SELECT pg_advisory_xact_lock(hashtextextended('patchbay.epoch_close', 0))`);
        const { rows } = await client.query<{ readonly last: string }>(
          'SELECT coalesce(max(number), 0)::text AS last FROM epoch',
        );
        return rows[0]?.last ?? '0';
      });
    } catch (error) {
      if (sqlState(error) !== SQLSTATE.lockNotAvailable) throw error;
      throw new PatchbayError('EPOCH_CLOSING', 'An epoch is being closed, and takes long.', { cause: error });
    }
  }
}
