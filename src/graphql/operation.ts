import { checkCost } from './cost.ts';
import {
  type DocumentNode,
  GraphQLError,
  type GraphQLSchema,
  getOperationAST,
  type OperationDefinitionNode,
  specifiedRules,
  type ValidationRule,
  validate,
} from './graphql-js.ts';
import {
  checkSizes,
  type IntrospectionPolicy,
  limitRules,
  type OperationLimits,
  parseBounded,
} from './limits.ts';

/** An operation as a client sent it over a transport that is not Apollo's. */
export interface OperationRequest {
  readonly query: string;
  readonly operationName?: string | null | undefined;
  readonly variables?: Readonly<Record<string, unknown>> | null | undefined;
}

/** An operation that may be executed. */
interface PreparedOperation {
  readonly document: DocumentNode;
  readonly operation: OperationDefinitionNode;
}

/** Valid documents kept, so that a client's hundredth subscription is not parsed again. */
const DOCUMENTS_MAX = 500;

/**
 * Parses, validates and bounds operations for transports that Apollo does not serve, with exactly the rules that
 * Apollo is given.
 */
export class OperationGate {
  readonly schema: GraphQLSchema;
  readonly limits: OperationLimits;
  readonly #rules: readonly ValidationRule[];
  readonly #documents = new Map<string, DocumentNode>();

  constructor(schema: GraphQLSchema, limits: OperationLimits, introspection: IntrospectionPolicy) {
    this.schema = schema;
    this.limits = limits;
    this.#rules = [...specifiedRules, ...limitRules(limits, introspection)];
  }

  /** The operation, or everything that is wrong with it. */
  prepare(request: OperationRequest): PreparedOperation | readonly GraphQLError[] {
    try {
      checkSizes(request.query, request.variables, this.limits);
      const document = this.#document(request.query);
      if (Array.isArray(document)) return document;
      const operation = getOperationAST(document, request.operationName);
      if (!operation) return [new GraphQLError('The document has no operation of that name, or several.')];
      checkCost(this.schema, document, request.operationName, request.variables ?? {}, this.limits);
      return { document, operation };
    } catch (error) {
      if (error instanceof GraphQLError) return [error];
      throw error;
    }
  }

  #document(source: string): DocumentNode | GraphQLError[] {
    const known = this.#documents.get(source);
    if (known) return known;
    const document = parseBounded(source, this.limits);
    const errors = validate(this.schema, document, this.#rules);
    if (errors.length > 0) return [...errors];
    const [oldest] = this.#documents.keys();
    if (this.#documents.size >= DOCUMENTS_MAX && oldest !== undefined) this.#documents.delete(oldest);
    this.#documents.set(source, document);
    return document;
  }
}
