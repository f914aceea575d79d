import type { ErrorCode } from '../kernel/codes.ts';
import { PatchbayError, toPatchbayError } from '../kernel/errors.ts';
import type { UserError } from './generated/types.ts';
import { GraphQLError, type GraphQLFormattedError } from './graphql-js.ts';

/** What error formatting needs to know about the operation that failed. */
export interface ErrorScope {
  readonly requestId: string;
  readonly log: ErrorLog;
  /** Strips "Did you mean" texts: they would give the schema away where introspection is off. */
  readonly hideSuggestions: boolean;
}

/** The part of a pino logger that this module calls. */
interface ErrorLog {
  error(fields: object, message: string): void;
}

/**
 * The public form of anything that a GraphQL operation failed with. Errors of the domain and of the client keep
 * their text; everything else is masked as `INTERNAL` and logged with the request id.
 */
export function formatGraphqlError(thrown: unknown, scope: ErrorScope): GraphQLFormattedError {
  const error = thrown instanceof GraphQLError ? thrown : undefined;
  const known = toDomainError(thrown);
  if (known.code === 'INTERNAL') {
    scope.log.error(
      { err: known.cause ?? thrown, requestId: scope.requestId, path: error?.path },
      'A GraphQL operation failed unexpectedly',
    );
  }
  const { code, message, ...rest } = known.toPublic();
  return {
    message: scope.hideSuggestions ? message.replace(/ Did you mean .*$/s, '') : message,
    ...(error?.locations === undefined ? {} : { locations: error.locations }),
    ...(error?.path === undefined ? {} : { path: error.path }),
    extensions: { code, ...rest, requestId: scope.requestId },
  };
}

/** The domain error behind anything that GraphQL machinery threw or reported. */
export function toDomainError(thrown: unknown): PatchbayError {
  const origin = rootCause(thrown);
  if (!(origin instanceof GraphQLError)) return toPatchbayError(origin);
  const code = clientCode(thrown, origin);
  if (code === 'INTERNAL') return toPatchbayError(origin);
  return new PatchbayError(code, origin.message);
}

/** A GraphQL error that carries a domain error and, for the HTTP transport, its status. */
export function toGraphqlError(thrown: unknown): GraphQLError {
  const known = toPatchbayError(thrown);
  return new GraphQLError(known.message, {
    originalError: known,
    extensions: { http: { status: known.status } },
  });
}

function rootCause(thrown: unknown): unknown {
  let cause = thrown;
  while (cause instanceof GraphQLError && cause.originalError !== undefined) cause = cause.originalError;
  return cause;
}

/** Which of the client's mistakes an error of the GraphQL library itself stands for. */
function clientCode(thrown: unknown, origin: GraphQLError): ErrorCode {
  const outer = thrown instanceof GraphQLError ? thrown : origin;
  if (isTokenLimit(origin)) return 'QUERY_TOO_COMPLEX';
  // During execution the library itself blames the client only for argument values, and then names their nodes.
  if (outer.path !== undefined)
    return origin.nodes !== undefined && outer !== origin ? 'BAD_INPUT' : 'INTERNAL';
  switch (outer.extensions.code) {
    case 'GRAPHQL_PARSE_FAILED':
      return 'GRAPHQL_SYNTAX';
    case 'GRAPHQL_VALIDATION_FAILED':
    case 'OPERATION_RESOLUTION_FAILURE':
    case 'PERSISTED_QUERY_NOT_SUPPORTED':
      return 'GRAPHQL_INVALID';
    case 'BAD_USER_INPUT':
    case 'BAD_REQUEST':
      return 'BAD_INPUT';
    case 'INTERNAL_SERVER_ERROR':
      return 'INTERNAL';
  }
  if (origin.message.startsWith('Syntax Error')) return 'GRAPHQL_SYNTAX';
  return origin.message.startsWith('Variable "$') ? 'BAD_INPUT' : 'GRAPHQL_INVALID';
}

/** Whether the parser gave up because of its token bound; graphql-js marks that only in the text. */
export function isTokenLimit(error: unknown): boolean {
  return error instanceof GraphQLError && /Document contains more tha[nt] \d+ tokens/.test(error.message);
}

/** Codes that are no answer to a mutation but a refusal of the whole operation, or a fault of this side. */
const TOP_LEVEL_CODES: ReadonlySet<ErrorCode> = new Set<ErrorCode>([
  'INTERNAL',
  'UNAUTHENTICATED',
  'FORBIDDEN',
  'DATABASE_UNAVAILABLE',
]);

/**
 * Runs the body of a mutation. Expected domain failures become the payload's `userErrors`; everything else is
 * thrown on and ends as a GraphQL error.
 */
export async function withUserErrors<T extends object>(
  run: () => Promise<T>,
): Promise<(T & { readonly userErrors: UserError[] }) | { readonly userErrors: UserError[] }> {
  try {
    return { ...(await inInput(run)), userErrors: [] };
  } catch (error) {
    if (!(error instanceof PatchbayError) || TOP_LEVEL_CODES.has(error.code)) throw error;
    return { userErrors: [toUserError(error)] };
  }
}

/**
 * Runs a call whose arguments came as one `input`. Services name fields relative to what they were given; the
 * caller of GraphQL knows them below `input`.
 */
export async function inInput<T>(run: () => Promise<T>): Promise<T> {
  try {
    return await run();
  } catch (error) {
    if (!(error instanceof PatchbayError) || error.field === undefined) throw error;
    const { code, message, fix, meta } = error;
    throw new PatchbayError(code, message, { fix, meta, field: `input.${error.field}`, cause: error });
  }
}

/** An expected failure as payloads tell it. */
export function toUserError(error: PatchbayError): UserError {
  const { code, message, fix, field, meta } = error.toPublic();
  return { code, message, fix, field: field ?? null, meta: meta ?? null };
}
