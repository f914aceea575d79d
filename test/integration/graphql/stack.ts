import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import { parseAdapterRef } from '../../../src/adapter/resolve.ts';
import { AccountBook } from '../../../src/billing/account-book.ts';
import { AccountService } from '../../../src/billing/accounts.ts';
import { BudgetService } from '../../../src/billing/budgets.ts';
import { FundsService } from '../../../src/billing/funds.ts';
import { Pricer, recharge } from '../../../src/billing/pricer.ts';
import { EconomicsService } from '../../../src/economics/service.ts';
import type { EngineInfo, EngineStatus } from '../../../src/engine/port.ts';
import { EVENT_FEED_DEFAULTS, EventFeed } from '../../../src/events/feed.ts';
import { EventService } from '../../../src/events/service.ts';
import { registerDownloadRoute } from '../../../src/exports/download.ts';
import { DEFAULT_EXPORT_QUEUE, ExportQueue } from '../../../src/exports/queue.ts';
import { ExportService } from '../../../src/exports/service.ts';
import { SOURCES } from '../../../src/exports/sources.ts';
import { writeExport } from '../../../src/exports/write.ts';
import { createGraphqlServices } from '../../../src/graphql/services.ts';
import { createHttpServer } from '../../../src/http/server.ts';
import type { PromptEncoder } from '../../../src/inference/ports.ts';
import { INFERENCE_DEFAULTS, InferenceService } from '../../../src/inference/service.ts';
import { systemClock } from '../../../src/kernel/clock.ts';
import { newId } from '../../../src/kernel/ids.ts';
import { DEFAULT_CURRENCY, NANO } from '../../../src/kernel/money.ts';
import { LEDGER_DEFAULTS, LedgerService } from '../../../src/ledger/service.ts';
import { METERING_DEFAULTS, Metering } from '../../../src/metering/metering.ts';
import { pause } from '../../../src/metering/periodic.ts';
import { FilePayoutRail } from '../../../src/payouts/file-rail.ts';
import { openPayouts } from '../../../src/payouts/open.ts';
import { PAYOUT_DEFAULTS } from '../../../src/payouts/types.ts';
import { ensureDefaultPrice } from '../../../src/pricing/default-price.ts';
import { PriceResolver } from '../../../src/pricing/resolver.ts';
import { PricingService } from '../../../src/pricing/service.ts';
import { SplitService } from '../../../src/pricing/splits.ts';
import { registerLogRoutes } from '../../../src/proofs/log/routes.ts';
import { openProofs } from '../../../src/proofs/open.ts';
import { DESK_DEFAULTS } from '../../../src/proofs/receipts/desk.ts';
import { ReconciliationService } from '../../../src/reconciliation/service.ts';
import { UsageService } from '../../../src/usage/service.ts';
import { createInvoicing } from '../../kit/invoicing.ts';
import { testSigner } from '../../kit/log.ts';
import { createTenancy } from '../../kit/tenancy.ts';
import { CONTEXT } from '../../unit/adapter/sample.ts';
import type { Answer } from '../../unit/graphql/server.ts';
import { openRegistry } from '../adapter/kit.ts';
import { FakeEngine, plays } from '../inference/fake-engine.ts';
import { openStackChain } from './stack-chain.ts';

/** The fake engine on the backbone that the sample adapters are for. */
class StackEngine extends FakeEngine {
  override readonly info: EngineInfo = { ...new FakeEngine().info, backboneDigest: CONTEXT.backboneDigest };

  override async status(): Promise<EngineStatus> {
    return {
      running: 1,
      waiting: 2,
      waitingForAdapter: 3,
      steps: 4,
      tokensGenerated: 5,
      kvBytesUsed: 6,
      kvBytesBudget: 7,
      hostCacheBytesUsed: 8,
      hostCacheBytesBudget: 9,
      prefixes: { bytesUsed: 10, bytesBudget: 11, hits: 12, tokens: 13 },
      residentAdapters: [{ digest: 'ab'.repeat(32), rank: 8, bytes: 10, tier: 'bank', inUse: 1 }],
      stepMs: { total: 4, model: 3, adapter: 0.5, host: 0.5 },
    };
  }
}

/** What the addresses of exports are signed with. */
export const EXPORT_SECRET = 'test-export-secret';

/** Everything real but the engine, with a price of zero unless it is to have none: database, tenancy, registry, metering, inference, usage, GraphQL. */
export async function openStack({
  priced = true,
  destinationDelayMs = PAYOUT_DEFAULTS.destinationDelayMs,
}: {
  readonly priced?: boolean;
  readonly destinationDelayMs?: number;
} = {}) {
  const registry = await openRegistry();
  const { database } = registry.db;
  const clock = systemClock;
  const tenancy = createTenancy(database, clock);
  const prices = new PriceResolver({ database, clock });
  const ledger = new LedgerService(LEDGER_DEFAULTS, { database, clock });
  const pricer = new Pricer({ resolver: prices, accounts: new AccountBook(ledger), clock });
  if (priced) {
    const { backboneDigest } = CONTEXT;
    await ensureDefaultPrice({ database, clock }, { backboneDigest, currency: DEFAULT_CURRENCY });
  }
  const onError = (error: unknown) => {
    throw error;
  };
  // Epochs are closed when a test closes them.
  const proofs = await openProofs(
    { database, clock, signer: testSigner(), randomBytes, pause, onError },
    { epochs: { intervalMs: 0, leavesMax: 100_000 }, desk: { ...DESK_DEFAULTS, betweenMs: 0 } },
  );
  const metering = new Metering(
    // So long that no sweep of its own gets among the statements that tests count.
    { ...METERING_DEFAULTS, leaseMs: 600_000 },
    { database, clock, recharge, witness: proofs.counters },
  );
  await metering.start();
  const engine = new StackEngine();
  engine.script = plays(({ stop }) => Math.min(stop.maxTokens, 5));
  const encoder: PromptEncoder = {
    encode: (text) => [...text].map((c) => c.charCodeAt(0) % 1_000),
    encodeChat: (messages) => messages.map((message) => message.content.length),
  };
  const inference = new InferenceService(
    { ...INFERENCE_DEFAULTS, maxBlendWeight: 16 },
    {
      engine,
      encoder,
      adapters: {
        resolveForInference: (tenantId, refs, backboneDigest) =>
          registry.service.resolveForInference(
            tenantId,
            refs.map((use) => ({
              ref: parseAdapterRef(use.adapter, 'version' in use ? use.version : undefined),
              weight: use.weight ?? 1,
            })),
            backboneDigest,
          ),
      },
      pricer,
      recorder: metering.recorder,
      lease: metering.lease,
      receipts: proofs.desk,
      clock,
      randomBytes,
    },
  );
  const funds = new FundsService({ database, clock });
  const budgets = new BudgetService({ database, clock });
  const events = new EventFeed({ ...EVENT_FEED_DEFAULTS, pollMs: 20 }, { database });
  const payoutFolder = await mkdtemp(join(tmpdir(), 'patchbay-stack-'));
  // Without a holdback window, so that what a test earns it can pay at once.
  const { place, payouts: chainPayouts } = openStackChain({ database, clock, signer: proofs.claims });
  const payouts = openPayouts(
    { ...PAYOUT_DEFAULTS, holdbackMs: 0, destinationDelayMs },
    { database, clock, file: new FilePayoutRail({ folder: payoutFolder }), chain: chainPayouts },
  );
  const exportFolder = mkdtempSync(join(tmpdir(), 'patchbay-stack-'));
  let exportUrl = '';
  const exportQueue = new ExportQueue(
    // It is woken when there is something, and never gets among the statements that tests count.
    {
      ...DEFAULT_EXPORT_QUEUE,
      pollMs: 600_000,
      instanceId: newId(clock),
      folder: exportFolder,
      keepMs: 3_600_000,
    },
    {
      database,
      clock,
      run: ({ source, format, reach, from, until }, path, how) =>
        writeExport(database, { source: SOURCES[source], reach, from, until }, { path, format, ...how }),
    },
  );
  exportQueue.start();
  const exports = new ExportService(
    { activeMax: 100, keptMax: 100, urlTtlMs: 60_000, secret: EXPORT_SECRET, baseUrl: () => exportUrl },
    { database, clock, onCreated: () => exportQueue.wake() },
  );
  const revocations = new Set<(keyId: string) => void>();
  const server = await createHttpServer(
    { host: '127.0.0.1', port: 0 },
    {
      clock,
      log: pino({ level: 'silent' }),
      authenticate: (authorization, requestId) =>
        tenancy.authenticator.authenticate(authorization, requestId),
      onKeyRevoked: (listener) => {
        revocations.add(listener);
        return () => revocations.delete(listener);
      },
      ready: () => true,
      routes: [
        (app) =>
          registerDownloadRoute(app, {
            database,
            clock,
            folder: exportFolder,
            secret: EXPORT_SECRET,
            path: '/exports',
          }),
        (app) => registerLogRoutes(app, proofs),
      ],
      services: createGraphqlServices({
        database,
        clock,
        tenants: tenancy.tenants,
        apiKeys: tenancy.keys,
        members: tenancy.members,
        quotas: tenancy.quotas,
        audit: tenancy.audit,
        adapters: registry.service,
        inference,
        usage: new UsageService({ database }),
        pricing: new PricingService({ database, clock }),
        splits: new SplitService({ database, clock }),
        prices,
        accounts: new AccountService({ database }),
        funds,
        budgets,
        events: new EventService({ database, feed: events }),
        invoicing: createInvoicing({ database, clock }),
        payouts,
        reconciliation: new ReconciliationService({ database }),
        encoder,
        exports,
        economics: new EconomicsService({ perHour: NANO, memoryPercent: 50 }, { database }),
        proofs,
        chain: null,
        engine,
        memory: { totalBytes: 100, parts: [{ name: 'weights', bytes: 60 }] },
        residentBytes: () => 90,
        version: '0.0.0-test',
        ready: () => true,
      }),
    },
  );
  const { graphqlUrl, url } = await server.listen();
  exportUrl = `${url}/exports`;

  return {
    url,
    registry,
    tenancy,
    engine,
    proofs,
    events,
    funds,
    budgets,
    inference,
    exports,
    server,
    graphqlUrl,
    payouts,
    place,

    /** A tenant with a key of the usual scopes. */
    async tenant(slug: string) {
      const tenant = await tenancy.createTenant(slug);
      return { tenant, key: await tenancy.createKey(tenant.id) };
    },

    async query(
      header: string,
      query: string,
      variables: Record<string, unknown> = {},
    ): Promise<Answer['body']> {
      const response = await fetch(graphqlUrl, {
        method: 'POST',
        headers: { 'content-type': 'application/json', authorization: header },
        body: JSON.stringify({ query, variables }),
      });
      return JSON.parse(await response.text());
    },

    async close(): Promise<void> {
      await server.close();
      await proofs.desk.close();
      await events.close();
      await exportQueue.close();
      rmSync(exportFolder, { recursive: true, force: true });
      await inference.drain({ graceMs: 0 });
      await metering.stop();
      await tenancy.authenticator.close();
      await registry.close();
      await rm(payoutFolder, { recursive: true, force: true });
    },
  };
}

export type Stack = Awaited<ReturnType<typeof openStack>>;
