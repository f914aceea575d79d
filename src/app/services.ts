import { randomBytes } from 'node:crypto';
import { registerBackbone } from '../adapter/backbones.ts';
import { IncomingFiles } from '../adapter/incoming.ts';
import type { AdapterService } from '../adapter/service.ts';
import { Authenticator } from '../auth/authenticator.ts';
import type { ImportedBackbone } from '../backbone/import.ts';
import { openText } from '../backbone/text/open.ts';
import { AccountBook } from '../billing/account-book.ts';
import { AccountService } from '../billing/accounts.ts';
import { BudgetService } from '../billing/budgets.ts';
import { FundsService } from '../billing/funds.ts';
import { Pricer, recharge } from '../billing/pricer.ts';
import type { Chain } from '../chain/open.ts';
import type { AppDeps } from '../cli/app-port.ts';
import type { Config } from '../config/index.ts';
import type { Database } from '../db/client.ts';
import type { RoleUrls } from '../db/roles.ts';
import { ResidencyWriter } from '../economics/residency-writer.ts';
import { EconomicsService } from '../economics/service.ts';
import { DEFAULT_ENGINE_OPTIONS } from '../engine/options.ts';
import type { Engine } from '../engine/port.ts';
import { EVENT_FEED_DEFAULTS, EventFeed } from '../events/feed.ts';
import { EventService } from '../events/service.ts';
import type { ExportService } from '../exports/service.ts';
import type { PromptEncoder } from '../inference/ports.ts';
import { INFERENCE_DEFAULTS, InferenceService } from '../inference/service.ts';
import { createInvoicing, type Invoicing } from '../invoicing/invoicing.ts';
import type { Clock } from '../kernel/clock.ts';
import { EARNINGS_ROLLUP_DEFAULTS, EarningsRollup } from '../ledger/earnings.ts';
import { LedgerSealer, SEALER_DEFAULTS } from '../ledger/sealer.ts';
import { LEDGER_DEFAULTS, LedgerService } from '../ledger/service.ts';
import { METERING_DEFAULTS, Metering } from '../metering/metering.ts';
import { every } from '../metering/periodic.ts';
import type { ChainPayouts } from '../payouts/chain/open.ts';
import { FilePayoutRail } from '../payouts/file-rail.ts';
import { openPayouts, type PayoutServices } from '../payouts/open.ts';
import { PAYOUT_DEFAULTS } from '../payouts/types.ts';
import { ensureDefaultPrice } from '../pricing/default-price.ts';
import { PriceResolver } from '../pricing/resolver.ts';
import { PricingService } from '../pricing/service.ts';
import { SplitService } from '../pricing/splits.ts';
import type { Proofs } from '../proofs/open.ts';
import { booksOf } from '../reconciliation/books.ts';
import { ReconciliationService } from '../reconciliation/service.ts';
import { ApiKeyService } from '../tenant/api-keys.ts';
import { AuditService } from '../tenant/audit-log.ts';
import { MemberService } from '../tenant/members.ts';
import { QuotaService } from '../tenant/quotas.ts';
import { TenantService } from '../tenant/service.ts';
import { DAY_ROLLUP_DEFAULTS, DayRollup } from '../usage/days.ts';
import { UsageService } from '../usage/service.ts';
import { encoderOf, resolverOf, startAdapters } from './adapters.ts';
import { startChain } from './chain.ts';
import { startChainPayouts } from './chain-payouts.ts';
import { folders } from './engine.ts';
import { startExports } from './exports.ts';
import type { Lifecycle } from './lifecycle.ts';
import { startProofs } from './proofs.ts';

/** How often the ledger's new rows are sealed into its chain. */
const SEAL_MS = 1_000;
/** How often holds that have run out are released. */
const EXPIRE_MS = 60_000;
/** How often leftovers are removed: files of finished uploads, half-written blobs, old idempotency keys. */
const SWEEP_MS = 60_000;
/** How often minimum charges that did not fit into a balance are tried again. */
const COLLECT_MS = 60_000;

/** How often it is looked whether a day of usage is over. */
const DAYS_MS = 60_000;

/** What the domain services are made of. */
export interface ServiceParts {
  readonly config: Config;
  readonly secret: string;
  readonly database: Database;
  /** URL of the system role, for notifications. */
  readonly systemUrl: string;
  readonly engine: Engine;
  readonly backbone: ImportedBackbone;
  /** Base URL of uploads; known once the server listens. */
  readonly uploadUrl: () => string;
  /** The roles' URLs, for the threads that write exports. */
  readonly roleUrls: RoleUrls;
  /** Base URL of the files of exports, likewise. */
  readonly exportUrl: () => string;
}

/** The domain services of one process. */
export interface Services {
  readonly authenticator: Authenticator;
  readonly tenants: TenantService;
  readonly apiKeys: ApiKeyService;
  readonly members: MemberService;
  readonly quotas: QuotaService;
  readonly audit: AuditService;
  readonly adapters: AdapterService;
  readonly incoming: IncomingFiles;
  readonly metering: Metering;
  readonly inference: InferenceService;
  readonly usage: UsageService;
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
  readonly encoder: PromptEncoder;
  readonly exports: ExportService;
  readonly economics: EconomicsService;
  /** Null while proofs are off. */
  readonly proofs: Proofs | null;
  /** Null where no chain is set up. */
  readonly chain: Chain | null;
}

/** Makes and starts the domain services; the lifecycle learns how to stop them. */
export async function startServices(
  parts: ServiceParts,
  deps: AppDeps,
  lifecycle: Lifecycle,
): Promise<Services> {
  const { config, secret, database, engine, backbone } = parts;
  const { clock, logger } = deps;
  const warn = (what: string) => (err: unknown) => logger.warn({ err }, what);
  const registry = { database, clock };
  await registerBackbone(registry, backbone.manifest);
  const { digest: backboneDigest } = backbone.manifest;
  if (config.pricing.defaultPrice === 'zero') {
    const { currency } = config.pricing;
    const price = await ensureDefaultPrice(registry, { backboneDigest, currency });
    if (price === 'ZERO')
      logger.info({ backbone: backboneDigest }, 'The backbone had no price and has got one of zero');
    if (price === 'MISSING')
      logger.warn({ backbone: backboneDigest }, 'The backbone has no price: its requests are refused');
  }

  const audit = new AuditService(registry);
  const authenticator = new Authenticator(
    { pepper: secret },
    {
      ...registry,
      onError: warn('Key use not written'),
      onRefused: (principal, reason, requestId) =>
        audit
          .refusedKey(principal, reason, { requestId })
          .catch(warn('The use of a refused key was not recorded')),
    },
  );
  lifecycle.add('authenticator', () => authenticator.close());
  const tenants = new TenantService(registry);
  const apiKeys = new ApiKeyService({ pepper: secret }, { ...registry, randomBytes });

  const text = openText(backbone.dir, backbone.manifest);
  const encoder = encoderOf(text);
  const incoming = new IncomingFiles({ folder: folders(config).incoming });
  const adapters = await startAdapters(parts, text, incoming, deps, lifecycle);

  const ledger = new LedgerService(LEDGER_DEFAULTS, registry);
  const prices = new PriceResolver(registry);
  const pricer = new Pricer({ resolver: prices, accounts: new AccountBook(ledger), clock });
  startLedger(ledger, { database, clock, onError: warn('The ledger will try again') }, lifecycle);

  const proofs = await startProofs(parts, deps, lifecycle);
  const recorder = { ...METERING_DEFAULTS.recorder, quotas: config.quotas };
  const metering = new Metering(
    { ...METERING_DEFAULTS, leaseMs: config.metering.leaseMs, recorder },
    {
      ...registry,
      recharge,
      witness: proofs?.counters ?? null,
      onBackgroundError: (task, err) => logger.warn({ err, task }, 'Metering will try again'),
      onRecovery: ({ settled }) =>
        logger.warn({ requests: settled.length }, 'Settled requests of a lost process'),
    },
  );
  await metering.start();
  lifecycle.add('metering', () => metering.stop());

  const inference = new InferenceService(
    { ...INFERENCE_DEFAULTS, maxBlendWeight: DEFAULT_ENGINE_OPTIONS.maxBlendWeight },
    {
      engine,
      encoder,
      adapters: resolverOf(adapters),
      pricer,
      clock,
      randomBytes,
      recorder: metering.recorder,
      lease: metering.lease,
      receipts: proofs?.desk ?? null,
    },
  );
  inference.start();
  const events = new EventFeed(EVENT_FEED_DEFAULTS, {
    database,
    onError: warn('Events will be looked for again'),
  });
  lifecycle.add('events', () => events.close());
  lifecycle.add('inference', () => inference.drain({ graceMs: config.server.drainMs }));
  const invoicing = createInvoicing({ ...registry, books: booksOf(database) }, config.invoices);
  const collect = every(COLLECT_MS, async () => {
    const again = warn('Open charges will be tried again');
    try {
      const { failed } = await invoicing.invoices.collectOpenCharges();
      for (const { error } of failed) again(error);
    } catch (error) {
      again(error);
    }
  });
  lifecycle.add('open charges', () => collect.stop());
  const days = new DayRollup(DAY_ROLLUP_DEFAULTS, { database });
  const summing = every(DAYS_MS, () => days.run().then(() => {}, warn('Days will be summed up again')));
  lifecycle.add('usage by day', () => summing.stop());
  const chain = await startChain(parts, deps, lifecycle);
  return {
    authenticator,
    tenants,
    apiKeys,
    members: new MemberService(registry),
    quotas: new QuotaService({ defaults: config.quotas }, registry),
    audit,
    adapters,
    incoming,
    metering,
    inference,
    usage: new UsageService({ database }),
    pricing: new PricingService(registry),
    splits: new SplitService(registry),
    prices,
    accounts: new AccountService({ database }),
    funds: new FundsService(registry),
    budgets: new BudgetService(registry),
    events: new EventService({ database, feed: events }),
    invoicing,
    payouts: startPayouts(
      parts,
      deps,
      lifecycle,
      startChainPayouts({ config, database, chain, proofs }, deps, lifecycle),
    ),
    reconciliation: new ReconciliationService({ database }),
    encoder,
    exports: startExports(parts, deps, lifecycle),
    economics: startEconomics(parts, deps, lifecycle),
    proofs,
    chain,
  };
}

/** Seals what the ledger wrote and sums up its earnings, and releases holds that have run out. */
function startLedger(
  ledger: LedgerService,
  deps: { readonly database: Database; readonly clock: Clock; readonly onError: (error: unknown) => void },
  lifecycle: Lifecycle,
): void {
  const sealer = new LedgerSealer(SEALER_DEFAULTS, deps);
  const earnings = new EarningsRollup(EARNINGS_ROLLUP_DEFAULTS, deps);
  const seal = every(SEAL_MS, async () => {
    await sealer.run().catch(deps.onError);
    await earnings.run().catch(deps.onError);
  });
  const expire = every(EXPIRE_MS, () => ledger.expireDue().then(() => {}, deps.onError));
  lifecycle.add('ledger', async () => {
    await Promise.all([seal.stop(), expire.stop()]);
  });
}

/** Writes what adapters take of the engine; for that it must stop before the engine does. */
function startEconomics(
  { config, database, engine }: ServiceParts,
  { clock, logger }: AppDeps,
  lifecycle: Lifecycle,
): EconomicsService {
  const onError = (err: unknown): void => logger.warn({ err }, 'Residency will be written later');
  const writer = new ResidencyWriter({ engine, database, clock, onError });
  writer.start();
  lifecycle.add('residency', () => writer.stop());
  const { machinePriceNano: perHour, memoryPercent } = config.economics;
  return new EconomicsService({ perHour, memoryPercent }, { database });
}

/** Goes on, every minute, with batches that a lost process was handing over, and ends those that are forgotten. */
function startPayouts(
  { config, database }: ServiceParts,
  { clock, logger }: AppDeps,
  lifecycle: Lifecycle,
  chain: ChainPayouts | null,
): PayoutServices {
  const payouts = openPayouts(
    { ...PAYOUT_DEFAULTS, ...config.payouts },
    { database, clock, file: new FilePayoutRail({ folder: folders(config).payouts }), chain },
  );
  const sweep = async (): Promise<void> => {
    try {
      const { resumed, failed } = await payouts.batches.resume();
      for (const { id } of resumed) {
        logger.warn({ batch: id }, 'Went on with a payout batch that was being handed over');
      }
      for (const { batchId, error } of failed) {
        logger.warn(
          { batch: batchId, err: error },
          'A payout batch could not be handed over; it will be tried again',
        );
      }
      const forgotten = await payouts.batches.expire();
      for (const { id } of forgotten.expired) {
        logger.warn({ batch: id }, 'Cancelled a payout batch that nobody handed over');
      }
      for (const { batchId, error } of forgotten.failed) {
        logger.warn(
          { batch: batchId, err: error },
          'A forgotten payout batch could not be cancelled; it will be tried again',
        );
      }
    } catch (err) {
      logger.warn({ err }, 'Payout batches will be looked for again');
    }
  };
  const sweeping = every(SWEEP_MS, sweep);
  lifecycle.add('payouts', () => sweeping.stop());
  return payouts;
}
