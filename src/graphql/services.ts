import type { AdapterService } from '../adapter/service.ts';
import type { BackboneModel } from '../adapter/types.ts';
import type { Principal } from '../auth/principal.ts';
import type { AccountService } from '../billing/accounts.ts';
import type { BudgetService } from '../billing/budgets.ts';
import type { FundsService } from '../billing/funds.ts';
import type { AnchorReader } from '../chain/anchoring/reader.ts';
import type { ChainStatusService } from '../chain/status.ts';
import type { Database } from '../db/client.ts';
import type { Page, PageRequest } from '../db/page.ts';
import type { EconomicsService } from '../economics/service.ts';
import type { Engine } from '../engine/port.ts';
import type { EventService } from '../events/service.ts';
import type { ExportService } from '../exports/service.ts';
import type { PromptEncoder } from '../inference/ports.ts';
import type { InferenceService } from '../inference/service.ts';
import type { Invoicing } from '../invoicing/invoicing.ts';
import type { Clock } from '../kernel/clock.ts';
import type { MemoryReport } from '../kernel/memory.ts';
import type { PayoutServices } from '../payouts/open.ts';
import type { PriceResolver } from '../pricing/resolver.ts';
import type { PricingService } from '../pricing/service.ts';
import type { SplitService } from '../pricing/splits.ts';
import type { ProofErasure } from '../proofs/epochs/erasure.ts';
import type { EpochService } from '../proofs/epochs/service.ts';
import type { KeyRegistry } from '../proofs/keys/registry.ts';
import type { LogService } from '../proofs/log/service.ts';
import type { ReceiptService } from '../proofs/receipts/service.ts';
import type { ReconciliationService } from '../reconciliation/service.ts';
import type { ApiKeyService } from '../tenant/api-keys.ts';
import type { AuditService } from '../tenant/audit-log.ts';
import type { MemberService } from '../tenant/members.ts';
import type { QuotaService } from '../tenant/quotas.ts';
import type { TenantService } from '../tenant/service.ts';
import type { UsageService } from '../usage/service.ts';
import { AdapterAccess } from './access/adapters.ts';
import { EngineAccess } from './access/engine.ts';
import { PricingAccess } from './access/pricing.ts';
import { UsageAccess } from './access/usage.ts';

/** The public methods of a class, so that a test can stand in for it. */
type Face<T> = { readonly [K in keyof T]: T[K] };

/** What resolvers call. Every method takes the principal first and checks what it may do. */
export interface GraphqlServices {
  readonly tenants: Pick<TenantService, 'getMany' | 'list' | 'create' | 'setState'>;
  readonly apiKeys: Pick<ApiKeyService, 'get' | 'getMany' | 'list' | 'create' | 'rotate' | 'revoke'>;
  readonly members: Pick<MemberService, 'getMany' | 'list' | 'add' | 'setRole' | 'remove'>;
  readonly quotas: Pick<QuotaService, 'read' | 'set'>;
  readonly audit: Pick<AuditService, 'list' | 'denied' | 'seen' | 'unseen'>;
  readonly adapters: Face<AdapterAccess>;
  readonly backbones: {
    list(principal: Principal, page: PageRequest): Promise<Page<BackboneModel>>;
    getMany(principal: Principal, digests: readonly string[]): Promise<readonly BackboneModel[]>;
  };
  readonly inference: Pick<InferenceService, 'infer' | 'generate'>;
  readonly usage: Face<UsageAccess>;
  readonly engine: Face<EngineAccess>;
  readonly pricing: Face<PricingAccess>;
  readonly accounts: Pick<AccountService, 'balances' | 'entries' | 'earnings'>;
  readonly funds: Pick<FundsService, 'move' | 'setCreditLimit'>;
  readonly budgets: Pick<BudgetService, 'list' | 'uses' | 'set' | 'remove'>;
  readonly events: Pick<EventService, 'list' | 'follow'>;
  readonly invoicing: Invoicing;
  readonly payouts: PayoutServices;
  readonly reconciliation: Pick<ReconciliationService, 'report'>;
  readonly economics: Pick<EconomicsService, 'report'>;
  readonly exports: Pick<ExportService, 'create' | 'get' | 'list' | 'delete' | 'link'>;
  /** Null while proofs are off. */
  readonly proofs: ProofServices | null;
  /** Null where no chain is set up. */
  readonly chain: ChainServices | null;
  readonly health: Health;
}

/** What is asked about receipts and the log. */
export interface ProofServices {
  readonly receipts: Pick<ReceiptService, 'find' | 'numbered'>;
  readonly log: LogService;
  readonly keys: Pick<KeyRegistry, 'list'>;
  readonly epochs: Pick<EpochService, 'find' | 'document' | 'list' | 'statement' | 'quarantine'>;
  readonly erasure: Pick<ProofErasure, 'erase'>;
}

/** What is asked about the chain. */
export interface ChainServices {
  readonly status: Pick<ChainStatusService, 'status'>;
  /** Null where nothing is anchored. */
  readonly anchors: Pick<AnchorReader, 'of'> | null;
}

/** What `Query.health` answers from. */
interface Health {
  readonly version: string;
  /** Whether the process admits work. */
  ready(): boolean;
  now(): Date;
}

/** The domain services of a process. */
interface GraphqlServicesDependencies {
  readonly database: Database;
  readonly clock: Clock;
  readonly tenants: TenantService;
  readonly apiKeys: ApiKeyService;
  readonly members: MemberService;
  readonly quotas: QuotaService;
  readonly audit: AuditService;
  readonly adapters: AdapterService;
  readonly inference: InferenceService;
  readonly usage: UsageService;
  readonly engine: Engine;
  readonly pricing: PricingService;
  readonly splits: SplitService;
  readonly prices: PriceResolver;
  readonly accounts: AccountService;
  readonly funds: FundsService;
  readonly budgets: BudgetService;
  readonly events: EventService;
  readonly invoicing: Invoicing;
  readonly payouts: PayoutServices;
  readonly reconciliation: ReconciliationService;
  readonly exports: ExportService;
  readonly economics: EconomicsService;
  readonly proofs: ProofServices | null;
  readonly chain: ChainServices | null;
  /** Counts the tokens of prompts that are to be priced. */
  readonly encoder: PromptEncoder;
  readonly memory: MemoryReport;
  /** Bytes that the process holds in memory now. */
  readonly residentBytes: () => number;
  /** Version of the program. */
  readonly version: string;
  /** Whether the process admits work. */
  readonly ready: () => boolean;
}

/** Puts permissions, idempotency and audit before the domain services that leave them to their caller. */
export function createGraphqlServices(dependencies: GraphqlServicesDependencies): GraphqlServices {
  const { adapters, clock, engine, ready, version } = dependencies;
  return {
    tenants: dependencies.tenants,
    apiKeys: dependencies.apiKeys,
    members: dependencies.members,
    quotas: dependencies.quotas,
    audit: dependencies.audit,
    adapters: new AdapterAccess({ ...dependencies, servedBackboneDigest: engine.info.backboneDigest }),
    backbones: {
      list: (principal, page) => adapters.backbones(principal.tenantId, page),
      getMany: (principal, digests) => adapters.backbonesOf(principal.tenantId, digests),
    },
    inference: dependencies.inference,
    usage: new UsageAccess(dependencies),
    engine: new EngineAccess(dependencies),
    pricing: new PricingAccess(dependencies),
    accounts: dependencies.accounts,
    funds: dependencies.funds,
    budgets: dependencies.budgets,
    events: dependencies.events,
    invoicing: dependencies.invoicing,
    payouts: dependencies.payouts,
    reconciliation: dependencies.reconciliation,
    exports: dependencies.exports,
    economics: dependencies.economics,
    proofs: dependencies.proofs,
    chain: dependencies.chain,
    health: { version, ready, now: () => new Date(clock.nowMs()) },
  };
}
