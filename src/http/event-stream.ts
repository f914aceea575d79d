import type { FastifyReply, FastifyRequest } from 'fastify';
import type { Principal } from '../auth/principal.ts';
import { createGraphqlContext } from '../graphql/context.ts';
import { type ErrorScope, formatGraphqlError, toDomainError } from '../graphql/errors.ts';
import { type ExecutionResult, execute, type GraphQLError, subscribe } from '../graphql/graphql-js.ts';
import type { OperationGate, OperationRequest } from '../graphql/operation.ts';
import type { GraphqlServices } from '../graphql/services.ts';
import { PatchbayError } from '../kernel/errors.ts';
import type { Logger } from '../observability/logger.ts';
import { EventStreamWriter } from './event-stream-writer.ts';
import { REQUEST_ID_HEADER } from './request-id.ts';
import type { Session, Sessions } from './sessions.ts';
import { closedUnanswered } from './unanswered.ts';

const MEDIA_TYPE_EVENT_STREAM = 'text/event-stream';

/** Bounds of the event-stream transport; they are those of websockets where both have them. */
interface EventStreamLimits {
  /** Sockets and streams of this process together. */
  readonly socketsMax: number;
  /** How long unsent bytes may make no progress; then the connection is cut. */
  readonly drainMsMax: number;
  /** Pause between comments that keep the connection alive and find a peer that is gone. */
  readonly pingIntervalMs: number;
}

/** What the event-stream transport needs. */
interface EventStreamDependencies {
  readonly log: Logger;
  readonly gate: OperationGate;
  readonly sessions: Sessions;
  readonly services: GraphqlServices;
  readonly hideSuggestions: boolean;
  readonly authenticate: (authorization: string | undefined, requestId?: string) => Promise<Principal>;
  readonly isDraining: () => boolean;
}

/**
 * GraphQL over server-sent events, in the "distinct connections" mode of graphql-sse: a POST whose `Accept` is
 * `text/event-stream` is answered with `next` events and one `complete`. It is there for clients that have HTTP and
 * nothing else, such as curl; the rules, limits and the delivery contract are those of the websocket.
 */
export class EventStreamTransport {
  readonly #limits: EventStreamLimits;
  readonly #deps: EventStreamDependencies;
  readonly #writers = new Set<EventStreamWriter>();

  constructor(limits: EventStreamLimits, dependencies: EventStreamDependencies) {
    this.#limits = limits;
    this.#deps = dependencies;
  }

  /** Whether the client asks for an event stream. */
  static wants(request: FastifyRequest): boolean {
    return request.headers.accept?.toLowerCase().includes(MEDIA_TYPE_EVENT_STREAM) ?? false;
  }

  /** Cuts the streams that are left. */
  close(): void {
    for (const writer of this.#writers) writer.cut();
  }

  /** Answers a request: with a stream, or with JSON when it is refused before there is anything to stream. */
  async answer(request: FastifyRequest, reply: FastifyReply): Promise<unknown> {
    const scope: ErrorScope = {
      requestId: request.id,
      log: this.#deps.log,
      hideSuggestions: this.#deps.hideSuggestions,
    };
    let opened: { readonly principal: Principal; readonly results: AsyncIterable<ExecutionResult> };
    try {
      this.#assertRoom();
      opened = await this.#open(request, closedUnanswered(reply.raw));
    } catch (error) {
      const errors = isErrors(error) ? error : [error];
      const status = toDomainError(errors[0]).status;
      const body = { errors: errors.map((each) => formatGraphqlError(each, scope)) };
      return reply.code(status).type('application/json; charset=utf-8').send(JSON.stringify(body));
    }
    reply.hijack();
    const { authorization } = request.headers;
    // What was set on the reply does not survive hijack().
    const writer = new EventStreamWriter(reply.raw, this.#limits, { [REQUEST_ID_HEADER]: request.id });
    const session: Session = {
      principal: opened.principal,
      authorization,
      revoke: () => writer.cut(),
    };
    this.#writers.add(writer);
    this.#deps.sessions.add(session);
    try {
      await this.#stream(writer, opened.results, scope);
    } finally {
      this.#writers.delete(writer);
      this.#deps.sessions.delete(session);
    }
    return reply;
  }

  #assertRoom(): void {
    if (this.#deps.isDraining()) throw new PatchbayError('SHUTTING_DOWN', 'The server is draining.');
    if (this.#deps.sessions.count < this.#limits.socketsMax) return;
    throw new PatchbayError('TOO_MANY_OPERATIONS', 'The server has as many open streams as it may.');
  }

  async #open(request: FastifyRequest, signal: AbortSignal) {
    const { gate, log, services } = this.#deps;
    const principal = await this.#deps.authenticate(request.headers.authorization, request.id);
    const payload = toOperation(request.body);
    const prepared = gate.prepare(payload);
    if (!('document' in prepared)) throw prepared;
    const args = {
      schema: gate.schema,
      document: prepared.document,
      operationName: payload.operationName ?? null,
      variableValues: payload.variables ?? null,
      contextValue: createGraphqlContext({ principal, requestId: request.id, log, services, signal }),
    };
    const isStream = prepared.operation.operation === 'subscription';
    const result = await (isStream ? subscribe(args) : execute(args));
    if (Symbol.asyncIterator in result) return { principal, results: result };
    // Variables that do not fit, or a source that refused: nothing was started.
    if (isStream && result.errors) throw result.errors;
    return { principal, results: once(result) };
  }

  async #stream(
    writer: EventStreamWriter,
    results: AsyncIterable<ExecutionResult>,
    scope: ErrorScope,
  ): Promise<void> {
    const iterator = results[Symbol.asyncIterator]();
    const leave = (): void => {
      iterator.return?.().catch((error: unknown) => {
        this.#deps.log.error({ err: error, requestId: scope.requestId }, 'Ending an event stream failed');
      });
    };
    // The end must reach the source when the peer leaves, and not with the next event.
    writer.onGone(leave);
    try {
      for (;;) {
        const { done, value } = await iterator.next();
        if (done) break;
        await writer.event('next', format(value, scope));
      }
      await writer.event('complete');
    } catch (error) {
      if (writer.gone) return;
      leave();
      const errors = [formatGraphqlError(error, scope)];
      await writer.event('next', { errors }).catch(() => {});
    }
    writer.finish();
  }
}

function format(result: ExecutionResult, scope: ErrorScope): object {
  if (!result.errors) return result;
  return { ...result, errors: result.errors.map((error) => formatGraphqlError(error, scope)) };
}

async function* once(result: ExecutionResult): AsyncGenerator<ExecutionResult, void> {
  yield result;
}

function isErrors(thrown: unknown): thrown is readonly GraphQLError[] {
  return Array.isArray(thrown) && thrown.length > 0;
}

/** The operation in a JSON body, or `BAD_INPUT`. */
function toOperation(body: unknown): OperationRequest {
  if (typeof body === 'object' && body !== null && 'query' in body && typeof body.query === 'string') {
    const variables = 'variables' in body ? body.variables : undefined;
    const operationName = 'operationName' in body ? body.operationName : undefined;
    if (isRecord(variables ?? {}) && (operationName == null || typeof operationName === 'string')) {
      return { query: body.query, operationName, variables: isRecord(variables) ? variables : null };
    }
  }
  throw new PatchbayError('BAD_INPUT', 'The body is not a GraphQL request in JSON.');
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
