import { z } from 'zod';
import { type Actor, requireOperatorScope } from '../auth/principal.ts';
import type { Tx } from '../db/client.ts';
import { hashRequest, runIdempotent } from '../db/idempotency.ts';
import { PLATFORM_TENANT_ID } from '../db/platform.ts';
import { PatchbayError } from '../kernel/errors.ts';
import { newId, type Uuid } from '../kernel/ids.ts';
import { openAccountOn } from '../ledger/accounts.ts';
import { ledgerConflict, mapLedgerError } from '../ledger/errors.ts';
import { businessKey } from '../ledger/keys.ts';
import { postAll, runInTx } from '../ledger/statements.ts';
import { AMOUNT_MAX } from '../ledger/types.ts';
import { requireCurrency } from '../pricing/currency.ts';
import { auditDenied, type RequestContext, recordAudit } from '../tenant/audit.ts';
import type { PayoutDeps } from './types.ts';

/** A correction of what a beneficiary has earned. */
export interface AdjustEarningsInput {
  readonly idempotencyKey: string;
  readonly tenantId: Uuid;
  /** What it is about; null for nothing in particular. */
  readonly adapterVersionId: Uuid | null;
  /** In favour of the beneficiary when positive. */
  readonly amount: bigint;
  /** The beneficiary reads it. */
  readonly reason: string;
}

const REASON_CHARS_MAX = 500;
const REFERENCE_TYPE = 'earnings_adjustment';
const answer = z.object({ transferId: z.string() });

/** Corrections of earnings: the platform takes back what was earned by mistake or fraud, or gives what was missed. */
export class EarningsCorrectionService {
  readonly #deps: Pick<PayoutDeps, 'database' | 'clock'>;

  constructor(dependencies: Pick<PayoutDeps, 'database' | 'clock'>) {
    this.#deps = dependencies;
  }

  /**
   * Posts a correction between a beneficiary's earnings and what the platform bears, once for each key. It may take the
   * balance below zero; then later earnings make up for it. Answers the transfer.
   */
  async adjust(
    actor: Actor,
    input: AdjustEarningsInput,
    context: RequestContext = {},
  ): Promise<{ readonly transferId: Uuid }> {
    const { clock, database } = this.#deps;
    const { tenantId, adapterVersionId, reason } = input;
    const entry = { actor, action: 'earnings.adjust', targetType: 'tenant', targetId: tenantId, context };
    await auditDenied(this.#deps, entry, () => requireOperatorScope(actor, 'billing:write'));
    checkInput(input);
    const args = { tenantId, adapterVersionId, amount: String(input.amount), reason };
    const request = {
      scope: { tenantId: PLATFORM_TENANT_ID, actor: actor.kind },
      operation: 'adjustEarnings',
      key: input.idempotencyKey,
      requestHash: hashRequest(args),
    };
    const { value } = await database.withSystem((tx) =>
      runIdempotent(request, tx, { codec: answer, clock }, async () => {
        await requireParties(tx, input);
        const { transferId, currency, accountId, isNew } = await this.#post(tx, input);
        // Done when the record of the request was still kept, and told then.
        if (!isNew) return { transferId };
        const facts = { currency, amountNano: args.amount, reason, adapterVersionId, transferId };
        await tx.$executeRaw`SELECT patchbay.emit_event(
          ${tenantId}::uuid, 'earnings.adjusted', ${accountId}::uuid, ${JSON.stringify(facts)}::jsonb)`;
        await recordAudit(tx, clock, { ...entry, tenantId, after: facts });
        return { transferId };
      }),
    );
    return value;
  }

  async #post(tx: Tx, { tenantId, adapterVersionId, amount, idempotencyKey }: AdjustEarningsInput) {
    const { clock } = this.#deps;
    const at = new Date(clock.nowMs());
    const run = runInTx(tx);
    const currency = await requireCurrency(tx);
    const open = (owner: Uuid, kind: 'EARNINGS' | 'ADJUSTMENT'): Promise<Uuid> =>
      openAccountOn(run, { id: newId(clock), tenantId: owner, kind, asset: currency }, at);
    const accountId = await open(tenantId, 'EARNINGS');
    const adjustment = await open(PLATFORM_TENANT_ID, 'ADJUSTMENT');
    const transfer = {
      ...{ id: newId(clock), tenantId, asset: currency, referenceType: REFERENCE_TYPE, referenceId: null },
      key: businessKey(REFERENCE_TYPE, idempotencyKey),
      lines: [
        { accountId: adjustment, amount: -amount, subjectId: null },
        { accountId, amount, subjectId: adapterVersionId },
      ],
    };
    const [posted] = await postAll(run, [transfer], at).catch((error: unknown) => {
      throw mapLedgerError(error);
    });
    if (posted?.outcome !== 'POSTED' && posted?.outcome !== 'REPLAYED') {
      throw ledgerConflict('The idempotency key corrected something else before.', posted?.id ?? transfer.id);
    }
    return { transferId: posted.id, currency, accountId, isNew: posted.outcome === 'POSTED' };
  }
}

function checkInput({ amount, reason }: AdjustEarningsInput): void {
  if (amount === 0n || amount < -AMOUNT_MAX || amount > AMOUNT_MAX) {
    const message = `The amount is ${-AMOUNT_MAX} to ${AMOUNT_MAX} nano-units, and not 0.`;
    throw new PatchbayError('BAD_INPUT', message, { field: 'amount' });
  }
  if (reason.trim() === '' || [...reason].length > REASON_CHARS_MAX || reason.includes('\0')) {
    const message = `The reason has 1 to ${REASON_CHARS_MAX} characters.`;
    throw new PatchbayError('BAD_INPUT', message, { field: 'reason' });
  }
}

async function requireParties(tx: Tx, { tenantId, adapterVersionId }: AdjustEarningsInput): Promise<void> {
  if (tenantId === PLATFORM_TENANT_ID || (await tx.tenant.count({ where: { id: tenantId } })) === 0) {
    throw new PatchbayError('NOT_FOUND', 'No such tenant is visible to you.', { field: 'tenant' });
  }
  if (adapterVersionId === null) return;
  if ((await tx.adapterVersion.count({ where: { id: adapterVersionId } })) === 1) return;
  throw new PatchbayError('NOT_FOUND', 'There is no such adapter version.', { field: 'adapterVersion' });
}
