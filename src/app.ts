import { readFileSync } from 'node:fs';
import { registerUploadRoutes } from './adapter/upload-http.ts';
import { IncomingDataStore } from './adapter/upload-store.ts';
import { openAppDatabase } from './app/database.ts';
import { folders, openBackbone, startEngine } from './app/engine.ts';
import { ensureFirstKeys } from './app/keys.ts';
import { Lifecycle } from './app/lifecycle.ts';
import { memoryReport, planFor } from './app/memory.ts';
import { type Services, startServices } from './app/services.ts';
import { registerStarterAdapters, starterExample } from './app/starter.ts';
import { registerChainRoute } from './chain/site-route.ts';
import type { App, AppDeps, StartReport } from './cli/app-port.ts';
import { updateKeyFile } from './cli/key-file.ts';
import { type Config, resolveSecret } from './config/index.ts';
import type { Database } from './db/client.ts';
import { listen } from './db/listen.ts';
import type { Engine } from './engine/port.ts';
import { registerDownloadRoute } from './exports/download.ts';
import { createGraphqlServices, type GraphqlServices } from './graphql/services.ts';
import { createHttpServer, type HttpServer, requireFreePort } from './http/server.ts';
import { PatchbayError } from './kernel/errors.ts';
import type { MemoryReport } from './kernel/memory.ts';
import { hex } from './proofs/log/documents.ts';
import { registerLogRoutes } from './proofs/log/routes.ts';
import { requireProofs } from './proofs/require.ts';
import { KEY_REVOKED_CHANNEL } from './tenant/revocation.ts';

const UPLOAD_PATH = '/uploads';
const EXPORT_PATH = '/exports';

/** The composition root: the only place that chooses drivers. */
export function createApp(config: Config, deps: AppDeps): App {
  return new PatchbayApp(config, deps);
}

/** What the server runs on. */
interface Machine {
  readonly database: Database;
  readonly engine: Engine;
  readonly memory: MemoryReport;
}

class PatchbayApp implements App {
  readonly #config: Config;
  readonly #deps: AppDeps;
  readonly #lifecycle: Lifecycle;
  #starting: Promise<StartReport> | null = null;
  #draining = false;

  constructor(config: Config, deps: AppDeps) {
    this.#config = config;
    this.#deps = deps;
    this.#lifecycle = new Lifecycle(deps.logger);
  }

  start(): Promise<StartReport> {
    this.#starting ??= this.#start().catch(async (error: unknown) => {
      await this.#lifecycle.close();
      throw error;
    });
    return this.#starting;
  }

  async drain(): Promise<void> {
    this.#draining = true;
    // A start under way notices at its next step; what it took by then is released below.
    await this.#starting?.catch(() => {});
    await this.#lifecycle.close();
  }

  async #start(): Promise<StartReport> {
    const config = this.#config;
    const { dir } = config.data;
    await requireFreePort(config.server);
    const secret = await resolveSecret(config.data);
    const { database, roleUrls, report } = await openAppDatabase(config, secret, this.#deps, this.#lifecycle);
    this.#proceed();
    const backbone = await openBackbone(config, this.#deps);
    this.#proceed();
    const plan = planFor(config, backbone);
    const memory = memoryReport(plan);
    this.#deps.logger.info({ memory: plan }, 'Memory is divided');
    const engine = await startEngine(config, backbone, plan, this.#deps, this.#lifecycle);
    this.#proceed();
    let baseUrl = config.server.publicUrl?.replace(/\/+$/, '') ?? null;
    const uploadUrl = (): string => `${baseUrl ?? ''}${UPLOAD_PATH}`;
    const exportUrl = (): string => `${baseUrl ?? ''}${EXPORT_PATH}`;
    const { systemUrl } = roleUrls;
    const parts = { config, secret, database, systemUrl, roleUrls, engine, backbone, uploadUrl, exportUrl };
    const services = await startServices(parts, this.#deps, this.#lifecycle);
    this.#proceed();
    const keys = await ensureFirstKeys(dir, services);
    const isStarter = config.backbone.source === 'starter';
    if (isStarter) {
      const datastore = new IncomingDataStore({ database, incoming: services.incoming });
      const starter = { ...services, database, datastore, progress: this.#deps.progress };
      await registerStarterAdapters(keys.demoTenant.id, backbone.manifest.digest, starter);
    }
    this.#proceed();
    const server = await this.#serve(services, { database, engine, memory }, secret, systemUrl);
    const { url, graphqlUrl } = await server.listen();
    baseUrl ??= url;
    await updateKeyFile(dir, { graphqlUrl });
    return {
      graphqlUrl,
      backbone: backbone.manifest,
      memory,
      database: report,
      operatorKey: keys.operatorKey,
      demoKey: keys.demoKey,
      example: isStarter ? await starterExample() : null,
    };
  }

  async #serve(services: Services, machine: Machine, secret: string, systemUrl: string): Promise<HttpServer> {
    const config = this.#config;
    const { clock, logger } = this.#deps;
    const { authenticator, inference } = services;
    const { database } = machine;
    const revocations = await this.#followRevocations(systemUrl, services);
    const server = await createHttpServer(
      {
        host: config.server.host,
        port: config.server.port,
        bodyBytesMax: config.graphql.maxBodyBytes,
        introspection: config.graphql.introspection ? 'on' : 'off',
        operations: {
          depthMax: config.graphql.maxDepth,
          aliasesMax: config.graphql.maxAliases,
          costMax: config.graphql.maxCost,
          tokensMax: config.graphql.maxTokens,
          // A prompt travels in the variables; the body's limit is the one that an operator sets.
          variablesCharsMax: config.graphql.maxBodyBytes,
        },
        websocket: {
          operationsPerSocketMax: config.graphql.wsOperationsPerSocket,
          messageBytesMax: config.graphql.maxBodyBytes,
          initMsMax: config.graphql.wsInitTimeoutMs,
          bufferedBytesMax: config.graphql.slowConsumerBytes,
          drainMsMax: config.graphql.slowConsumerMs,
        },
      },
      {
        clock,
        log: logger,
        services: this.#graphqlServices(services, machine),
        authenticate: (authorization, requestId) => authenticator.authenticate(authorization, requestId),
        onKeyRevoked: revocations.onRevoked,
        onRevocationsMissed: revocations.onMissed,
        ready: () => !this.#draining && services.metering.lease.current !== null,
        routes: [
          (app) =>
            registerUploadRoutes(app, {
              database,
              clock,
              incoming: services.incoming,
              secret,
              path: UPLOAD_PATH,
              onError: (err) => logger.warn({ err }, 'An upload failed'),
            }),
          (app) =>
            registerDownloadRoute(app, {
              database,
              clock,
              folder: folders(config).exports,
              secret,
              path: EXPORT_PATH,
            }),
          (app) =>
            registerLogRoutes(app, {
              log: services.proofs?.log ?? null,
              keys: services.proofs?.keys ?? null,
              epochs: services.proofs?.epochs ?? null,
            }),
          (app) =>
            registerChainRoute(app, {
              logId: () => hex(requireProofs(services.proofs).log.id),
              site: services.chain?.site ?? null,
            }),
        ],
      },
    );
    this.#lifecycle.add('HTTP server', async () => {
      server.drain();
      // Running streams end, and are settled, while their sockets are still open.
      await inference.drain({ graceMs: config.server.drainMs });
      await server.close();
    });
    return server;
  }

  /** Hears of revoked keys from any process: forgets what is believed of them and ends what they run. */
  async #followRevocations(url: string, { authenticator, inference }: Services) {
    const listeners = new Set<(keyId: string) => void>();
    const missed = new Set<() => void>();
    const listener = await listen(
      { url, channels: [KEY_REVOKED_CHANNEL] },
      {
        notified: (_channel, keyId) => {
          authenticator.forget();
          inference.cancelKey(keyId);
          for (const notify of listeners) notify(keyId);
        },
        // What was told while nobody listened is lost: everything open is asked about anew.
        reconnected: () => {
          authenticator.forget();
          for (const notify of missed) notify();
        },
        failed: (err) => this.#deps.logger.warn({ err }, 'Listening for revoked keys will try again'),
      },
    );
    this.#lifecycle.add('revocation listener', () => listener.close());
    return {
      onRevoked: (notify: (keyId: string) => void) => {
        listeners.add(notify);
        return () => listeners.delete(notify);
      },
      onMissed: (notify: () => void) => {
        missed.add(notify);
        return () => missed.delete(notify);
      },
    };
  }

  #graphqlServices(services: Services, machine: Machine): GraphqlServices {
    const { clock } = this.#deps;
    return createGraphqlServices({
      ...services,
      ...machine,
      residentBytes: () => process.memoryUsage.rss(),
      clock,
      version: packageVersion(),
      ready: () => !this.#draining,
    });
  }

  #proceed(): void {
    if (this.#draining) throw new PatchbayError('SHUTTING_DOWN', 'The start was interrupted.');
  }
}

function packageVersion(): string {
  const text = readFileSync(new URL('../package.json', import.meta.url), 'utf8');
  const parsed: unknown = JSON.parse(text);
  const version =
    typeof parsed === 'object' && parsed !== null && 'version' in parsed ? parsed.version : null;
  return typeof version === 'string' ? version : 'unknown';
}
