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
  type ValueNode,
} from './graphql-js.ts';
import { type OperationLimits, tooComplex } from './limits.ts';

/** How many items a list without a page size is taken to have, and how many groups a time bucket. */
const ASSUMED_LIST_ITEMS = 5;
/** Widths of the time buckets of a field that takes `from`, `to` and `bucket`. */
const BUCKET_MS: Readonly<Record<string, number>> = { HOUR: 3_600_000, DAY: 86_400_000 };

/**
 * Estimates how many fields an operation's answer can have: each field is one, the fields below a connection
 * count once for every item of its page, those below another list five times. A list right below a field that sums up
 * a period (`usage`) has an item for each time bucket that was asked for, or five when the sums are broken down further.
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
    defaults[definition.variable.name.value] = plainValue(definition.defaultValue);
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
  /** A fragment costs the same wherever lists are taken to be equally long, so each is then walked once. */
  readonly #fragmentCosts = new Map<string, number>();

  constructor(schema: GraphQLSchema, document: DocumentNode, variables: Readonly<Record<string, unknown>>) {
    this.#schema = schema;
    this.#variables = variables;
    for (const definition of document.definitions) {
      if (definition.kind === Kind.FRAGMENT_DEFINITION)
        this.#fragments.set(definition.name.value, definition);
    }
  }

  /** `listItems` is how many items a list without a page size has here. */
  selection(set: SelectionSetNode, type: GraphQLNamedType, listItems = ASSUMED_LIST_ITEMS): number {
    let cost = 0;
    for (const node of set.selections) {
      if (node.kind === Kind.FIELD) cost += this.#field(node, type, listItems);
      else if (node.kind === Kind.FRAGMENT_SPREAD) cost += this.#fragment(node.name.value, listItems);
      else {
        const narrowed = this.#narrow(node.typeCondition?.name.value, type);
        cost += this.selection(node.selectionSet, narrowed, listItems);
      }
    }
    return cost;
  }

  #fragment(name: string, listItems: number): number {
    const key = `${name} ${listItems}`;
    const known = this.#fragmentCosts.get(key);
    if (known !== undefined) return known;
    const fragment = this.#fragments.get(name);
    const type = fragment && this.#schema.getType(fragment.typeCondition.name.value);
    const cost = fragment && type ? this.selection(fragment.selectionSet, type, listItems) : 0;
    this.#fragmentCosts.set(key, cost);
    return cost;
  }

  #field(node: FieldNode, parent: GraphQLNamedType, listItems: number): number {
    const field = fieldOf(parent, node.name.value);
    if (!field || !node.selectionSet) return 1;
    const below = this.selection(node.selectionSet, getNamedType(field.type), this.#rowsBelow(node, field));
    return 1 + this.#multiplier(node, field, parent, listItems) * below;
  }

  #multiplier(
    node: FieldNode,
    field: GraphQLField<unknown, unknown>,
    parent: GraphQLNamedType,
    listItems: number,
  ): number {
    if (field.args.some((arg) => arg.name === 'first')) {
      const size = this.#argument(node, field, 'first');
      return typeof size === 'number' && size > 1 ? size : 1;
    }
    const isList = isListType(getNullableType(field.type));
    // The page size was counted where the connection was selected.
    return isList && !parent.name.endsWith('Connection') ? listItems : 1;
  }

  /** How many items the lists right below a field have: for a summary of a period its buckets and groups. */
  #rowsBelow(node: FieldNode, field: GraphQLField<unknown, unknown>): number {
    if (!field.args.some((arg) => arg.name === 'bucket')) return ASSUMED_LIST_ITEMS;
    const width = BUCKET_MS[String(this.#argument(node, field, 'bucket') ?? 'DAY')];
    const [from, to] = ['from', 'to'].map((name) => Date.parse(String(this.#argument(node, field, name))));
    // What is no period, or ends before it starts, is refused before anything is summed up.
    if (width === undefined || from === undefined || to === undefined || !(to > from)) return 1;
    // Both ends are rounded to whole buckets.
    const buckets = Math.ceil(to / width) - Math.floor(from / width);
    return this.#argument(node, field, 'groupBy') == null ? buckets : buckets * ASSUMED_LIST_ITEMS;
  }

  /** What an argument is given as, by a literal or a variable, or its default. */
  #argument(node: FieldNode, field: GraphQLField<unknown, unknown>, name: string): unknown {
    const byDefault: unknown = field.args.find((arg) => arg.name === name)?.defaultValue;
    const value = node.arguments?.find((arg) => arg.name.value === name)?.value;
    if (value?.kind === Kind.VARIABLE) return this.#variables[value.name.value] ?? byDefault;
    return plainValue(value) ?? byDefault;
  }

  #narrow(name: string | undefined, type: GraphQLNamedType): GraphQLNamedType {
    return (name === undefined ? undefined : this.#schema.getType(name)) ?? type;
  }
}

/** Introspection fields are absent from the type's own fields and cost one each: their depth is bounded elsewhere. */
function fieldOf(type: GraphQLNamedType, name: string): GraphQLField<unknown, unknown> | undefined {
  return isObjectType(type) || isInterfaceType(type) ? type.getFields()[name] : undefined;
}

/** A literal number, text or enum value; anything else says nothing about how long a list is. */
function plainValue(node: ValueNode | undefined): unknown {
  if (node?.kind === Kind.INT) return Number(node.value);
  return node?.kind === Kind.STRING || node?.kind === Kind.ENUM ? node.value : undefined;
}
