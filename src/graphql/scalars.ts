import { isUuid } from '../kernel/ids.ts';
import { GraphQLError, GraphQLScalarType, Kind, type ValueNode } from './graphql-js.ts';

/** What the SDL's scalars do; the SDL holds their descriptions. */
export const SCALARS: Readonly<Record<string, GraphQLScalarType>> = {
  DateTime: scalar<Date>('DateTime', {
    serialize: (value) => {
      if (value instanceof Date && !Number.isNaN(value.getTime())) return value.toISOString();
      throw new GraphQLError('DateTime can only serialise a valid Date.');
    },
    parse: (value) => {
      if (typeof value === 'string' && RFC3339.test(value)) {
        const date = new Date(value);
        if (!Number.isNaN(date.getTime())) return date;
      }
      throw new GraphQLError(
        'DateTime must be an RFC 3339 string with an offset, such as 2026-01-31T12:00:00Z.',
      );
    },
  }),
  UUID: scalar<string>('UUID', {
    serialize: (value) => String(value),
    parse: (value) => {
      if (typeof value === 'string' && isUuid(value)) return value;
      throw new GraphQLError('UUID must be a lower-case UUID with dashes.');
    },
  }),
  BigInt: integerString('BigInt'),
  Money: integerString('Money'),
  JSONObject: scalar<unknown>('JSONObject', {
    serialize: (value) => value,
    parse: () => {
      throw new GraphQLError('JSONObject cannot be an input.');
    },
  }),
};

const RFC3339 = /^\d{4}-\d{2}-\d{2}[Tt]\d{2}:\d{2}:\d{2}(\.\d{1,9})?([Zz]|[+-]\d{2}:\d{2})$/;
/** Longest decimal string that is parsed: parsing time grows faster than length. */
const INTEGER_DIGITS_MAX = 78;
const INTEGER = new RegExp(`^-?[0-9]{1,${INTEGER_DIGITS_MAX}}$`);

function integerString(name: string): GraphQLScalarType {
  return scalar<bigint>(name, {
    serialize: (value) => {
      if (typeof value === 'bigint') return value.toString();
      if (typeof value === 'number' && Number.isSafeInteger(value)) return value.toString();
      throw new GraphQLError(`${name} can only serialise an integer.`);
    },
    parse: (value) => {
      if (typeof value === 'number' && Number.isSafeInteger(value)) return BigInt(value);
      if (typeof value === 'string' && INTEGER.test(value)) return BigInt(value);
      throw new GraphQLError(
        `${name} must be an integer as a decimal string of at most ${INTEGER_DIGITS_MAX} digits.`,
      );
    },
  });
}

interface ScalarRules<T> {
  readonly serialize: (value: unknown) => unknown;
  readonly parse: (value: unknown) => T;
}

function scalar<T>(name: string, { serialize, parse }: ScalarRules<T>): GraphQLScalarType {
  return new GraphQLScalarType<T, unknown>({
    name,
    serialize,
    parseValue: parse,
    parseLiteral: (node) => parse(literalValue(node)),
  });
}

/** The plain value of a literal; big integers stay text, so that no digit is lost. */
function literalValue(node: ValueNode): unknown {
  if (node.kind === Kind.STRING || node.kind === Kind.INT) return node.value;
  return undefined;
}
