import { AsyncLocalStorage } from 'node:async_hooks';
import { ApolloServer, type ApolloServerPlugin, HeaderMap } from '@apollo/server';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import type { Principal } from '../auth/principal.ts';
import { createGraphqlContext, type GraphqlContext } from '../graphql/context.ts';
import { checkCost } from '../graphql/cost.ts';
import { type ErrorScope, formatGraphqlError, toGraphqlError } from '../graphql/errors.ts';
import type { GraphQLSchema } from '../graphql/graphql-js.ts';
import { checkSizes, type IntrospectionPolicy, limitRules, type OperationLimits } from '../graphql/limits.ts';
import type { GraphqlServices } from '../graphql/services.ts';
import { ERROR_CODES, isErrorCode } from '../kernel/codes.ts';
import { PatchbayError } from '../kernel/errors.ts';
import type { Logger } from '../observability/logger.ts';
import { EventStreamTransport } from './event-stream.ts';
import type { Session, Sessions } from './sessions.ts';
import { closedUnanswered } from './unanswered.ts';

/** What the HTTP transport of GraphQL needs. */
interface GraphqlRouteDependencies {
  readonly schema: GraphQLSchema;
  readonly limits: OperationLimits;
  readonly introspection: IntrospectionPolicy;
  readonly log: Logger;
  readonly services: GraphqlServices;
  readonly eventStreams: EventStreamTransport;
  readonly sessions: Sessions;
  /** The principal of an `Authorization` value; throws `UNAUTHENTICATED`. */
  readonly authenticate: (authorization: string | undefined, requestId?: string) => Promise<Principal>;
}

/** What is known of one HTTP request while Apollo works on it; Apollo's `formatError` is told of none. */
interface RequestScope extends ErrorScope {
  /** The body was a GraphQL request, whatever became of it. */
  wellFormed: boolean;
  /** The answer has no data although execution began: the status that its first error stands for. */
  failedStatus: number | undefined;
}

const MEDIA_TYPE_JSON = 'application/json';

/** Serves GraphQL over HTTP with Apollo. Resolves to what stops it. */
export async function registerGraphqlRoute(
  app: FastifyInstance,
  path: string,
  deps: GraphqlRouteDependencies,
): Promise<{ stop(): Promise<void> }> {
  const scopes = new AsyncLocalStorage<RequestScope>();
  const apollo = new ApolloServer<GraphqlContext>({
    schema: deps.schema,
    validationRules: [...limitRules(deps.limits, deps.introspection)],
    parseOptions: { maxTokens: deps.limits.tokensMax },
    // The policy is one of `validationRules`, shared with the websocket.
    introspection: true,
    includeStacktraceInErrorResponses: false,
    allowBatchedHttpRequests: false,
    persistedQueries: false,
    // A forged cross-site request is harmless here: nothing authenticates by cookie or other ambient authority,
    // and GET runs queries only. Apollo's check would refuse plain GETs, which the specification allows.
    csrfPrevention: false,
    stopOnTerminationSignals: false,
    logger: deps.log,
    nodeEnv: 'production',
    plugins: [operationPlugin(deps, scopes)],
    formatError: (formatted, error) => {
      const scope = scopes.getStore();
      return scope ? formatGraphqlError(error, scope) : formatted;
    },
  });
  await apollo.start();

  app.route({
    method: ['GET', 'POST'],
    url: path,
    handler: (request, reply) => {
      if (request.method === 'POST' && EventStreamTransport.wants(request)) {
        return deps.eventStreams.answer(request, reply);
      }
      const scope: RequestScope = {
        requestId: request.id,
        log: deps.log,
        hideSuggestions: deps.introspection === 'off',
        wellFormed: false,
        failedStatus: undefined,
      };
      return scopes.run(scope, () => answer(apollo, deps, scope, request, reply));
    },
  });
  return { stop: () => apollo.stop() };
}

async function answer(
  apollo: ApolloServer<GraphqlContext>,
  deps: GraphqlRouteDependencies,
  scope: RequestScope,
  request: FastifyRequest,
  reply: FastifyReply,
): Promise<string> {
  const revoked = new AbortController();
  let session: Session | undefined;
  const context = async (): Promise<GraphqlContext> => {
    const signal = AbortSignal.any([closedUnanswered(reply.raw), revoked.signal]);
    const created = await createContext(deps, scope, request, signal);
    const { authorization } = request.headers;
    session = {
      principal: created.principal,
      authorization,
      isRequest: true,
      revoke: () => revoked.abort(new PatchbayError('UNAUTHENTICATED', 'The key was revoked.')),
    };
    deps.sessions.add(session);
    return created;
  };
  const { headers, body, status } = await apollo
    .executeHTTPGraphQLRequest({
      httpGraphQLRequest: {
        method: request.method,
        headers: toHeaderMap(request),
        search: new URL(request.url, 'http://localhost').search,
        body: request.body,
      },
      context,
    })
    .finally(() => {
      if (session) deps.sessions.delete(session);
    });
  for (const [name, value] of headers) reply.header(name, value);
  const isJson = headers.get('content-type')?.startsWith(MEDIA_TYPE_JSON) ?? false;
  reply.code(statusOf(status ?? 200, scope, isJson));
  // Incremental delivery is not in the schema, so every answer is complete.
  return body.kind === 'complete' ? body.string : '';
}

/**
 * The status by the GraphQL-over-HTTP specification: with the old media type every answer to a well-formed request
 * is a 200, so that intermediaries' errors can be told from GraphQL's; with the new one it says what happened.
 */
function statusOf(status: number, scope: RequestScope, isJson: boolean): number {
  if (isJson) return scope.wellFormed && status === 400 ? 200 : status;
  return status === 200 ? (scope.failedStatus ?? status) : status;
}

async function createContext(
  deps: GraphqlRouteDependencies,
  scope: RequestScope,
  request: FastifyRequest,
  signal: AbortSignal,
): Promise<GraphqlContext> {
  const { authorization } = request.headers;
  // Apollo has no hook before parsing that may refuse, and a context that fails is answered properly.
  const { query, variables } = parametersOf(request);
  checkSizes(query, variables, deps.limits);
  try {
    return createGraphqlContext({
      requestId: scope.requestId,
      log: deps.log,
      services: deps.services,
      signal,
      principal:
        authorization === undefined ? undefined : await deps.authenticate(authorization, scope.requestId),
    });
  } catch (error) {
    throw toGraphqlError(error);
  }
}

/** The parameters of a GET or POST, unchecked. */
function parametersOf(request: FastifyRequest): { readonly query?: unknown; readonly variables?: unknown } {
  const source = request.method === 'GET' ? request.query : request.body;
  return typeof source === 'object' && source !== null ? source : {};
}

/** Bounds what Apollo's own options do not, and notes what the status depends on. */
function operationPlugin(
  deps: GraphqlRouteDependencies,
  scopes: AsyncLocalStorage<RequestScope>,
): ApolloServerPlugin<GraphqlContext> {
  return {
    async requestDidStart({ request }) {
      const scope = scopes.getStore();
      return {
        async didResolveSource() {
          if (scope) scope.wellFormed = true;
        },
        async didResolveOperation({ document, operation }) {
          if (operation?.operation === 'subscription') {
            const message =
              'Subscriptions need a websocket (graphql-transport-ws) or `Accept: text/event-stream`, on this path.';
            throw toGraphqlError(new PatchbayError('BAD_INPUT', message));
          }
          if (document)
            checkCost(deps.schema, document, request.operationName, request.variables ?? {}, deps.limits);
        },
        async willSendResponse({ response }) {
          if (!scope || response.body.kind !== 'single') return;
          const { data, errors } = response.body.singleResult;
          const code = errors?.[0]?.extensions?.code;
          if (data == null && isErrorCode(code)) scope.failedStatus = ERROR_CODES[code].status;
        },
      };
    },
  };
}

function toHeaderMap(request: FastifyRequest): HeaderMap {
  const map = new HeaderMap();
  for (const [name, value] of Object.entries(request.headers)) {
    if (value !== undefined) map.set(name, Array.isArray(value) ? value.join(', ') : value);
  }
  return map;
}
