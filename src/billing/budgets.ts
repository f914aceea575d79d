import { isDeepStrictEqual } from 'node:util';
import { z } from 'zod';
import { type Actor, reaches, requireScope } from '../auth/principal.ts';
import type { Database, Tx } from '../db/client.ts';
import { hashRequest, runIdempotent } from '../db/idempotency.ts';
import { type Page, requirePageSize } from '../db/page.ts';
import { PLATFORM_TENANT_ID } from '../db/platform.ts';
import type { Clock } from '../kernel/clock.ts';
import { PatchbayError } from '../kernel/errors.ts';
import { newId, type Uuid } from '../kernel/ids.ts';
import { requireCurrency } from '../pricing/currency.ts';
import { auditDenied, type RequestContext, recordAudit } from '../tenant/audit.ts';
import { type PeriodUse, type PeriodUsePage, readUses } from './budget-history.ts';
import type { BudgetPeriod } from './budget-period.ts';
import { type BudgetState, readBudget, readBudgets } from './budget-state.ts';
import { type BudgetSubject, checkBudget, findSubject, subjectIdOf } from './budget-terms.ts';

/** A budget to make, or the one of this subject and period to change. */
export interface SetBudgetInput {
  readonly idempotencyKey: string;
  /** Whose budget; null for the actor's own tenant. An operator names one: the platform spends nothing. */
  readonly tenantId?: Uuid | null;
  readonly subject: BudgetSubject;
  readonly period: BudgetPeriod;
  readonly limit: bigint;
  /** Null leaves them as they are; a new budget gets {@link DEFAULT_ALERTS_PPM}. */
  readonly alertsPpm: readonly number[] | null;
}

/** At which parts of the limit an event is written when nothing else is said. */
export const DEFAULT_ALERTS_PPM: readonly number[] = [800_000, 1_000_000];

/** Most budgets of a tenant: each admission looks at all of them. */
export const BUDGETS_MAX = 100;

const answer = z.object({ budgetId: z.string() });

/** Budgets of a tenant: what it, a key or an adapter may cost it in a day or a month. The charging is the database's. */
export class BudgetService {
  readonly #deps: { readonly database: Database; readonly clock: Clock };

  constructor(dependencies: { readonly database: Database; readonly clock: Clock }) {
    this.#deps = dependencies;
  }

  /** Every budget with what is taken of its present period; of the actor's own tenant when none is named. */
  async list(actor: Actor, tenantId: Uuid | null): Promise<readonly BudgetState[]> {
    const id = mayRead(actor, tenantId);
    return this.#deps.database.withTenant(id, (tx) => readBudgets(tx));
  }

  /**
   * What was taken of a budget in each of its periods, the latest first. Those of a budget that was removed stay; of one
   * that is somebody else's or never was there are none.
   */
  async uses(
    actor: Actor,
    budget: { readonly tenantId: Uuid | null; readonly budgetId: Uuid },
    page: PeriodUsePage,
  ): Promise<Page<PeriodUse>> {
    const id = mayRead(actor, budget.tenantId);
    requirePageSize(page.first);
    return this.#deps.database.withTenant(id, (tx) => readUses(tx, budget.budgetId, page));
  }

  /** Makes a budget, or changes the limit and the thresholds of the one that there is. */
  async set(actor: Actor, input: SetBudgetInput, context: RequestContext = {}): Promise<BudgetState> {
    const { subject, period, limit } = input;
    const { database, clock } = this.#deps;
    const tenantId = input.tenantId ?? actor.tenantId;
    const action = {
      actor,
      action: 'budget.set',
      targetType: TARGETS[subject.scope],
      targetId: subject.scope === 'TENANT' ? tenantId : subjectIdOf(subject),
      context,
    };
    await auditDenied(this.#deps, action, () => requireScope(actor, 'billing:write'));
    requireCustomer(actor, tenantId);
    const alerts = input.alertsPpm === null ? null : [...new Set(input.alertsPpm)].sort((a, b) => a - b);
    checkBudget(limit, alerts);
    const args = {
      scope: subject.scope,
      subjectId: subjectIdOf(subject),
      period,
      limit: limit.toString(),
      alertsPpm: alerts,
    };
    const request = {
      scope: { tenantId, actor: actor.kind },
      operation: 'setBudget',
      key: input.idempotencyKey,
      requestHash: hashRequest(args),
    };
    return database.withTenant(tenantId, async (tx) => {
      await requireTenant(tx, tenantId);
      const { value } = await runIdempotent(request, tx, { codec: answer, clock }, async () => {
        const subjectId = await findSubject(tx, subject);
        await lockBudgets(tx, tenantId);
        const where = { scope: subject.scope, subjectId, period };
        const known = await tx.budget.findFirst({ where });
        const updatedAt = new Date(clock.nowMs());
        const terms = {
          limitNano: limit,
          alertsPpm: [...(alerts ?? known?.alertsPpm ?? DEFAULT_ALERTS_PPM)],
          updatedAt,
        };
        const after = { ...args, subjectId, alertsPpm: terms.alertsPpm };
        if (known === null) {
          await requireRoom(tx);
          const id = newId(clock);
          const currency = await requireCurrency(tx);
          await tx.budget.create({
            data: { id, tenantId, ...where, currency, ...terms, createdAt: updatedAt },
          });
          await tx.$executeRaw`
            SELECT patchbay.start_budget(${id}::uuid, ${newId(clock)}::uuid, ${updatedAt}::timestamptz)`;
          await recordAudit(tx, clock, { ...action, tenantId, after: { budgetId: id, ...after } });
          return { budgetId: id };
        }
        const before = { ...after, limit: known.limitNano.toString(), alertsPpm: known.alertsPpm };
        if (!isDeepStrictEqual(before, after)) {
          await tx.budget.updateMany({ where: { id: known.id }, data: terms });
          const budgetId = known.id;
          await recordAudit(tx, clock, {
            ...action,
            tenantId,
            before: { budgetId, ...before },
            after: { budgetId, ...after },
          });
        }
        return { budgetId: known.id };
      });
      const state = await readBudget(tx, value.budgetId);
      if (state !== null) return state;
      throw new PatchbayError('NOT_FOUND', 'The budget that this made was removed since.');
    });
  }

  /**
   * Removes a budget, and answers with its id. What requests hold of it is let go when they end; nothing that runs is
   * stopped, and nothing that is admitted from now on is bounded by it.
   */
  async remove(
    actor: Actor,
    input: { readonly idempotencyKey: string; readonly budgetId: Uuid; readonly tenantId?: Uuid | null },
    context: RequestContext = {},
  ): Promise<Uuid> {
    const { budgetId } = input;
    const tenantId = input.tenantId ?? actor.tenantId;
    const { database, clock } = this.#deps;
    const action = { actor, action: 'budget.remove', targetType: 'budget', targetId: budgetId, context };
    await auditDenied(this.#deps, action, () => requireScope(actor, 'billing:write'));
    requireCustomer(actor, tenantId);
    const request = {
      scope: { tenantId, actor: actor.kind },
      operation: 'removeBudget',
      key: input.idempotencyKey,
      requestHash: hashRequest({ budgetId }),
    };
    return database.withTenant(tenantId, async (tx) => {
      await requireTenant(tx, tenantId);
      const { value } = await runIdempotent(request, tx, { codec: answer, clock }, async () => {
        await lockBudgets(tx, tenantId);
        const known = await tx.budget.findFirst({ where: { id: budgetId } });
        if (known === null) {
          throw new PatchbayError('NOT_FOUND', 'No such budget is visible to you.', { field: 'budget' });
        }
        await tx.budget.deleteMany({ where: { id: budgetId } });
        const { scope, subjectId, period, limitNano, alertsPpm } = known;
        const before = { scope, subjectId, period, limit: limitNano.toString(), alertsPpm };
        await recordAudit(tx, clock, { ...action, tenantId, before, after: { removed: true } });
        return { budgetId };
      });
      return value.budgetId;
    });
  }
}

function mayRead(actor: Actor, tenantId: Uuid | null): Uuid {
  const id = tenantId ?? actor.tenantId;
  requireScope(actor, 'billing:read');
  if (!reaches(actor, id)) throw tenantNotFound();
  return id;
}

/** The tenant is the actor's to spend for, and one that spends: the platform has no balance that a budget could bound. */
function requireCustomer(actor: Actor, tenantId: Uuid): void {
  if (!reaches(actor, tenantId)) throw tenantNotFound();
  if (tenantId !== PLATFORM_TENANT_ID) return;
  throw new PatchbayError('BAD_INPUT', 'The platform spends nothing, so it has no budgets.', {
    field: 'tenant',
    fix: 'Name the tenant whose budget it is.',
  });
}

/** An operator may name any id. */
async function requireTenant(tx: Tx, tenantId: Uuid): Promise<void> {
  if ((await tx.tenant.count({ where: { id: tenantId } })) === 0) throw tenantNotFound();
}

function tenantNotFound(): PatchbayError {
  return new PatchbayError('NOT_FOUND', 'No such tenant is visible to you.', { field: 'tenant' });
}

const TARGETS = { TENANT: 'tenant', KEY: 'apiKey', ADAPTER: 'adapter' } as const;

/** Changes of one tenant's budgets queue, so that each records what it really replaced and none is made twice. */
async function lockBudgets(tx: Tx, tenantId: Uuid): Promise<void> {
  await tx.$executeRaw`SELECT pg_advisory_xact_lock(hashtextextended(${`patchbay.budgets:${tenantId}`}, 0))`;
}

async function requireRoom(tx: Tx): Promise<void> {
  if ((await tx.budget.count()) < BUDGETS_MAX) return;
  throw new PatchbayError('QUOTA_EXCEEDED', `A tenant has at most ${BUDGETS_MAX} budgets.`, {
    fix: 'Remove a budget that is not needed any more.',
    meta: { limit: BUDGETS_MAX },
  });
}
