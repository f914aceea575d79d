import { type AddressInfo, createServer } from 'node:net';
import { type FastifyInstance, fastify } from 'fastify';
import type { Principal } from '../auth/principal.ts';
import { createGraphqlContext } from '../graphql/context.ts';
import {
  DEFAULT_OPERATION_LIMITS,
  type IntrospectionPolicy,
  type OperationLimits,
} from '../graphql/limits.ts';
import { OperationGate } from '../graphql/operation.ts';
import { createSchema } from '../graphql/schema.ts';
import type { GraphqlServices } from '../graphql/services.ts';
import type { Clock } from '../kernel/clock.ts';
import { PatchbayError } from '../kernel/errors.ts';
import type { Logger } from '../observability/logger.ts';
import { answerErrors } from './error-handler.ts';
import { EventStreamTransport } from './event-stream.ts';
import { gracefulClose } from './graceful-close.ts';
import { registerGraphqlRoute } from './graphql-route.ts';
import { REQUEST_ID_HEADER, requestIdOf } from './request-id.ts';
import { Sessions } from './sessions.ts';
import { DEFAULT_WEBSOCKET_LIMITS, type WebsocketLimits, WebsocketTransport } from './websocket.ts';

const GRAPHQL_PATH = '/graphql';

/** Settings of the HTTP server. What is left out has the documented default. */
export interface HttpServerOptions {
  readonly host: string;
  /** 0 takes a free port. */
  readonly port: number;
  /** Largest body of an HTTP request, except where a route sets its own. */
  readonly bodyBytesMax?: number;
  readonly introspection?: IntrospectionPolicy;
  readonly operations?: Partial<OperationLimits>;
  readonly websocket?: Partial<WebsocketLimits>;
}

/** What the HTTP server needs. */
export interface HttpServerDependencies {
  readonly clock: Clock;
  readonly log: Logger;
  readonly services: GraphqlServices;
  /** The principal of an `Authorization` value; throws `UNAUTHENTICATED`. */
  readonly authenticate: (authorization: string | undefined, requestId?: string) => Promise<Principal>;
  /** Tells of keys that stopped being valid in this process; returns how to stop listening. */
  readonly onKeyRevoked?: (listener: (keyId: string) => void) => () => void;
  /** Tells that revocations may have been missed, so that every open key is asked about; returns how to stop listening. */
  readonly onRevocationsMissed?: (listener: () => void) => () => void;
  /** Whether the process can serve: its database answers and its engine runs. */
  readonly ready: () => boolean | Promise<boolean>;
  /** Routes of other domains, such as the tus uploads. */
  readonly routes?: readonly ((app: FastifyInstance) => void | Promise<void>)[];
}

/** A server that may be listening. */
export interface HttpServer {
  readonly app: FastifyInstance;
  /** Starts listening; rejects with `PORT_IN_USE` when the port is taken. */
  listen(): Promise<{ readonly port: number; readonly url: string; readonly graphqlUrl: string }>;
  /** Admits no new sockets and operations; `readyz` says 503; idle sockets close. */
  drain(): void;
  /** Ends all sockets by their close handshake, finishes HTTP requests, and closes the port. */
  close(): Promise<void>;
  /** Open websockets and event streams. */
  readonly socketCount: number;
}

const BODY_BYTES_MAX = 2_097_152;
/** How long a client may take to send its request; slower ones hold a connection for nothing. */
const REQUEST_MS_MAX = 300_000;
const HEADERS_MS_MAX = 15_000;

/** Builds the HTTP server with GraphQL over HTTP and websockets, health checks and the routes that are given. */
export async function createHttpServer(
  options: HttpServerOptions,
  deps: HttpServerDependencies,
): Promise<HttpServer> {
  const app = createApp(options, deps);
  const introspection = options.introspection ?? 'on';
  const limits = { ...DEFAULT_OPERATION_LIMITS, ...options.operations };
  const schema = createSchema();
  let draining = false;

  const socketLimits = { ...DEFAULT_WEBSOCKET_LIMITS, ...options.websocket };
  const sessions = new Sessions(socketLimits, deps);
  const shared = {
    ...deps,
    sessions,
    gate: new OperationGate(schema, limits, introspection),
    hideSuggestions: introspection === 'off',
  };
  const eventStreams = new EventStreamTransport(socketLimits, { ...shared, isDraining: () => draining });
  const graphql = await registerGraphqlRoute(app, GRAPHQL_PATH, {
    ...deps,
    schema,
    limits,
    introspection,
    eventStreams,
    sessions,
  });
  const websocket = new WebsocketTransport(GRAPHQL_PATH, socketLimits, {
    ...shared,
    createContext: (principal, requestId, signal) =>
      createGraphqlContext({ principal, requestId, log: deps.log, services: deps.services, signal }),
  });
  websocket.attach(app.server);
  const closeApp = gracefulClose(app, socketLimits.closeMsMax);
  const stopListening = deps.onKeyRevoked?.((keyId) => sessions.closeKey(keyId));
  const stopAsking = deps.onRevocationsMissed?.(() => void sessions.revalidate());

  app.get('/healthz', () => ({ status: 'ok' }));
  app.get('/readyz', async (_request, reply) => {
    const ready = !draining && (await deps.ready());
    return reply.code(ready ? 200 : 503).send({ status: ready ? 'ready' : 'not ready' });
  });
  for (const register of deps.routes ?? []) await register(app);

  return {
    app,
    listen: () => listen(app, options),
    drain() {
      draining = true;
      websocket.drain();
    },
    async close() {
      draining = true;
      stopListening?.();
      stopAsking?.();
      sessions.stop();
      await websocket.close();
      eventStreams.close();
      await closeApp();
      await graphql.stop();
    },
    get socketCount() {
      return sessions.count;
    },
  };
}

function createApp(options: HttpServerOptions, deps: HttpServerDependencies): FastifyInstance {
  const app = fastify({
    bodyLimit: options.bodyBytesMax ?? BODY_BYTES_MAX,
    genReqId: (request) => requestIdOf(request, deps.clock),
    requestTimeout: REQUEST_MS_MAX,
    forceCloseConnections: 'idle',
    http: { headersTimeout: HEADERS_MS_MAX },
  });
  // GraphQL takes JSON and nothing else; fastify would also take plain text, which browsers send across sites.
  app.removeContentTypeParser('text/plain');
  app.addHook('onRequest', async (request, reply) => {
    reply.header(REQUEST_ID_HEADER, request.id);
  });
  answerErrors(app, GRAPHQL_PATH, deps.log);
  return app;
}

/** Rejects with `PORT_IN_USE` when the port is taken, before anything slow is started for a server that cannot listen. */
export async function requireFreePort({
  host,
  port,
}: Pick<HttpServerOptions, 'host' | 'port'>): Promise<void> {
  if (port === 0) return;
  const probe = createServer();
  try {
    await new Promise<void>((resolve, reject) => {
      probe.once('error', reject);
      probe.listen({ host, port, exclusive: true }, resolve);
    });
  } catch (error) {
    throw portError(error, host, port);
  }
  await new Promise<void>((resolve) => {
    probe.close(() => resolve());
  });
}

function portError(error: unknown, host: string, port: number): unknown {
  if (!(error instanceof Error && 'code' in error && error.code === 'EADDRINUSE')) return error;
  const message = `Port ${port} on ${host} is taken.`;
  return new PatchbayError('PORT_IN_USE', message, { meta: { host, port }, cause: error });
}

async function listen(app: FastifyInstance, { host, port }: HttpServerOptions) {
  try {
    await app.listen({ host, port });
  } catch (error) {
    throw portError(error, host, port);
  }
  const bound = boundPort(app.server.address());
  const url = `http://${urlHost(host)}:${bound}`;
  return { port: bound, url, graphqlUrl: url + GRAPHQL_PATH };
}

function boundPort(address: AddressInfo | string | null): number {
  if (address !== null && typeof address === 'object') return address.port;
  throw new Error('The server listens on no port.');
}

/** The host as a client on this machine would write it. */
function urlHost(host: string): string {
  if (host === '0.0.0.0' || host === '::') return 'localhost';
  return host.includes(':') ? `[${host}]` : host;
}
