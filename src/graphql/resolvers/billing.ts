import type { BudgetSubject } from '../../billing/budget-terms.ts';
import { badCursor } from '../../db/page.ts';
import { PatchbayError } from '../../kernel/errors.ts';
import { isUuid } from '../../kernel/ids.ts';
import { toConnection, toPageRequest } from '../connections.ts';
import { requirePrincipal } from '../context.ts';
import { withUserErrors } from '../errors.ts';
import type {
  BalanceResolvers,
  BudgetResolvers,
  BudgetUseResolvers,
  EarningResolvers,
  LedgerEntryResolvers,
  LedgerLineResolvers,
  MutationResolvers,
  QueryResolvers,
  SetBudgetInput,
} from '../generated/types.ts';
import { optionalGlobalId, requireGlobalId, toGlobalId } from '../ids.ts';

export const Balance = {
  account: ({ kind }) => kind,
  currency: ({ asset }) => asset,
} satisfies BalanceResolvers;

export const LedgerLine = {
  subject: ({ subjectId }) => subjectId,
} satisfies LedgerLineResolvers;

export const LedgerEntry = {
  uuid: ({ id }) => id,
  hold: ({ pendingId }) => pendingId,
  reference: ({ referenceId }) => referenceId,
} satisfies LedgerEntryResolvers;

export const Earning = {
  adapterVersion: ({ adapterVersionId }) => toGlobalId('AdapterVersion', adapterVersionId),
} satisfies EarningResolvers;

export const Budget = {
  uuid: ({ id }) => id,
  key: ({ scope, subjectId }) =>
    scope === 'KEY' && subjectId !== null ? toGlobalId('ApiKey', subjectId) : null,
  adapter: ({ scope, subjectId }) =>
    scope === 'ADAPTER' && subjectId !== null ? toGlobalId('Adapter', subjectId) : null,
  periodStart: ({ start }) => start,
} satisfies BudgetResolvers;

export const BudgetUse = {
  periodStart: ({ start }) => start,
  periodEnd: ({ end }) => end,
} satisfies BudgetUseResolvers;

export const billingQueries = {
  balances: (_root, { tenant }, context) =>
    context.services.accounts.balances(
      requirePrincipal(context),
      optionalGlobalId('Tenant', tenant, 'tenant'),
    ),

  ledgerEntries: async (_root, args, context) => {
    const caller = requirePrincipal(context);
    const request = toPageRequest(args);
    const { from, to, kinds, tenant } = args;
    const query = {
      tenantId: optionalGlobalId('Tenant', tenant, 'tenant'),
      from: from ?? null,
      to: to ?? null,
      kinds: kinds == null || kinds.length === 0 ? null : kinds,
    };
    const page = await context.services.accounts.entries(caller, query, request);
    return toConnection(page, request, ({ id }) => id);
  },

  earnings: async (_root, args, context) => {
    const caller = requirePrincipal(context);
    const request = toPageRequest(args);
    const query = {
      tenantId: optionalGlobalId('Tenant', args.tenant, 'tenant'),
      from: args.from,
      to: args.to,
    };
    const start = {
      first: request.first,
      after: request.after === null ? null : parseEarning(request.after),
    };
    const page = await context.services.accounts.earnings(caller, query, start);
    return toConnection(page, request, ({ currency, adapterVersionId }) => `${currency}/${adapterVersionId}`);
  },

  budgets: (_root, { tenant }, context) =>
    context.services.budgets.list(requirePrincipal(context), optionalGlobalId('Tenant', tenant, 'tenant')),

  budgetPeriods: async (_root, { budget, tenant, ...args }, context) => {
    const caller = requirePrincipal(context);
    const request = toPageRequest(args);
    const before = request.after === null ? null : parseStart(request.after);
    const of = { tenantId: optionalGlobalId('Tenant', tenant, 'tenant'), budgetId: budget };
    const page = await context.services.budgets.uses(caller, of, { first: request.first, before });
    return toConnection(page, request, ({ start }) => start.toISOString());
  },
} satisfies QueryResolvers;

export const billingMutations = {
  topUp: (_root, { input }, context) => {
    const caller = requirePrincipal(context);
    return withUserErrors(async () => {
      const { idempotencyKey, tenant, amount, reason } = input;
      const tenantId = requireGlobalId('Tenant', tenant, 'tenant');
      const move = { idempotencyKey, tenantId, kind: 'TOP_UP' as const, amount, reason: reason ?? null };
      const { transferId, balance } = await context.services.funds.move(caller, move, context);
      return { transfer: transferId, balance };
    });
  },

  setCreditLimit: (_root, { input }, context) => {
    const caller = requirePrincipal(context);
    return withUserErrors(async () => {
      const { idempotencyKey, tenant, creditLimit, alertBelow } = input;
      const tenantId = requireGlobalId('Tenant', tenant, 'tenant');
      const limit = { idempotencyKey, tenantId, creditLimit, alertBelow: alertBelow ?? null };
      const { balance } = await context.services.funds.setCreditLimit(caller, limit, context);
      return { transfer: null, balance };
    });
  },

  adjustBalance: (_root, { input }, context) => {
    const caller = requirePrincipal(context);
    return withUserErrors(async () => {
      const { idempotencyKey, tenant, kind, amount, reason } = input;
      const tenantId = requireGlobalId('Tenant', tenant, 'tenant');
      const move = { idempotencyKey, tenantId, kind, amount, reason };
      const { transferId, balance } = await context.services.funds.move(caller, move, context);
      return { transfer: transferId, balance };
    });
  },

  setBudget: (_root, { input }, context) => {
    const caller = requirePrincipal(context);
    return withUserErrors(async () => {
      const { idempotencyKey, tenant, period, limit, alertsPpm } = input;
      const budget = {
        idempotencyKey,
        tenantId: optionalGlobalId('Tenant', tenant, 'tenant'),
        subject: toSubject(input),
        period,
        limit,
        alertsPpm: alertsPpm ?? null,
      };
      return { budget: await context.services.budgets.set(caller, budget, context) };
    });
  },

  removeBudget: (_root, { input }, context) => {
    const caller = requirePrincipal(context);
    return withUserErrors(async () => {
      const { idempotencyKey, tenant, budget } = input;
      const removal = {
        idempotencyKey,
        tenantId: optionalGlobalId('Tenant', tenant, 'tenant'),
        budgetId: budget,
      };
      return { uuid: await context.services.budgets.remove(caller, removal, context) };
    });
  },
} satisfies MutationResolvers;

/** What a budget bounds, or `BAD_INPUT` when the ids that are given do not fit its scope. */
function toSubject({ scope, key, adapter }: SetBudgetInput): BudgetSubject {
  if (key != null && scope !== 'KEY') throw unfit('key', 'KEY');
  if (adapter != null && scope !== 'ADAPTER') throw unfit('adapter', 'ADAPTER');
  switch (scope) {
    case 'TENANT':
      return { scope };
    case 'KEY':
      return { scope, keyId: requireGlobalId('ApiKey', key ?? '', 'key') };
    case 'ADAPTER':
      return { scope, adapterId: requireGlobalId('Adapter', adapter ?? '', 'adapter') };
  }
}

function unfit(field: string, scope: string): PatchbayError {
  return new PatchbayError('BAD_INPUT', `\`${field}\` is for budgets of scope ${scope} alone.`, { field });
}

/** The cursor of a budget's period: when it began. */
function parseStart(key: string): Date {
  const start = new Date(key);
  if (Number.isNaN(start.getTime()) || start.toISOString() !== key) throw badCursor();
  return start;
}

/** Takes the cursor of an earning apart: its currency and its adapter version. */
function parseEarning(key: string): { readonly currency: string; readonly versionId: string } {
  const [currency = '', versionId = ''] = key.split('/');
  if (!/^[A-Z0-9]{3,8}$/.test(currency) || !isUuid(versionId)) throw badCursor();
  return { currency, versionId };
}
