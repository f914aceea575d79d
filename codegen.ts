import type { CodegenConfig } from '@graphql-codegen/cli';

/**
 * Resolver types from the SDL. The output is not committed: `npm run generate` writes it in about a second and
 * needs no network.
 */
const config: CodegenConfig = {
  schema: 'schema/*.graphql',
  generates: {
    'src/graphql/generated/types.ts': {
      plugins: ['typescript', 'typescript-resolvers'],
      config: {
        contextType: '../context.ts#GraphqlContext',
        enumsAsTypes: true,
        useTypeImports: true,
        immutableTypes: true,
        strictScalars: true,
        optionalResolveType: true,
        // Explicit null and a missing key mean the same to the resolvers, so input fields allow both.
        inputMaybeValue: 'T | null | undefined',
        mappers: {
          Tenant: '../../tenant/service.ts#Tenant as TenantModel',
          ApiKey: '../../tenant/api-keys.ts#ApiKey as ApiKeyModel',
          Member: '../../tenant/members.ts#Member as MemberModel',
          Quota: '../../tenant/quotas.ts#QuotaState',
          AuditRecord: '../../tenant/audit-log.ts#AuditRecord as AuditModel',
          Backbone: '../../adapter/types.ts#BackboneModel',
          Adapter: '../../adapter/types.ts#AdapterModel',
          AdapterVersion: '../../adapter/types.ts#AdapterVersionModel',
          AdapterUpload: '../../adapter/types.ts#AdapterUploadModel',
          UsageRecord: '../../usage/records.ts#UsageRecord as UsageRecordModel',
          OwnedUsage: '../../usage/records.ts#OwnedShare',
          UsageRow: '../access/usage.ts#UsageRow as UsageRowModel',
          UsageTotals: '../../usage/service.ts#UsageTotals as UsageTotalsModel',
          InferenceRequest: '../../usage/service.ts#RequestView',
          GeneratedToken: '../../engine/port.ts#GeneratedToken as EngineToken',
          EngineStatus: '../access/engine.ts#EngineSnapshot',
          PriceTerms: '../../pricing/terms.ts#PriceTerms as PriceTermsModel',
          PriceVersion: '../../pricing/rows.ts#PriceVersion as PriceVersionModel',
          RoyaltyVersion: '../../pricing/rows.ts#RoyaltyVersion as RoyaltyVersionModel',
          SplitVersion: '../../pricing/splits.ts#SplitVersion as SplitVersionModel',
          SplitDecision: '../../pricing/splits.ts#SplitDecision as SplitDecisionModel',
          SplitProposal: '../../pricing/splits.ts#SplitProposal as SplitProposalModel',
          Quote: '../../pricing/quote.ts#Quote as QuoteModel',
          Balance: '../../ledger/types.ts#Balance as BalanceModel',
          CustomerBalance: '../../billing/funds-terms.ts#CustomerBalance as CustomerBalanceModel',
          LedgerLine: '../../billing/entries.ts#EntryLine',
          LedgerEntry: '../../billing/entries.ts#LedgerEntry as LedgerEntryModel',
          Earning: '../../billing/entries.ts#Earning as EarningModel',
          Budget: '../../billing/budget-state.ts#BudgetState',
          Event: '../../events/types.ts#OutboxEvent',
          Invoice: '../../invoicing/rows.ts#Invoice as InvoiceModel',
          InvoiceLine: '../resolvers/invoice.ts#NamedLine',
          InvoiceAdjustment: '../../invoicing/adjustments.ts#Adjustment',
          OpenPeriod: '../../invoicing/open-periods.ts#OpenPeriod as OpenPeriodModel',
          CreditNote: '../../invoicing/rows.ts#CreditNote as CreditNoteModel',
          BillingTerms: '../../invoicing/terms.ts#BillingTerms as BillingTermsModel',
          BillingTermsVersion: '../../invoicing/terms.ts#BillingTermsVersion as BillingTermsVersionModel',
          EarningsBalance: '../../payouts/types.ts#EarningsBalance as EarningsBalanceModel',
          EarningsStatement: '../../payouts/types.ts#EarningsStatement as EarningsStatementModel',
          StatementLine: '../../payouts/types.ts#StatementLine as StatementLineModel',
          PayoutDestination: '../../payouts/types.ts#PayoutDestination as PayoutDestinationModel',
          Payout: '../../payouts/types.ts#Payout as PayoutModel',
          PayoutBatch: '../../payouts/types.ts#PayoutBatch as PayoutBatchModel',
          PayoutImport: '../../payouts/types.ts#PayoutImport as PayoutImportModel',
          Export: '../../exports/rows.ts#ExportModel',
          Viewer: '../../auth/principal.ts#Principal',
        },
        scalars: {
          ID: 'string',
          DateTime: 'Date',
          UUID: 'string',
          BigInt: 'bigint',
          Money: 'bigint',
          JSONObject: 'Readonly<Record<string, string | number | boolean | null>>',
        },
      },
    },
  },
};

export default config;
