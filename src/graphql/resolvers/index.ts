import type { Resolvers } from '../generated/types.ts';
import {
  Adapter,
  AdapterUpload,
  AdapterVersion,
  adapterMutations,
  adapterQueries,
  adapterSubscriptions,
} from './adapter.ts';
import { Backbone, backboneQueries } from './backbone.ts';
import { baseQueries } from './base.ts';
import {
  Balance,
  Budget,
  BudgetUse,
  billingMutations,
  billingQueries,
  Earning,
  LedgerEntry,
  LedgerLine,
} from './billing.ts';
import { anchoredEpoch, ChainProblem, ChainStatus, chainQueries, EpochAnchor } from './chain.ts';
import {
  AdapterEconomics,
  Economics,
  EconomicsFigures,
  EconomicsTotals,
  economicsQueries,
  TenantEconomics,
} from './economics.ts';
import { EngineStatus, engineQueries } from './engine.ts';
import { Epoch, epochMutations, epochQueries } from './epochs.ts';
import { Event, eventQueries, eventSubscriptions } from './event.ts';
import { Export, exportMutations, exportQueries } from './export.ts';
import { AuditRecord, governanceMutations, governanceQueries, Member, Quota } from './governance.ts';
import { GeneratedToken, inferenceMutations, inferenceSubscriptions } from './inference.ts';
import {
  BillingTerms,
  BillingTermsVersion,
  CreditNote,
  Invoice,
  InvoiceAdjustment,
  InvoiceLine,
  invoiceMutations,
  invoiceQueries,
  OpenPeriod,
} from './invoice.ts';
import { LogConsistency, LogHead, logQueries } from './log.ts';
import {
  EarningsStatement,
  Payout,
  PayoutBatch,
  PayoutDestination,
  PayoutImport,
  payoutMutations,
  payoutQueries,
  StatementLine,
} from './payout.ts';
import {
  PriceTerms,
  PriceVersion,
  pricingMutations,
  pricingQueries,
  Quote,
  RoyaltyVersion,
  SplitDecision,
  SplitProposal,
  SplitVersion,
} from './pricing.ts';
import { receiptQueries } from './receipts.ts';
import { Reconciliation, ReconciliationDifference, reconciliationQueries } from './reconciliation.ts';
import { ApiKey, Tenant, tenantMutations, tenantQueries, Viewer } from './tenant.ts';
import { InferenceRequest, UsageRecord, UsageSummary, UsageTotals, usageQueries } from './usage.ts';

/** Every resolver, by type and field. Fields without one are read off their parent. */
export const resolvers = {
  Query: {
    ...baseQueries,
    ...tenantQueries,
    ...governanceQueries,
    ...backboneQueries,
    ...adapterQueries,
    ...usageQueries,
    ...engineQueries,
    ...pricingQueries,
    ...billingQueries,
    ...eventQueries,
    ...invoiceQueries,
    ...payoutQueries,
    ...reconciliationQueries,
    ...exportQueries,
    ...economicsQueries,
    ...receiptQueries,
    ...logQueries,
    ...epochQueries,
    ...chainQueries,
  },
  Mutation: {
    ...tenantMutations,
    ...governanceMutations,
    ...adapterMutations,
    ...inferenceMutations,
    ...pricingMutations,
    ...billingMutations,
    ...invoiceMutations,
    ...payoutMutations,
    ...exportMutations,
    ...epochMutations,
  },
  Subscription: { ...inferenceSubscriptions, ...adapterSubscriptions, ...eventSubscriptions },
  Tenant,
  ApiKey,
  Viewer,
  Member,
  Quota,
  AuditRecord,
  Backbone,
  Adapter,
  AdapterVersion,
  AdapterUpload,
  GeneratedToken,
  UsageRecord,
  UsageSummary,
  LogHead,
  LogConsistency,
  Epoch: { ...Epoch, ...anchoredEpoch },
  EpochAnchor,
  ChainStatus,
  ChainProblem,
  UsageTotals,
  InferenceRequest,
  EngineStatus,
  PriceTerms,
  PriceVersion,
  RoyaltyVersion,
  SplitVersion,
  SplitDecision,
  SplitProposal,
  Quote,
  Balance,
  LedgerLine,
  LedgerEntry,
  Earning,
  Budget,
  BudgetUse,
  Event,
  Invoice,
  InvoiceLine,
  InvoiceAdjustment,
  CreditNote,
  BillingTerms,
  BillingTermsVersion,
  OpenPeriod,
  EarningsStatement,
  StatementLine,
  PayoutDestination,
  Payout,
  PayoutBatch,
  PayoutImport,
  Reconciliation,
  ReconciliationDifference,
  Export,
  Economics,
  EconomicsFigures,
  EconomicsTotals,
  AdapterEconomics,
  TenantEconomics,
} satisfies Resolvers;
