import { type Actor, reaches, requireScope } from '../auth/principal.ts';
import type { Tx } from '../db/client.ts';
import { SQLSTATE, sqlState } from '../db/errors.ts';
import type { Page, PageRequest } from '../db/page.ts';
import { PLATFORM_TENANT_ID } from '../db/platform.ts';
import { PatchbayError } from '../kernel/errors.ts';
import { isUuid, newId, type Uuid } from '../kernel/ids.ts';
import { requireCurrency } from '../pricing/currency.ts';
import { historyPage } from '../pricing/versions.ts';
import type { RequestContext } from '../tenant/audit.ts';
import { type Done, type InvoicingDeps, operate, requireOperatorOf } from './operation.ts';
import { toTermsVersion } from './rows.ts';
import {
  type BillingTerms,
  type BillingTermsVersion,
  billingTermsJson,
  requireBillingTerms,
} from './terms.ts';

/** A new version of terms. */
export interface SetBillingTermsInput {
  readonly idempotencyKey: string;
  /** Null for the default, which holds for tenants without terms of their own. */
  readonly tenantId: Uuid | null;
  /** Null lets a tenant have the default again. */
  readonly terms: BillingTerms | null;
  /** Null for now. It may be in the past, but not in a month that is closed. */
  readonly effectiveFrom: Date | null;
}

/** Terms of billing: versions that are added and never changed. */
export class BillingTermsService {
  readonly #deps: InvoicingDeps;

  constructor(dependencies: InvoicingDeps) {
    this.#deps = dependencies;
  }

  /** Adds a version of a tenant's terms, or of the default ones. For operators. */
  async set(
    actor: Actor,
    input: SetBillingTermsInput,
    context: RequestContext = {},
  ): Promise<BillingTermsVersion> {
    const { terms } = input;
    const { clock } = this.#deps;
    const owner = input.tenantId ?? PLATFORM_TENANT_ID;
    const args = {
      tenantId: input.tenantId,
      terms: terms && billingTermsJson(terms),
      effectiveFrom: input.effectiveFrom?.toISOString() ?? null,
    };
    const operation = {
      actor,
      context,
      name: 'setBillingTerms',
      action: 'billingTerms.set',
      targetType: 'tenant',
      targetId: owner,
      idempotencyKey: input.idempotencyKey,
      args,
    };
    await requireOperatorOf(this.#deps, operation);
    if (terms !== null) requireBillingTerms(terms, 'terms');
    else if (input.tenantId === null) {
      throw new PatchbayError('BAD_INPUT', 'The default has nothing to take its terms from.', {
        field: 'terms',
        fix: 'Give terms of zero.',
      });
    }
    const work = async (tx: Tx): Promise<Done> => {
      if (input.tenantId === PLATFORM_TENANT_ID || (await tx.tenant.count({ where: { id: owner } })) === 0) {
        throw new PatchbayError('NOT_FOUND', 'There is no such tenant.', { field: 'tenant' });
      }
      const currency = await currencyOf(tx, terms);
      const nowMs = clock.nowMs();
      // Terms hold for whole months, so a month that is not closed has none yet that a later word could not change.
      const effectiveFrom = input.effectiveFrom ?? new Date(nowMs);
      const id = newId(clock);
      await insertTerms(tx, { id, owner, terms, currency, effectiveFrom, createdAt: new Date(nowMs) });
      const after = { versionId: id, terms: args.terms, effectiveFrom: effectiveFrom.toISOString() };
      return { id, tenantId: owner, targetType: 'billingTerms', after };
    };
    try {
      return await operate(this.#deps, operation, work, readVersion);
    } catch (error) {
      const state = sqlState(error);
      if (state !== SQLSTATE.uniqueViolation && state !== SQLSTATE.checkViolation) throw error;
      throw new PatchbayError(
        'TERMS_CONFLICT',
        state === SQLSTATE.checkViolation
          ? 'A period that these terms would change is closed.'
          : 'Another version begins at the same time.',
        { field: 'effectiveFrom', cause: error },
      );
    }
  }

  /** The versions of a tenant's terms, or of the default ones, those that begin last first. */
  async list(actor: Actor, tenantId: Uuid | null, page: PageRequest): Promise<Page<BillingTermsVersion>> {
    requireScope(actor, 'billing:read');
    if (tenantId !== null && !reaches(actor, tenantId)) {
      throw new PatchbayError('NOT_FOUND', 'No such tenant is visible to you.', { field: 'tenant' });
    }
    const { database } = this.#deps;
    const where = { tenantId: tenantId ?? PLATFORM_TENANT_ID };
    const work = (tx: Tx): Promise<Page<BillingTermsVersion>> =>
      historyPage(
        page,
        {
          find: async (id) => (isUuid(id) ? tx.billingTerms.findFirst({ where: { ...where, id } }) : null),
          read: (before, take) =>
            tx.billingTerms.findMany({
              where: { ...where, ...(before === null ? {} : { effectiveFrom: { lt: before } }) },
              orderBy: { effectiveFrom: 'desc' },
              take,
            }),
        },
        (row, until) => toTermsVersion(row, until, tenantId === null),
      );
    return actor.kind === 'TENANT' ? database.withTenant(actor.tenantId, work) : database.withSystem(work);
  }
}

/** The installation's currency, which the terms must be in. */
async function currencyOf(tx: Tx, terms: BillingTerms | null): Promise<string> {
  const currency = await requireCurrency(tx);
  if (terms === null || terms.currency === currency) return currency;
  throw new PatchbayError('BAD_INPUT', `This installation counts in ${currency}.`, {
    field: 'terms.currency',
  });
}

/** Written by hand, because a version that inherits has no tiers rather than none of them. */
async function insertTerms(
  tx: Tx,
  row: {
    readonly id: Uuid;
    readonly owner: Uuid;
    readonly terms: BillingTerms | null;
    readonly currency: string;
    readonly effectiveFrom: Date;
    readonly createdAt: Date;
  },
): Promise<void> {
  const { terms } = row;
  const from = terms?.tiers.map(({ fromNano }) => String(fromNano)) ?? null;
  const discounts = terms?.tiers.map(({ discountPpm }) => String(discountPpm)) ?? null;
  await tx.$executeRaw`
    INSERT INTO billing_terms (id, tenant_id, inherits, currency, free_nano, minimum_nano, tier_from_nano,
      tier_discount_ppm, effective_from, created_at)
    VALUES (${row.id}::uuid, ${row.owner}::uuid, ${terms === null}, ${row.currency},
      ${terms && String(terms.freeNano)}::bigint, ${terms && String(terms.minimumNano)}::bigint,
      ${from}::bigint[], ${discounts}::bigint[], ${row.effectiveFrom}::timestamptz, ${row.createdAt}::timestamptz)`;
}

async function readVersion(tx: Tx, id: Uuid): Promise<BillingTermsVersion> {
  const row = await tx.billingTerms.findUniqueOrThrow({ where: { id } });
  const { tenantId, effectiveFrom } = row;
  const next = await tx.billingTerms.findFirst({
    where: { tenantId, effectiveFrom: { gt: effectiveFrom } },
    orderBy: { effectiveFrom: 'asc' },
  });
  return toTermsVersion(row, next?.effectiveFrom ?? null, tenantId === PLATFORM_TENANT_ID);
}
