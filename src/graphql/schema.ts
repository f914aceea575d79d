import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { invariant } from '../kernel/errors.ts';
import { auditRootFields } from './audit.ts';
import {
  buildSchema,
  type GraphQLFieldResolver,
  type GraphQLSchema,
  type GraphQLTypeResolver,
  isAbstractType,
  isObjectType,
  isScalarType,
} from './graphql-js.ts';
import { resolvers } from './resolvers/index.ts';
import { SCALARS } from './scalars.ts';

/** The SDL folder, at the same distance from `src/graphql` and from `dist/graphql`. */
const SCHEMA_FOLDER = fileURLToPath(new URL('../../schema/', import.meta.url));

/** All SDL files as one document. */
export function readSdl(folder: string = SCHEMA_FOLDER): string {
  const files = readdirSync(folder).filter((name) => name.endsWith('.graphql'));
  return files
    .sort()
    .map((name) => readFileSync(join(folder, name), 'utf8'))
    .join('\n');
}

/** The executable schema: the SDL with this folder's resolvers and scalars attached. */
export function createSchema(): GraphQLSchema {
  return auditRootFields(attach(buildSchema(readSdl()), resolvers));
}

/** A field's behaviour: a resolver, or for subscriptions a source and a resolver. */
type FieldBehaviour = unknown;

/** Puts resolvers on a schema that was built from SDL; a resolver without a field in the SDL is a bug. */
export function attach(
  schema: GraphQLSchema,
  behaviours: Readonly<Record<string, Readonly<Record<string, FieldBehaviour>>>>,
): GraphQLSchema {
  for (const [name, implementation] of Object.entries(SCALARS)) {
    const type = schema.getType(name);
    invariant(isScalarType(type), `scalar ${name} is not in the SDL`);
    type.serialize = implementation.serialize;
    type.parseValue = implementation.parseValue;
    type.parseLiteral = implementation.parseLiteral;
  }
  for (const [typeName, fields] of Object.entries(behaviours)) {
    const type = schema.getType(typeName);
    if (isAbstractType(type)) {
      invariant(isTypeResolver(fields.__resolveType), `${typeName} has no __resolveType`);
      type.resolveType = fields.__resolveType;
      continue;
    }
    invariant(isObjectType(type), `resolvers for ${typeName}, which is not in the SDL`);
    for (const [fieldName, behaviour] of Object.entries(fields)) {
      const field = type.getFields()[fieldName];
      invariant(field, `a resolver for ${typeName}.${fieldName}, which is not in the SDL`);
      if (isResolver(behaviour)) field.resolve = behaviour;
      else if (isSubscription(behaviour)) {
        field.subscribe = behaviour.subscribe;
        if (behaviour.resolve) field.resolve = behaviour.resolve;
      } else invariant(false, `${typeName}.${fieldName} is neither a resolver nor a subscription`);
    }
  }
  return schema;
}

type AnyResolver = GraphQLFieldResolver<unknown, unknown>;

function isResolver(behaviour: unknown): behaviour is AnyResolver {
  return typeof behaviour === 'function';
}

function isTypeResolver(behaviour: unknown): behaviour is GraphQLTypeResolver<unknown, unknown> {
  return typeof behaviour === 'function';
}

function isSubscription(
  behaviour: unknown,
): behaviour is { readonly subscribe: AnyResolver; readonly resolve?: AnyResolver } {
  return typeof behaviour === 'object' && behaviour !== null && 'subscribe' in behaviour;
}
