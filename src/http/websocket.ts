import type { IncomingMessage, Server } from 'node:http';
import type { Duplex } from 'node:stream';
import {
  type Context,
  handleProtocols,
  MessageType,
  makeServer,
  parseMessage,
  type SubscribePayload,
} from 'graphql-ws';
import { type WebSocket, WebSocketServer } from 'ws';
import type { Principal } from '../auth/principal.ts';
import type { GraphqlContext } from '../graphql/context.ts';
import { type ErrorScope, formatGraphqlError, toGraphqlError } from '../graphql/errors.ts';
import type {
  ExecutionArgs,
  ExecutionResult,
  FormattedExecutionResult,
  GraphQLError,
} from '../graphql/graphql-js.ts';
import type { OperationGate } from '../graphql/operation.ts';
import type { Clock } from '../kernel/clock.ts';
import { PatchbayError } from '../kernel/errors.ts';
import { newId } from '../kernel/ids.ts';
import type { Logger } from '../observability/logger.ts';
import { CLOSE_CODES } from './close-codes.ts';
import { Connection } from './connection.ts';
import type { Sessions } from './sessions.ts';

/** Bounds of the websocket transport. */
export interface WebsocketLimits {
  /** Sockets and event streams of this process; more are refused with HTTP 503. */
  readonly socketsMax: number;
  /** Operations that may run at once on one socket; more are answered with `TOO_MANY_OPERATIONS`. */
  readonly operationsPerSocketMax: number;
  /** Largest incoming message; a larger one closes the socket with 1009. */
  readonly messageBytesMax: number;
  /** How long a new socket may take to send `connection_init`; then it is closed with 4408. */
  readonly initMsMax: number;
  /** Unsent bytes above which streams are no longer pulled. */
  readonly bufferedBytesMax: number;
  /** How long unsent bytes may make no progress; then the socket is closed with 4450. */
  readonly drainMsMax: number;
  /** Pause between pings; a peer that is silent for two of them is gone. */
  readonly pingIntervalMs: number;
  /** How long a socket may stay without an operation; then it is closed with 4452. */
  readonly idleMsMax: number;
  /** Pause between checks that the keys of open sockets and streams are still valid. */
  readonly revalidateMs: number;
  /** How long a closing handshake may take. */
  readonly closeMsMax: number;
}

export const DEFAULT_WEBSOCKET_LIMITS: WebsocketLimits = {
  socketsMax: 10_000,
  operationsPerSocketMax: 64,
  messageBytesMax: 1_048_576,
  initMsMax: 5_000,
  bufferedBytesMax: 262_144,
  drainMsMax: 10_000,
  pingIntervalMs: 15_000,
  idleMsMax: 600_000,
  revalidateMs: 500,
  closeMsMax: 5_000,
};

/** What the websocket transport needs. */
interface WebsocketDependencies {
  readonly clock: Clock;
  readonly log: Logger;
  readonly gate: OperationGate;
  readonly sessions: Sessions;
  readonly hideSuggestions: boolean;
  /** The principal of an `Authorization` value; throws `UNAUTHENTICATED`. */
  readonly authenticate: (authorization: string | undefined, requestId?: string) => Promise<Principal>;
  readonly createContext: (principal: Principal, requestId: string, signal: AbortSignal) => GraphqlContext;
}

type Extra = { readonly connection: Connection };
type Payload = Record<string, unknown>;
interface Operation {
  readonly requestId: string;
  /** Ends it; null before it was admitted. */
  abort: AbortController | null;
  /** Whether the request id was told to the client yet. */
  told: boolean;
}
/** graphql-ws's result type is graphql-js's, but for exact optional properties. */
type StreamResult = { readonly [K in keyof ExecutionResult]?: ExecutionResult[K] | undefined };

/**
 * GraphQL over websockets (graphql-transport-ws). The protocol is graphql-ws's own; the socket side is ours rather
 * than `graphql-ws/use/ws`, because that one reports a write on a closing socket as done, and metering takes a
 * write that is done for delivered.
 */
export class WebsocketTransport {
  readonly #path: string;
  readonly #limits: WebsocketLimits;
  readonly #deps: WebsocketDependencies;
  readonly #sockets: WebSocketServer;
  readonly #connections = new Set<Connection>();
  readonly #timer: NodeJS.Timeout;
  readonly #operations = new WeakMap<SubscribePayload, Operation>();
  #draining = false;

  constructor(path: string, limits: WebsocketLimits, deps: WebsocketDependencies) {
    this.#path = path;
    this.#limits = limits;
    this.#deps = deps;
    this.#sockets = new WebSocketServer({
      noServer: true,
      maxPayload: limits.messageBytesMax,
      handleProtocols: (protocols) => handleProtocols(protocols),
    });
    const protocol = makeServer<Payload, Extra>({
      connectionInitWaitTimeout: limits.initMsMax,
      onConnect: (ctx) => this.#connect(ctx),
      onSubscribe: (ctx, id, payload) => this.#subscribe(ctx, id, payload),
      onNext: (_ctx, _id, payload, _args, result) => this.#next(payload, result),
      onComplete: (ctx, id, payload) => {
        const abort = this.#operations.get(payload)?.abort;
        if (abort) ctx.extra.connection.finish(id, abort);
      },
      onError: (_ctx, _id, payload, errors) =>
        errors.map((error) => formatGraphqlError(error, this.#scope(payload))),
    });
    this.#sockets.on('connection', (socket, request) => {
      const connection = new Connection(socket, request, limits, deps);
      this.#connections.add(connection);
      this.#deps.sessions.add(connection);
      connection.run(
        (port) => {
          const onMessage: typeof port.onMessage = (handle) =>
            port.onMessage((data) => {
              cancelCompleted(connection, data);
              return handle(data);
            });
          return protocol.opened({ ...port, onMessage }, { connection });
        },
        () => {
          this.#connections.delete(connection);
          this.#deps.sessions.delete(connection);
        },
      );
    });
    this.#timer = setInterval(() => this.#heartbeat(), limits.pingIntervalMs).unref();
  }

  /** Takes over the upgrades of a server. */
  attach(server: Server): void {
    server.on('upgrade', (request: IncomingMessage, socket: Duplex, head: Buffer) => {
      socket.once('error', () => socket.destroy());
      if (request.url?.split('?', 1)[0] !== this.#path) return refuse(socket, '404 Not Found');
      if (this.#draining || this.#deps.sessions.count >= this.#limits.socketsMax) {
        return refuse(socket, '503 Service Unavailable');
      }
      this.#sockets.handleUpgrade(request, socket, head, (ws: WebSocket) => {
        this.#sockets.emit('connection', ws, request);
      });
    });
  }

  /** Admits nothing more; sockets close as soon as no operation runs on them. */
  drain(): void {
    this.#draining = true;
    for (const connection of this.#connections) connection.closeWhenIdle(CLOSE_CODES.GOING_AWAY);
  }

  /** Closes every socket, waits for the handshakes, and cuts those that do not answer. */
  async close(): Promise<void> {
    this.#draining = true;
    clearInterval(this.#timer);
    const closed = [...this.#connections].map((connection) => {
      connection.close(CLOSE_CODES.GOING_AWAY);
      return connection.closed;
    });
    await Promise.all(closed);
    this.#sockets.close();
  }

  async #connect(ctx: Context<Payload, Extra>): Promise<boolean> {
    const { connection } = ctx.extra;
    const given = ctx.connectionParams?.authorization ?? ctx.connectionParams?.Authorization;
    const authorization = typeof given === 'string' ? given : connection.request.headers.authorization;
    try {
      const principal = await this.#deps.authenticate(authorization, newId(this.#deps.clock));
      connection.admit(principal, authorization);
      return true;
    } catch (error) {
      const isRefusal = error instanceof PatchbayError && error.code !== 'INTERNAL' && error.status < 500;
      if (!isRefusal) this.#deps.log.error({ err: error }, 'Authenticating a websocket failed');
      connection.close(isRefusal ? CLOSE_CODES.UNAUTHORIZED : CLOSE_CODES.INTERNAL);
      return false;
    }
  }

  async #subscribe(
    ctx: Context<Payload, Extra>,
    id: string,
    payload: SubscribePayload,
  ): Promise<ExecutionArgs | readonly GraphQLError[]> {
    const requestId = newId(this.#deps.clock);
    const operation: Operation = { requestId, abort: null, told: false };
    this.#operations.set(payload, operation);
    const { connection } = ctx.extra;
    connection.touch();
    const running = Object.keys(ctx.subscriptions).length;
    if (running > this.#limits.operationsPerSocketMax) {
      const message = `At most ${this.#limits.operationsPerSocketMax} operations may run on one socket.`;
      return [toGraphqlError(new PatchbayError('TOO_MANY_OPERATIONS', message))];
    }
    if (this.#draining)
      return [toGraphqlError(new PatchbayError('SHUTTING_DOWN', 'The server is draining.'))];
    const { principal } = connection;
    if (!principal) return [toGraphqlError(new PatchbayError('UNAUTHENTICATED', 'No API key was given.'))];
    const prepared = this.#deps.gate.prepare(payload);
    if (!('document' in prepared)) return prepared;
    operation.abort = connection.begin(id);
    return {
      schema: this.#deps.gate.schema,
      document: prepared.document,
      operationName: payload.operationName ?? null,
      variableValues: payload.variables ?? null,
      contextValue: this.#deps.createContext(principal, requestId, operation.abort.signal),
    };
  }

  /** Formats errors, and tells the request id with the first message of each operation. */
  #next(payload: SubscribePayload, result: StreamResult): FormattedExecutionResult | undefined {
    const operation = this.#operations.get(payload);
    const isFirst = operation !== undefined && !operation.told;
    if (!isFirst && result.errors === undefined) return undefined;
    if (operation) operation.told = true;
    const { data, errors, extensions } = result;
    const scope = this.#scope(payload);
    return {
      ...(data === undefined ? {} : { data }),
      ...(errors ? { errors: errors.map((error) => formatGraphqlError(error, scope)) } : {}),
      extensions: { ...extensions, requestId: scope.requestId },
    };
  }

  #scope(payload: SubscribePayload): ErrorScope {
    const requestId = this.#operations.get(payload)?.requestId ?? newId(this.#deps.clock);
    return { requestId, log: this.#deps.log, hideSuggestions: this.#deps.hideSuggestions };
  }

  #heartbeat(): void {
    for (const connection of this.#connections) connection.beat();
  }
}

/**
 * Ends an operation that the client has completed. The protocol does so only where there is a stream to end, so a
 * mutation would go on for nobody.
 */
function cancelCompleted(connection: Connection, data: string): void {
  if (!data.includes(MessageType.Complete)) return;
  try {
    const message = parseMessage(data);
    if (message.type === MessageType.Complete) connection.cancel(message.id);
  } catch {
    // The protocol's own parser says what is wrong with it.
  }
}

function refuse(socket: Duplex, status: string): void {
  socket.end(`HTTP/1.1 ${status}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`);
}
