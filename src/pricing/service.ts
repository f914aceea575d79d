import { z } from 'zod';
import { type Actor, requireOperatorScope, requireScope } from '../auth/principal.ts';
import type { Database, Tx } from '../db/client.ts';
import { SQLSTATE, sqlState } from '../db/errors.ts';
import { hashRequest, runIdempotent } from '../db/idempotency.ts';
import type { Page, PageRequest } from '../db/page.ts';
import { PLATFORM_TENANT_ID } from '../db/platform.ts';
import type { Clock } from '../kernel/clock.ts';
import { PatchbayError } from '../kernel/errors.ts';
import { isUuid, newId, type Uuid } from '../kernel/ids.ts';
import { auditDenied, type RequestContext, recordAudit } from '../tenant/audit.ts';
import { currencyOf } from './currency.ts';
import {
  type PriceVersion,
  priceColumns,
  type RoyaltyVersion,
  royaltyColumns,
  termsJson,
  toPriceVersion,
  toRoyaltyVersion,
} from './rows.ts';
import { type PriceTerms, type RoyaltyTerms, requirePriceTerms, requireRoyaltyTerms } from './terms.ts';
import { historyPage, sameStart, startOf } from './versions.ts';

/** What a price is for. */
export type PriceSubject =
  | { readonly kind: 'BACKBONE'; readonly backboneDigest: string }
  | { readonly kind: 'ADAPTER'; readonly adapterId: Uuid };

/** A new version of a price. */
export interface SetPriceInput {
  readonly idempotencyKey: string;
  readonly subject: PriceSubject;
  /** Null lets an adapter have the backbone's prices again. */
  readonly terms: PriceTerms | null;
  /** Null for as soon as possible. */
  readonly effectiveFrom: Date | null;
}

/** A new version of a royalty. */
export interface SetRoyaltyInput {
  readonly idempotencyKey: string;
  readonly adapterId: Uuid;
  readonly terms: RoyaltyTerms;
  /** Null for as soon as possible. */
  readonly effectiveFrom: Date | null;
}

const answer = z.object({ versionId: z.string() });

/** The price book and the royalties: versions that are added and never changed. */
export class PricingService {
  readonly #deps: { readonly database: Database; readonly clock: Clock };

  constructor(dependencies: { readonly database: Database; readonly clock: Clock }) {
    this.#deps = dependencies;
  }

  /** Adds a version of a backbone's or an adapter's prices. For operators. */
  async setPrice(actor: Actor, input: SetPriceInput, context: RequestContext = {}): Promise<PriceVersion> {
    const { subject, terms } = input;
    const { clock, database } = this.#deps;
    const action = {
      actor,
      action: 'price.set',
      targetType: subject.kind === 'BACKBONE' ? 'backbone' : 'adapter',
      targetId: subject.kind === 'BACKBONE' ? subject.backboneDigest : subject.adapterId,
      context,
    };
    await auditDenied(this.#deps, action, () => requireOperatorScope(actor, 'billing:write'));
    if (terms !== null) requirePriceTerms(terms, 'terms');
    else if (subject.kind === 'BACKBONE') {
      throw new PatchbayError('BAD_INPUT', 'A backbone has nothing to take its prices from.', {
        field: 'terms',
      });
    }
    const args = {
      ...subject,
      terms: terms && termsJson(terms),
      effectiveFrom: input.effectiveFrom?.toISOString() ?? null,
    };
    const request = {
      scope: { tenantId: PLATFORM_TENANT_ID, actor: actor.kind },
      operation: 'setPrice',
      key: input.idempotencyKey,
      requestHash: hashRequest(args),
    };
    let effectiveFrom = input.effectiveFrom;
    try {
      return await database.withSystem(async (tx) => {
        const { value } = await runIdempotent(request, tx, { codec: answer, clock }, async () => {
          const { tenantId, isFirst } = await priceSubject(tx, subject);
          // Without any price requests are refused, and a refusal is not remembered: the first may begin at once.
          const nowMs = clock.nowMs();
          effectiveFrom = startOf(nowMs, input.effectiveFrom, isFirst ? 0 : undefined);
          const currency = await currencyOf(tx);
          if (terms !== null && currency !== null && terms.currency !== currency) {
            throw new PatchbayError('BAD_INPUT', `This installation counts in ${currency}.`, {
              field: 'terms.currency',
            });
          }
          const replaced = await tx.priceVersion.findFirst({
            where: { ...subjectWhere(subject), effectiveFrom: { lt: effectiveFrom } },
            orderBy: { effectiveFrom: 'desc' },
          });
          const id = newId(clock);
          await tx.priceVersion.create({
            data: {
              id,
              tenantId,
              ...subjectWhere(subject),
              ...priceColumns(terms, currency),
              effectiveFrom,
              createdAt: new Date(nowMs),
            },
          });
          const after = { versionId: id, terms: args.terms, effectiveFrom: effectiveFrom.toISOString() };
          const before = replaced && recorded(toPriceVersion(replaced, null));
          await recordAudit(tx, clock, { ...action, tenantId, ...(before && { before }), after });
          return { versionId: id };
        });
        return withFollower(await tx.priceVersion.findUniqueOrThrow({ where: { id: value.versionId } }), tx);
      });
    } catch (error) {
      if (sqlState(error) !== SQLSTATE.uniqueViolation) throw error;
      throw sameStart(effectiveFrom ?? new Date(clock.nowMs()), error);
    }
  }

  /** Adds a version of what the owner of an adapter asks for it. For the owner. */
  async setRoyalty(
    actor: Actor,
    input: SetRoyaltyInput,
    context: RequestContext = {},
  ): Promise<RoyaltyVersion> {
    const { adapterId, terms } = input;
    const { tenantId } = actor;
    const { clock, database } = this.#deps;
    const action = { actor, action: 'royalty.set', targetType: 'adapter', targetId: adapterId, context };
    await auditDenied(this.#deps, action, () => requireScope(actor, 'adapters:write'));
    requireRoyaltyTerms(terms, 'terms');
    const args = {
      adapterId,
      terms: termsJson(terms),
      effectiveFrom: input.effectiveFrom?.toISOString() ?? null,
    };
    const request = {
      scope: { tenantId, actor: actor.kind },
      operation: 'setRoyalty',
      key: input.idempotencyKey,
      requestHash: hashRequest(args),
    };
    let effectiveFrom = input.effectiveFrom;
    try {
      return await database.withTenant(tenantId, async (tx) => {
        const { value } = await runIdempotent(request, tx, { codec: answer, clock }, async () => {
          await requireOwnAdapter(tx, tenantId, adapterId);
          const nowMs = clock.nowMs();
          effectiveFrom = startOf(nowMs, input.effectiveFrom);
          const replaced = await tx.royaltyVersion.findFirst({
            where: { adapterId, effectiveFrom: { lt: effectiveFrom } },
            orderBy: { effectiveFrom: 'desc' },
          });
          const id = newId(clock);
          const createdAt = new Date(nowMs);
          await tx.royaltyVersion.create({
            data: { id, tenantId, adapterId, ...royaltyColumns(terms), effectiveFrom, createdAt },
          });
          const after = { versionId: id, terms: args.terms, effectiveFrom: effectiveFrom.toISOString() };
          const before = replaced && recorded(toRoyaltyVersion(replaced, null));
          await recordAudit(tx, clock, { ...action, tenantId, ...(before && { before }), after });
          return { versionId: id };
        });
        const row = await tx.royaltyVersion.findUniqueOrThrow({ where: { id: value.versionId } });
        const next = await tx.royaltyVersion.findFirst({
          where: { adapterId, effectiveFrom: { gt: row.effectiveFrom } },
          orderBy: { effectiveFrom: 'asc' },
        });
        return toRoyaltyVersion(row, next?.effectiveFrom ?? null);
      });
    } catch (error) {
      if (sqlState(error) !== SQLSTATE.uniqueViolation) throw error;
      throw sameStart(effectiveFrom ?? new Date(clock.nowMs()), error);
    }
  }

  /** The versions of a price that the actor may see, those that begin last first. */
  prices(actor: Actor, subject: PriceSubject, page: PageRequest): Promise<Page<PriceVersion>> {
    requireScope(actor, 'billing:read');
    const where = subjectWhere(subject);
    return this.#read(actor, (tx) =>
      historyPage(
        page,
        {
          find: async (id) => (isUuid(id) ? tx.priceVersion.findFirst({ where: { ...where, id } }) : null),
          read: (before, take) =>
            tx.priceVersion.findMany({
              where: { ...where, ...(before === null ? {} : { effectiveFrom: { lt: before } }) },
              orderBy: { effectiveFrom: 'desc' },
              take,
            }),
        },
        toPriceVersion,
      ),
    );
  }

  /** The versions of an adapter's royalty that the actor may see, those that begin last first. */
  royalties(actor: Actor, adapterId: Uuid, page: PageRequest): Promise<Page<RoyaltyVersion>> {
    requireScope(actor, 'billing:read');
    return this.#read(actor, (tx) =>
      historyPage(
        page,
        {
          find: async (id) => (isUuid(id) ? tx.royaltyVersion.findFirst({ where: { adapterId, id } }) : null),
          read: (before, take) =>
            tx.royaltyVersion.findMany({
              where: { adapterId, ...(before === null ? {} : { effectiveFrom: { lt: before } }) },
              orderBy: { effectiveFrom: 'desc' },
              take,
            }),
        },
        toRoyaltyVersion,
      ),
    );
  }

  /** Operators see every tenant's versions; everybody else what row-level security lets them see. */
  #read<T>(actor: Actor, work: (tx: Tx) => Promise<T>): Promise<T> {
    const { database } = this.#deps;
    return actor.kind === 'TENANT' ? database.withTenant(actor.tenantId, work) : database.withSystem(work);
  }
}

/**
 * Throws `ADAPTER_NOT_FOUND` unless the adapter is the tenant's own and has a version: one without may still be swept
 * away, and nothing may refer to it.
 */
async function requireOwnAdapter(tx: Tx, tenantId: Uuid, adapterId: Uuid): Promise<void> {
  const count = await tx.adapter.count({ where: { id: adapterId, tenantId, lastNumber: { gt: 0 } } });
  if (count === 0) throw adapterNotFound('adapter');
}

/** The error for an adapter that is absent, hidden, somebody else's or empty. */
export function adapterNotFound(field: string): PatchbayError {
  return new PatchbayError('ADAPTER_NOT_FOUND', 'No adapter of yours with a version has this id.', { field });
}

/** Whose row a price is, and whether the subject has none yet. */
async function priceSubject(
  tx: Tx,
  subject: PriceSubject,
): Promise<{ readonly tenantId: Uuid; readonly isFirst: boolean }> {
  if (subject.kind === 'BACKBONE') {
    const { backboneDigest } = subject;
    if ((await tx.backbone.count({ where: { digest: backboneDigest } })) === 0) {
      throw new PatchbayError('NOT_FOUND', 'The registry has no such backbone.', { field: 'backbone' });
    }
    return {
      tenantId: PLATFORM_TENANT_ID,
      isFirst: (await tx.priceVersion.count({ where: { backboneDigest } })) === 0,
    };
  }
  const adapter = await tx.adapter.findFirst({ where: { id: subject.adapterId, lastNumber: { gt: 0 } } });
  if (adapter === null) {
    throw new PatchbayError('ADAPTER_NOT_FOUND', 'No adapter with a version has this id.', {
      field: 'adapter',
    });
  }
  return { tenantId: adapter.tenantId, isFirst: false };
}

function subjectWhere(subject: PriceSubject) {
  return subject.kind === 'BACKBONE'
    ? { backboneDigest: subject.backboneDigest }
    : { adapterId: subject.adapterId };
}

/** A version as the audit log has it. */
function recorded({ id, terms, effectiveFrom }: PriceVersion | RoyaltyVersion) {
  return { versionId: id, terms: terms && termsJson(terms), effectiveFrom: effectiveFrom.toISOString() };
}

async function withFollower(row: Parameters<typeof toPriceVersion>[0], tx: Tx): Promise<PriceVersion> {
  const { backboneDigest, adapterId, effectiveFrom } = row;
  const next = await tx.priceVersion.findFirst({
    where: { backboneDigest, adapterId, effectiveFrom: { gt: effectiveFrom } },
    orderBy: { effectiveFrom: 'asc' },
  });
  return toPriceVersion(row, next?.effectiveFrom ?? null);
}
