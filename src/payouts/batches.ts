import { z } from 'zod';
import { type Actor, requireOperatorScope, SYSTEM_ACTOR } from '../auth/principal.ts';
import type { Tx } from '../db/client.ts';
import { hashRequest, runIdempotent } from '../db/idempotency.ts';
import { keyset, type Page, type PageRequest, toPage } from '../db/page.ts';
import { PLATFORM_TENANT_ID } from '../db/platform.ts';
import { PatchbayError } from '../kernel/errors.ts';
import { newId, type Uuid } from '../kernel/ids.ts';
import { auditDenied, type DeniedEntry, type RequestContext, recordAudit } from '../tenant/audit.ts';
import { cutOff, requireSecondPerson } from './batch-rules.ts';
import { draftPayouts, leastPayable, readCandidates } from './draft.ts';
import { holdPayouts, resolvePayouts } from './money.ts';
import { operatorKey, wrongState } from './operator.ts';
import { type PayoutRail, type RailKind, requireRail } from './rail.ts';
import { requireEarningsAgree } from './reconciled.ts';
import { bytes, toBatch } from './rows.ts';
import { lockBatches, settleBatches } from './settle.ts';
import { finishSubmission, readOrder } from './submission.ts';
import type {
  BatchState,
  Expiry,
  FailedBatch,
  PayoutBatch,
  PayoutDeps,
  PayoutOptions,
  Resumption,
} from './types.ts';

/** What an operator wants to be paid. */
export interface CreateBatchInput {
  readonly idempotencyKey: string;
  readonly currency: string;
  /** What was posted before this time is paid; null for all that is past the holdback window. */
  readonly earnedBefore: Date | null;
  /** Those are paid whose destination is of this kind; left out: by a bank. */
  readonly rail?: RailKind;
}

/** What a step of a batch takes down. */
interface Progress {
  readonly state: BatchState;
  readonly approvedBy?: Uuid;
  readonly approvedAt?: Date;
  readonly submittingAt?: Date | null;
  readonly closedAt?: Date;
}

const answer = z.object({ batchId: z.string() });

/** Batches of payouts, from the draft until they are handed over. For operators. */
export class PayoutBatchService {
  readonly #options: PayoutOptions;
  readonly #deps: PayoutDeps;

  constructor(options: PayoutOptions, dependencies: PayoutDeps) {
    this.#options = options;
    this.#deps = dependencies;
  }

  /** Drafts a batch of everything that can be paid, and holds it. */
  async create(actor: Actor, input: CreateBatchInput, context: RequestContext = {}): Promise<PayoutBatch> {
    const { clock, database } = this.#deps;
    const { currency } = input;
    const action = this.#action(actor, 'create', null, context);
    await auditDenied(this.#deps, action, () => void operatorKey(actor));
    const kind = input.rail ?? 'FILE';
    const rail = requireRail(this.#deps.rails, kind);
    const args = {
      ...{ currency, earnedBefore: input.earnedBefore?.toISOString() ?? null },
      // A request that is repeated from before there were several stays the same.
      ...(kind === 'FILE' ? {} : { rail: kind }),
    };
    const request = {
      scope: { tenantId: PLATFORM_TENANT_ID, actor: actor.kind },
      operation: 'createPayoutBatch',
      key: input.idempotencyKey,
      requestHash: hashRequest(args),
    };
    return database.withSystem(async (tx) => {
      const { value } = await runIdempotent(request, tx, { codec: answer, clock }, async () => {
        const batch = await this.#draft(tx, actor, input, rail);
        const { id, payoutCount, totalNano, earnedBefore, needsSecondPerson } = batch;
        const after = {
          ...{ currency, rail: rail.kind, payoutCount, needsSecondPerson },
          ...{ totalNano: String(totalNano), earnedBefore: earnedBefore.toISOString() },
        };
        await recordAudit(tx, clock, { ...action, targetId: id, tenantId: PLATFORM_TENANT_ID, after });
        return { batchId: id };
      });
      return this.#mustGet(tx, value.batchId);
    });
  }

  /** Approves a draft. Above the limit this is for another operator than who drafted it; the database sees to that too. */
  async approve(actor: Actor, batchId: Uuid, context: RequestContext = {}): Promise<PayoutBatch> {
    const { clock, database } = this.#deps;
    const action = this.#action(actor, 'approve', batchId, context);
    await auditDenied(this.#deps, action, () => void operatorKey(actor));
    const key = operatorKey(actor);
    const isDrafter = await database.withSystem((tx) => this.#isDrafterOfLarge(tx, batchId, key));
    await auditDenied(this.#deps, action, () => requireSecondPerson(isDrafter));
    await requireEarningsAgree(database, batchId);
    await this.#requireRailAgrees(batchId);
    return database.withSystem(async (tx) => {
      const batch = await this.#lock(tx, batchId);
      if (batch.state === 'DRAFT') {
        const approvedAt = new Date(clock.nowMs());
        await this.#change(tx, action, batch, { state: 'APPROVED', approvedBy: key, approvedAt });
      } else if (batch.approvedBy !== key || batch.state === 'CANCELLED') {
        throw wrongState('batch', batch.state, 'Only a draft is approved; read the batch first.', 'batch');
      }
      return this.#mustGet(tx, batchId);
    });
  }

  /**
   * Ends a batch that was not handed over, and releases what it holds. One that is being handed over is ended only where the
   * rail can say that it has not taken it.
   */
  async cancel(actor: Actor, batchId: Uuid, context: RequestContext = {}): Promise<PayoutBatch> {
    const { database } = this.#deps;
    const action = this.#action(actor, 'cancel', batchId, context);
    await auditDenied(this.#deps, action, () => void operatorKey(actor));
    return database.withSystem(async (tx) => {
      const batch = await this.#lock(tx, batchId);
      if (batch.state === 'CANCELLED') return batch;
      if (!(await this.#isFree(batch))) {
        throw wrongState(
          'batch',
          batch.state,
          'What was handed over may be paid; import its results.',
          'batch',
        );
      }
      await this.#cancel(tx, action, batch);
      return this.#mustGet(tx, batchId);
    });
  }

  /** Cancels the batches that nobody has handed over for so long that they are forgotten. One that fails stops no other. */
  async expire(): Promise<Expiry> {
    const { clock, database } = this.#deps;
    const before = new Date(clock.nowMs() - this.#options.draftTtlMs);
    const where = { state: { in: ['DRAFT', 'APPROVED'] }, createdAt: { lt: before } };
    const rows = await database.withSystem((tx) =>
      tx.payoutBatch.findMany({ where, select: { id: true }, orderBy: { id: 'asc' } }),
    );
    const expired: PayoutBatch[] = [];
    const failed = await eachBatch(rows, async (id) => {
      const batch = await database.withSystem(async (tx) => {
        const found = await this.#lock(tx, id);
        if (found.state !== 'DRAFT' && found.state !== 'APPROVED') return null;
        await this.#cancel(tx, this.#action(SYSTEM_ACTOR, 'expire', id, {}), found);
        return this.#mustGet(tx, id);
      });
      if (batch !== null) expired.push(batch);
    });
    return { expired, failed };
  }

  /**
   * Hands a batch to the rail. From the first step on its payments count as possibly made. When anything fails in between,
   * the same call goes on where it stopped: the rail knows the batch again.
   */
  async submit(actor: Actor, batchId: Uuid, context: RequestContext = {}): Promise<PayoutBatch> {
    const { clock, database } = this.#deps;
    const action = this.#action(actor, 'submit', batchId, context);
    await auditDenied(this.#deps, action, () => void operatorKey(actor));
    await this.#requireRailTakes(batchId);
    const begun = await database.withSystem(async (tx) => {
      const batch = await this.#lock(tx, batchId);
      if (batch.state === 'DRAFT' || batch.state === 'CANCELLED') {
        throw wrongState('batch', batch.state, 'Only an approved batch is handed over.', 'batch');
      }
      if (batch.state === 'APPROVED') {
        const at = new Date(clock.nowMs());
        await this.#change(tx, action, batch, { state: 'SUBMITTING', submittingAt: at });
        await tx.payout.updateMany({ where: { batchId }, data: { state: 'SENDING', stateChangedAt: at } });
      }
      return this.#mustGet(tx, batchId);
    });
    return begun.state === 'SUBMITTING' ? this.#handOver(batchId) : begun;
  }

  /** Goes on with every batch whose process was lost while it handed it over. One that fails stops no other. */
  async resume(): Promise<Resumption> {
    const { database } = this.#deps;
    const rows = await database.withSystem((tx) =>
      tx.payoutBatch.findMany({
        where: { state: 'SUBMITTING' },
        select: { id: true },
        orderBy: { id: 'asc' },
      }),
    );
    const resumed: PayoutBatch[] = [];
    const failed = await eachBatch(rows, async (id) => {
      resumed.push(await this.#handOver(id));
    });
    return { resumed, failed };
  }

  /** Batches, oldest first. */
  async list(actor: Actor, page: PageRequest): Promise<Page<PayoutBatch>> {
    requireOperatorScope(actor, 'billing:read');
    const { where, ...order } = keyset(page);
    return this.#deps.database.withSystem(async (tx) =>
      toPage(await tx.payoutBatch.findMany({ where, ...order }), page, toBatch),
    );
  }

  /** One batch; null when there is none. */
  async get(actor: Actor, batchId: Uuid): Promise<PayoutBatch | null> {
    requireOperatorScope(actor, 'billing:read');
    return this.#deps.database.withSystem(async (tx) => {
      const row = await tx.payoutBatch.findUnique({ where: { id: batchId } });
      return row && toBatch(row);
    });
  }

  async #handOver(batchId: Uuid): Promise<PayoutBatch> {
    const { clock, database, rails } = this.#deps;
    const { rail, order } = await database.withSystem((tx) => readOrder(tx, batchId));
    const receipt = await requireRail(rails, rail).submit(order);
    return database.withSystem(async (tx) => {
      const batch = await this.#lock(tx, batchId);
      if (batch.state === 'SUBMITTING') await finishSubmission(tx, clock, batch.id, receipt);
      // Results may have come before this process knew that the bank had the batch.
      await settleBatches(tx, clock, [batchId]);
      return this.#mustGet(tx, batchId);
    });
  }

  async #draft(tx: Tx, actor: Actor, input: CreateBatchInput, rail: PayoutRail): Promise<PayoutBatch> {
    const { clock } = this.#deps;
    const { holdbackMs, batchMax, secondPersonAboveNano } = this.#options;
    const { currency } = input;
    // One draft after the other: what is payable and what is held of it are decided together.
    await tx.$queryRaw`SELECT pg_advisory_xact_lock(hashtextextended('patchbay.payouts.draft', 0))::text`;
    const now = new Date(clock.nowMs());
    const earnedBefore = cutOff(input.earnedBefore, new Date(now.getTime() - holdbackMs));
    const unit = rail.unitNano(currency);
    const { leastNano } = await rail.terms(currency);
    const least = leastPayable(this.#options, unit, leastNano);
    const terms = { currency, earnedBefore, now, least, unit, batchMax };
    const wanted = draftPayouts(await readCandidates(tx, rail, terms), terms, clock);
    const held = wanted.length === 0 ? new Set<Uuid>() : await holdPayouts(tx, wanted, now);
    const payouts = wanted.filter(({ id }) => held.has(id));
    if (payouts.length === 0) {
      throw new PatchbayError('PAYOUT_NOTHING_DUE', `Nothing in ${currency} can be paid now.`, {
        meta: { earnedBefore: earnedBefore.toISOString(), minimumNano: String(least) },
      });
    }
    const id = newId(clock);
    const totalNano = payouts.reduce((sum, { amountNano }) => sum + amountNano, 0n);
    await tx.payoutBatch.createMany({
      data: {
        ...{ id, currency, earnedBefore, totalNano, secondPersonAboveNano },
        ...{ state: 'DRAFT', rail: rail.kind, payoutCount: payouts.length },
        ...{ draftedBy: operatorKey(actor), createdAt: now },
      },
    });
    await tx.payout.createMany({
      data: payouts.map(({ paymentKey, ...payout }, index) => ({
        ...payout,
        ...{ batchId: id, line: index + 1, earnedBefore, state: 'PENDING' },
        ...{ paymentKey: bytes(paymentKey), createdAt: now, stateChangedAt: now },
      })),
    });
    return this.#mustGet(tx, id);
  }

  /** Ends a batch that is locked and was not handed over: its payouts end, and their money is free. */
  async #cancel(tx: Tx, action: DeniedEntry, batch: PayoutBatch): Promise<void> {
    const { clock } = this.#deps;
    const { id: batchId } = batch;
    const at = new Date(clock.nowMs());
    await this.#change(tx, action, batch, { state: 'CANCELLED', submittingAt: null, closedAt: at });
    await tx.payout.updateMany({ where: { batchId }, data: { state: 'CANCELLED', stateChangedAt: at } });
    const payouts = await tx.payout.findMany({ where: { batchId }, orderBy: { line: 'asc' } });
    await resolvePayouts(tx, clock, [], payouts, at);
  }

  /** Changes the state, and says so in the audit log. */
  async #change(tx: Tx, action: DeniedEntry, { id, state }: PayoutBatch, data: Progress): Promise<void> {
    await tx.payoutBatch.updateMany({ where: { id }, data });
    await recordAudit(tx, this.#deps.clock, {
      ...action,
      tenantId: PLATFORM_TENANT_ID,
      before: { state },
      after: { state: data.state },
    });
  }

  /** Of a batch that is no draft nothing is asked. */
  async #requireRailAgrees(id: Uuid): Promise<void> {
    const where = { id, state: 'DRAFT' };
    const row = await this.#deps.database.withSystem((tx) => tx.payoutBatch.findFirst({ where }));
    if (row !== null) await requireRail(this.#deps.rails, toBatch(row).rail).requireAgreed();
  }

  /** Before its payments count as possibly made: what the rail refuses would stay so. */
  async #requireRailTakes(id: Uuid): Promise<void> {
    const where = { id, state: 'APPROVED' };
    const row = await this.#deps.database.withSystem((tx) => tx.payoutBatch.findFirst({ where }));
    if (row === null) return;
    const { rail, currency } = toBatch(row);
    await requireRail(this.#deps.rails, rail).requireTakes(currency);
  }

  /** Whether a batch that is locked can end without anything being paid. */
  async #isFree({ id, state, rail }: PayoutBatch): Promise<boolean> {
    if (state === 'DRAFT' || state === 'APPROVED') return true;
    return state === 'SUBMITTING' && (await requireRail(this.#deps.rails, rail).neverTook(id));
  }

  async #isDrafterOfLarge(tx: Tx, batchId: Uuid, key: Uuid): Promise<boolean> {
    const [row] = z.array(z.object({ is_drafter: z.boolean() })).parse(
      await tx.$queryRaw`
        SELECT state = 'DRAFT' AND total_nano > second_person_above_nano
               AND patchbay.is_same_person(drafted_by, ${key}::uuid) AS is_drafter
        FROM payout_batch WHERE id = ${batchId}::uuid`,
    );
    return row?.is_drafter ?? false;
  }

  async #lock(tx: Tx, batchId: Uuid): Promise<PayoutBatch> {
    await lockBatches(tx, [batchId]);
    return this.#mustGet(tx, batchId);
  }

  async #mustGet(tx: Tx, batchId: Uuid): Promise<PayoutBatch> {
    const row = await tx.payoutBatch.findUnique({ where: { id: batchId } });
    if (row === null) throw new PatchbayError('NOT_FOUND', 'There is no such batch.', { field: 'batch' });
    return toBatch(row);
  }

  #action(actor: Actor, verb: string, targetId: Uuid | null, context: RequestContext): DeniedEntry {
    return { actor, action: `payoutBatch.${verb}`, targetType: 'payoutBatch', targetId, context };
  }
}

/** Does something with each batch, one after the other; answers those that it failed for. */
async function eachBatch(
  rows: readonly { readonly id: Uuid }[],
  work: (id: Uuid) => Promise<void>,
): Promise<readonly FailedBatch[]> {
  const failed: FailedBatch[] = [];
  for (const { id } of rows) {
    await work(id).catch((error: unknown) => failed.push({ batchId: id, error }));
  }
  return failed;
}
