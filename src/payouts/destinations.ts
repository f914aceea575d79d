import { z } from 'zod';
import { type Actor, reaches, requireScope } from '../auth/principal.ts';
import { hashRequest, runIdempotent } from '../db/idempotency.ts';
import { keyset, type Page, type PageRequest, toPage } from '../db/page.ts';
import { PLATFORM_TENANT_ID } from '../db/platform.ts';
import { PatchbayError } from '../kernel/errors.ts';
import { newId, type Uuid } from '../kernel/ids.ts';
import { auditDenied, type RequestContext, recordAudit } from '../tenant/audit.ts';
import { maskReference, requireAccountName, requireReferenceOf } from './account.ts';
import { type RailKind, requireRail } from './rail.ts';
import { toDestination } from './rows.ts';
import type { PayoutDeps, PayoutDestination, PayoutOptions } from './types.ts';

/** Where a beneficiary wants its money. */
export interface SetDestinationInput {
  readonly idempotencyKey: string;
  /** Left out: a bank. */
  readonly kind?: RailKind;
  readonly accountName: string;
  readonly accountReference: string;
}

const answer = z.object({ destinationId: z.string() });

/** Destinations: registered by beneficiaries, never changed, replaced by later ones. */
export class PayoutDestinationService {
  readonly #options: Pick<PayoutOptions, 'destinationDelayMs'>;
  readonly #deps: PayoutDeps;

  constructor(options: Pick<PayoutOptions, 'destinationDelayMs'>, dependencies: PayoutDeps) {
    this.#options = options;
    this.#deps = dependencies;
  }

  /**
   * Registers a destination. The first one is used at once; a later one after a delay, in which whoever notices that it is
   * not theirs can act. Payouts that were drafted before keep the destination that they were drafted with.
   */
  async set(
    actor: Actor,
    input: SetDestinationInput,
    context: RequestContext = {},
  ): Promise<PayoutDestination> {
    const { clock, database } = this.#deps;
    const { tenantId } = actor;
    const action = {
      ...{ actor, action: 'payoutDestination.set', targetType: 'payoutDestination', targetId: null, context },
    };
    await auditDenied(this.#deps, action, () => requireScope(actor, 'payouts:write'));
    if (tenantId === PLATFORM_TENANT_ID) {
      throw new PatchbayError('BAD_INPUT', 'The platform pays itself nothing.', {
        fix: 'Use a key of the beneficiary.',
      });
    }
    const accountName = requireAccountName(input.accountName);
    const { kind = 'FILE' } = input;
    const accountReference = requireReferenceOf(kind, input.accountReference);
    this.#requireReachable(kind, accountReference);
    const request = {
      scope: { tenantId, actor: actor.kind },
      operation: 'setPayoutDestination',
      key: input.idempotencyKey,
      // Without its kind where it is the one that was the only one, so that a request that is repeated stays the same.
      requestHash: hashRequest({ accountName, accountReference, ...(kind === 'FILE' ? {} : { kind }) }),
    };
    return database.withTenant(tenantId, async (tx) => {
      const { value } = await runIdempotent(request, tx, { codec: answer, clock }, async () => {
        // One after the other for each tenant, or two could each find that theirs is the first.
        await tx.$queryRaw`
          SELECT pg_advisory_xact_lock(hashtextextended(${`patchbay.payouts.destination:${tenantId}`}, 0))::text`;
        const newest = await tx.payoutDestination.findFirst({
          orderBy: [{ effectiveFrom: 'desc' }, { id: 'desc' }],
        });
        const nowMs = clock.nowMs();
        const createdAt = new Date(nowMs);
        // A change never takes effect before one that was made earlier.
        const effectiveFrom =
          newest === null
            ? createdAt
            : new Date(Math.max(nowMs + this.#options.destinationDelayMs, newest.effectiveFrom.getTime()));
        const id = newId(clock);
        await tx.payoutDestination.createMany({
          data: { id, tenantId, kind, accountName, accountReference, effectiveFrom, createdAt },
        });
        await recordAudit(tx, clock, {
          ...{ ...action, tenantId, targetId: id },
          ...(newest === null ? {} : { before: described(newest) }),
          after: {
            ...described({ kind, accountName, accountReference }),
            effectiveFrom: effectiveFrom.toISOString(),
          },
        });
        return { destinationId: id };
      });
      const where = { id: value.destinationId };
      return toDestination(await tx.payoutDestination.findUniqueOrThrow({ where }));
    });
  }

  /** What is paid to one of these accounts is lost. */
  #requireReachable(kind: RailKind, accountReference: string): void {
    const { refuses } = requireRail(this.#deps.rails, kind);
    if (!refuses.has(accountReference)) return;
    throw new PatchbayError('BAD_INPUT', 'This is a contract that is paid from, and nobody’s account.', {
      field: 'accountReference',
      fix: 'Give the address of your wallet.',
    });
  }

  /** Every destination that a beneficiary registered, oldest first; of the actor's own tenant when none is named. */
  async list(actor: Actor, tenantId: Uuid | null, page: PageRequest): Promise<Page<PayoutDestination>> {
    requireScope(actor, 'billing:read');
    const id = tenantId ?? actor.tenantId;
    if (!reaches(actor, id)) {
      throw new PatchbayError('NOT_FOUND', 'No such tenant is visible to you.', { field: 'tenant' });
    }
    const order = keyset(page);
    return this.#deps.database.withTenant(id, async (tx) =>
      toPage(await tx.payoutDestination.findMany(order), page, toDestination),
    );
  }
}

/** A destination as the audit log keeps it. */
function described(destination: {
  readonly kind: string;
  readonly accountName: string;
  readonly accountReference: string;
}) {
  return {
    kind: destination.kind,
    accountName: destination.accountName,
    accountReference: maskReference(destination.accountReference),
  };
}
