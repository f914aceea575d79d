import type { InvoiceLine as Line } from '../../invoicing/document.ts';
import { renderInvoice } from '../../invoicing/html.ts';
import type { Invoice as Bill } from '../../invoicing/rows.ts';
import type { BillingTerms as Terms } from '../../invoicing/terms.ts';
import { periodOf } from '../../kernel/period.ts';
import { type Placed, placedPage, toConnection, toPageRequest } from '../connections.ts';
import { requirePrincipal } from '../context.ts';
import { toUserError, withUserErrors } from '../errors.ts';
import type {
  BillingTermsInput,
  BillingTermsResolvers,
  BillingTermsVersionResolvers,
  CreditNoteResolvers,
  InvoiceAdjustmentResolvers,
  InvoiceLineResolvers,
  InvoiceResolvers,
  MutationResolvers,
  OpenPeriodResolvers,
  QueryResolvers,
} from '../generated/types.ts';
import { optionalGlobalId, requireGlobalId, toGlobalId } from '../ids.ts';

/** A line with what it is shown with and its place in the invoice: what pages go by. */
export type NamedLine = Placed<Line & { readonly name: string }>;

export const Invoice = {
  uuid: ({ id }) => id,
  tenant: ({ tenantId }) => toGlobalId('Tenant', tenantId),
  period: ({ period }) => periodOf(period.start).label,
  periodStart: ({ period }) => period.start,
  periodEnd: ({ period }) => period.end,
  lines: (invoice, args) => {
    const request = toPageRequest(args);
    return toConnection(placedPage(namedLines(invoice), request), request, ({ place }) => String(place));
  },
  charges: ({ chargesNano }) => chargesNano,
  adjustments: ({ document }) => document.adjustments,
  terms: ({ document }) => document.terms?.terms ?? null,
  total: ({ totalNano }) => totalNano,
  paidFromBalance: ({ prepaidNano }) => prepaidNano,
  due: ({ dueNano }) => dueNano,
  paymentTransfer: ({ paymentTransferId }) => paymentTransferId,
  open: ({ openNano }) => openNano,
  html: (invoice) => renderInvoice(invoice),
} satisfies InvoiceResolvers;

export const InvoiceLine = {
  adapterVersion: ({ adapterVersionId }) =>
    adapterVersionId === null ? null : toGlobalId('AdapterVersion', adapterVersionId),
  backbone: ({ backboneDigest }) => toGlobalId('Backbone', backboneDigest),
  price: ({ priceVersionId }) => priceVersionId,
  royalty: ({ royaltyVersionId }) => royaltyVersionId,
  inputAmount: ({ inputNano }) => inputNano,
  cachedAmount: ({ cachedNano }) => cachedNano,
  outputAmount: ({ outputNano }) => outputNano,
  rankAmount: ({ rankNano }) => rankNano,
  royaltyAmount: ({ royaltyNano }) => royaltyNano,
  total: ({ totalNano }) => totalNano,
} satisfies InvoiceLineResolvers;

export const InvoiceAdjustment = {
  from: (adjustment) => (adjustment.kind === 'TIER' ? adjustment.fromNano : null),
  discountPpm: (adjustment) => (adjustment.kind === 'TIER' ? Number(adjustment.discountPpm) : null),
  basis: (adjustment) => (adjustment.kind === 'TIER' ? adjustment.basisNano : null),
  amount: ({ amountNano }) => amountNano,
} satisfies InvoiceAdjustmentResolvers;

export const CreditNote = {
  uuid: ({ id }) => id,
  invoice: ({ invoiceId }) => invoiceId,
  amount: ({ amountNano }) => amountNano,
} satisfies CreditNoteResolvers;

export const BillingTerms = {
  free: ({ freeNano }) => freeNano,
  minimum: ({ minimumNano }) => minimumNano,
  tiers: ({ tiers }) =>
    tiers.map(({ fromNano, discountPpm }) => ({ from: fromNano, discountPpm: Number(discountPpm) })),
} satisfies BillingTermsResolvers;

export const BillingTermsVersion = {
  uuid: ({ id }) => id,
  tenant: ({ tenantId }) => (tenantId === null ? null : toGlobalId('Tenant', tenantId)),
} satisfies BillingTermsVersionResolvers;

export const OpenPeriod = {
  tenant: ({ tenantId }) => toGlobalId('Tenant', tenantId),
  period: ({ start }) => periodOf(start).label,
} satisfies OpenPeriodResolvers;

export const invoiceQueries = {
  invoices: async (_root, args, context) => {
    const caller = requirePrincipal(context);
    const request = toPageRequest(args);
    const filter = { tenantId: optionalGlobalId('Tenant', args.tenant, 'tenant') };
    const page = await context.services.invoicing.reader.list(caller, filter, request);
    return toConnection(page, request, ({ id }) => id);
  },

  invoice: (_root, { id }, context) => context.services.invoicing.reader.get(requirePrincipal(context), id),

  openPeriods: async (_root, args, context) => {
    const caller = requirePrincipal(context);
    const request = toPageRequest(args);
    const page = await context.services.invoicing.periods.open(caller, request);
    return toConnection(page, request, ({ start, tenantId }) => `${periodOf(start).label}/${tenantId}`);
  },

  billingTerms: async (_root, args, context) => {
    const caller = requirePrincipal(context);
    const request = toPageRequest(args);
    const tenantId = optionalGlobalId('Tenant', args.tenant, 'tenant');
    const page = await context.services.invoicing.terms.list(caller, tenantId, request);
    return toConnection(page, request, ({ id }) => id);
  },
} satisfies QueryResolvers;

export const invoiceMutations = {
  setBillingTerms: (_root, { input }, context) => {
    const caller = requirePrincipal(context);
    return withUserErrors(async () => {
      const change = {
        idempotencyKey: input.idempotencyKey,
        tenantId: optionalGlobalId('Tenant', input.tenant, 'tenant'),
        terms: input.terms == null ? null : toTerms(input.terms),
        effectiveFrom: input.effectiveFrom ?? null,
      };
      return { terms: await context.services.invoicing.terms.set(caller, change, context) };
    });
  },

  closePeriod: (_root, { input }, context) => {
    const caller = requirePrincipal(context);
    return withUserErrors(async () => {
      const { idempotencyKey, period } = input;
      const tenantId = requireGlobalId('Tenant', input.tenant, 'tenant');
      const closing = { idempotencyKey, tenantId, period };
      return { invoice: await context.services.invoicing.periods.close(caller, closing, context) };
    });
  },

  closePeriods: (_root, { input }, context) => {
    const caller = requirePrincipal(context);
    return withUserErrors(async () => {
      const { idempotencyKey, period } = input;
      const wanted = { idempotencyKey, period, first: input.first ?? 100, after: input.after ?? null };
      const { refused, ...done } = await context.services.invoicing.periods.closeAll(caller, wanted, context);
      return {
        ...done,
        refused: refused.map(({ tenantId, error }) => ({
          tenant: toGlobalId('Tenant', tenantId),
          error: toUserError(error),
        })),
      };
    });
  },

  finaliseInvoice: (_root, { input }, context) => {
    const caller = requirePrincipal(context);
    return withUserErrors(async () => ({
      invoice: await context.services.invoicing.invoices.finalise(caller, named(input), context),
    }));
  },

  markInvoicePaid: (_root, { input }, context) => {
    const caller = requirePrincipal(context);
    return withUserErrors(async () => {
      const paid = { ...named(input), reference: input.reference ?? null, topUpId: input.topUp ?? null };
      return { invoice: await context.services.invoicing.invoices.markPaid(caller, paid, context) };
    });
  },

  voidInvoice: (_root, { input }, context) => {
    const caller = requirePrincipal(context);
    return withUserErrors(async () => ({
      invoice: await context.services.invoicing.invoices.void(caller, named(input), context),
    }));
  },

  createCreditNote: (_root, { input }, context) => {
    const caller = requirePrincipal(context);
    return withUserErrors(async () => {
      const note = { ...named(input), amountNano: input.amount, reason: input.reason };
      return { creditNote: await context.services.invoicing.invoices.credit(caller, note, context) };
    });
  },
} satisfies MutationResolvers;

function named(input: { readonly idempotencyKey: string; readonly invoice: string }) {
  return { idempotencyKey: input.idempotencyKey, invoiceId: input.invoice };
}

function toTerms(input: BillingTermsInput): Terms {
  return {
    currency: input.currency,
    freeNano: input.free ?? 0n,
    minimumNano: input.minimum ?? 0n,
    tiers: (input.tiers ?? []).map(({ from, discountPpm }) => ({
      fromNano: from,
      discountPpm: BigInt(discountPpm),
    })),
  };
}

/** The lines of one invoice, which are parts of its document, with what they are shown with. */
function namedLines({ document, names }: Bill) {
  return document.lines.map((line) => ({
    ...line,
    name: names[line.adapterVersionId ?? line.backboneDigest] ?? line.adapterVersionId ?? line.backboneDigest,
  }));
}
