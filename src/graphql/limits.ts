import { ApolloArmor } from '@escape.tech/graphql-armor';
import { PatchbayError } from '../kernel/errors.ts';
import { isTokenLimit, toGraphqlError } from './errors.ts';
import {
  type DocumentNode,
  type GraphQLError,
  NoSchemaIntrospectionCustomRule,
  parse,
  type ValidationContext,
  type ValidationRule,
} from './graphql-js.ts';

/** What one operation may ask for. The same bounds hold over HTTP and over websockets. */
export interface OperationLimits {
  /** Nesting of selections. */
  readonly depthMax: number;
  readonly aliasesMax: number;
  readonly directivesMax: number;
  /** Lexical tokens of the document; checked before anything else looks at it. */
  readonly tokensMax: number;
  /** Estimated number of fields in the answer, see `operationCost`. */
  readonly costMax: number;
  /** Length of the document, in UTF-16 units. */
  readonly queryCharsMax: number;
  /** Length of the variables as JSON, in UTF-16 units. A prompt travels in the variables. */
  readonly variablesCharsMax: number;
}

export const DEFAULT_OPERATION_LIMITS: OperationLimits = {
  depthMax: 10,
  aliasesMax: 20,
  directivesMax: 20,
  tokensMax: 2_000,
  costMax: 10_000,
  queryCharsMax: 32_768,
  variablesCharsMax: 524_288,
};

/** Whether clients may read the schema by introspection. */
export type IntrospectionPolicy = 'on' | 'off';

/** The rules that come on top of GraphQL's own; Apollo and the websocket both use this list. */
export function limitRules(
  limits: OperationLimits,
  introspection: IntrospectionPolicy,
): readonly ValidationRule[] {
  const reject = { propagateOnRejection: false, onReject: [report] };
  const armor = new ApolloArmor({
    maxDepth: { n: limits.depthMax, ...reject },
    maxAliases: { n: limits.aliasesMax, ...reject },
    maxDirectives: { n: limits.directivesMax, ...reject },
    // Armor's cost cannot see page sizes that come in variables, so cost is ours; tokens are counted by the
    // parser itself; field suggestions are stripped with the rest of the error's text.
    costLimit: { enabled: false },
    maxTokens: { enabled: false },
    blockFieldSuggestion: { enabled: false },
  }).protect();
  return introspection === 'on'
    ? armor.validationRules
    : [...armor.validationRules, NoSchemaIntrospectionCustomRule];
}

/** Armor throws out of the validator by default; reported instead, the error is an answer like any other. */
function report(context: ValidationContext | null, error: GraphQLError): void {
  context?.reportError(tooComplex(error.message.replace(/^Syntax Error: /, '')));
}

/** Refuses a source or variables that are too long to be worth parsing. */
export function checkSizes(source: unknown, variables: unknown, limits: OperationLimits): void {
  if (typeof source === 'string' && source.length > limits.queryCharsMax) {
    throw tooComplex(`The document is longer than ${limits.queryCharsMax} characters.`);
  }
  if (variables === undefined || variables === null) return;
  if (JSON.stringify(variables).length > limits.variablesCharsMax) {
    throw tooComplex(`The variables are longer than ${limits.variablesCharsMax} characters as JSON.`);
  }
}

/** Parses a document under the token bound. */
export function parseBounded(source: string, limits: OperationLimits): DocumentNode {
  try {
    return parse(source, { maxTokens: limits.tokensMax });
  } catch (error) {
    throw isTokenLimit(error) ? tooComplex(`The document has more than ${limits.tokensMax} tokens.`) : error;
  }
}

/** An answerable error with code `QUERY_TOO_COMPLEX`. */
export function tooComplex(message: string): GraphQLError {
  return toGraphqlError(new PatchbayError('QUERY_TOO_COMPLEX', message));
}
