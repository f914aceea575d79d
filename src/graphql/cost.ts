import {
  type DocumentNode,
  type FieldNode,
  type FragmentDefinitionNode,
  type GraphQLField,
  type GraphQLNamedType,
  type GraphQLSchema,
  getNamedType,
  getNullableType,
  getOperationAST,
  isInterfaceType,
  isListType,
  isObjectType,
  Kind,
  type SelectionSetNode,
} from './graphql-js.ts';
import { type OperationLimits, tooComplex } from './limits.ts';

/** How many items a list without a page size is taken to have. */
const ASSUMED_LIST_ITEMS = 5;

/**
 * Estimates how many fields an operation's answer can have: each field is one, the fields below a connection
 * count once for every item of its page, those below another list five times.
 *
 * Page sizes are read from literals and from variables alike; a size hidden in a variable is the usual way round
 * a static estimate. The document must be valid, so fragments do not form cycles.
 */
export function operationCost(
  schema: GraphQLSchema,
  document: DocumentNode,
  operationName: string | null | undefined,
  variables: Readonly<Record<string, unknown>>,
): number {
  const operation = getOperationAST(document, operationName);
  const root = operation ? schema.getRootType(operation.operation) : undefined;
  if (!operation || !root) return 0;
  const defaults: Record<string, unknown> = {};
  for (const definition of operation.variableDefinitions ?? []) {
    if (definition.defaultValue?.kind === Kind.INT) {
      defaults[definition.variable.name.value] = Number(definition.defaultValue.value);
    }
  }
  const walk = new CostWalk(schema, document, { ...defaults, ...variables });
  return walk.selection(operation.selectionSet, root);
}

/** Throws `QUERY_TOO_COMPLEX` when the operation's estimated cost is over the bound. */
export function checkCost(
  schema: GraphQLSchema,
  document: DocumentNode,
  operationName: string | null | undefined,
  variables: Readonly<Record<string, unknown>>,
  limits: OperationLimits,
): void {
  const cost = operationCost(schema, document, operationName, variables);
  if (cost > limits.costMax) {
    throw tooComplex(`The operation may answer with ${cost} fields; at most ${limits.costMax} are allowed.`);
  }
}

class CostWalk {
  readonly #schema: GraphQLSchema;
  readonly #variables: Readonly<Record<string, unknown>>;
  readonly #fragments = new Map<string, FragmentDefinitionNode>();
  /** A fragment costs the same wherever it is spread, so each is walked once. */
  readonly #fragmentCosts = new Map<string, number>();

  constructor(schema: GraphQLSchema, document: DocumentNode, variables: Readonly<Record<string, unknown>>) {
    this.#schema = schema;
    this.#variables = variables;
    for (const definition of document.definitions) {
      if (definition.kind === Kind.FRAGMENT_DEFINITION)
        this.#fragments.set(definition.name.value, definition);
    }
  }

  selection(set: SelectionSetNode, type: GraphQLNamedType): number {
    let cost = 0;
    for (const node of set.selections) {
      if (node.kind === Kind.FIELD) cost += this.#field(node, type);
      else if (node.kind === Kind.FRAGMENT_SPREAD) cost += this.#fragment(node.name.value);
      else cost += this.selection(node.selectionSet, this.#narrow(node.typeCondition?.name.value, type));
    }
    return cost;
  }

  #fragment(name: string): number {
    const known = this.#fragmentCosts.get(name);
    if (known !== undefined) return known;
    const fragment = this.#fragments.get(name);
    const type = fragment && this.#schema.getType(fragment.typeCondition.name.value);
    const cost = fragment && type ? this.selection(fragment.selectionSet, type) : 0;
    this.#fragmentCosts.set(name, cost);
    return cost;
  }

  #field(node: FieldNode, parent: GraphQLNamedType): number {
    const field = fieldOf(parent, node.name.value);
    if (!field || !node.selectionSet) return 1;
    return (
      1 + this.#multiplier(node, field, parent) * this.selection(node.selectionSet, getNamedType(field.type))
    );
  }

  #multiplier(node: FieldNode, field: GraphQLField<unknown, unknown>, parent: GraphQLNamedType): number {
    const paged = field.args.find((arg) => arg.name === 'first');
    if (paged) {
      const value = node.arguments?.find((arg) => arg.name.value === 'first')?.value;
      let size: unknown = paged.defaultValue;
      if (value?.kind === Kind.INT) size = Number(value.value);
      if (value?.kind === Kind.VARIABLE) size = this.#variables[value.name.value] ?? size;
      return typeof size === 'number' && size > 1 ? size : 1;
    }
    const isList = isListType(getNullableType(field.type));
    // The page size was counted where the connection was selected.
    return isList && !parent.name.endsWith('Connection') ? ASSUMED_LIST_ITEMS : 1;
  }

  #narrow(name: string | undefined, type: GraphQLNamedType): GraphQLNamedType {
    return (name === undefined ? undefined : this.#schema.getType(name)) ?? type;
  }
}

/** Introspection fields are absent from the type's own fields and cost one each: their depth is bounded elsewhere. */
function fieldOf(type: GraphQLNamedType, name: string): GraphQLField<unknown, unknown> | undefined {
  return isObjectType(type) || isInterfaceType(type) ? type.getFields()[name] : undefined;
}
