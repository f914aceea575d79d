import { z } from 'zod';
import { parseMoney } from '../kernel/money.ts';

/** One variable: what it is called, what it may be, what it is without being set, and what it is for. */
export interface Setting<T> {
  /** The environment variable. */
  readonly env: string;
  /** A second name that is read when the first is not set, such as the `PORT` that hosting platforms give. */
  readonly alias?: string;
  /** Parses and checks the text of the variable. */
  readonly schema: z.ZodType<T, string>;
  /** The default as one would write it in the environment; null when there is none. */
  readonly fallback: string | null;
  /** What the value is without the variable. */
  readonly defaultValue: T;
  /** What is accepted, completing "expected …". */
  readonly expected: string;
  /** What it does, one or two sentences; feeds the reference documentation. */
  readonly doc: string;
  /** How much of the value may be shown. */
  readonly secrecy: Secrecy;
}

/** `hidden`: nothing is shown; `url`: all but the password is; `open`: everything is. */
export type Secrecy = 'open' | 'url' | 'hidden';

/** What every kind of setting needs. */
interface Basics {
  readonly env: string;
  readonly alias?: string;
  readonly doc: string;
  readonly secrecy?: Secrecy;
}

function make<T>(
  basics: Basics,
  rest: Pick<Setting<T>, 'schema' | 'fallback' | 'defaultValue' | 'expected'>,
): Setting<T> {
  const { secrecy = 'open', ...names } = basics;
  return { ...names, secrecy, ...rest };
}

/** A number of something, within bounds. */
export function integer(
  basics: Basics,
  range: { readonly default: number; readonly min: number; readonly max: number },
): Setting<number> {
  return make(basics, {
    schema: boundedInteger(range),
    fallback: String(range.default),
    defaultValue: range.default,
    expected: `a whole number from ${range.min} to ${range.max}`,
  });
}

/** A whole number that is worked out from the machine or the backbone when it is not given. */
export function optionalInteger(
  basics: Basics,
  range: { readonly min: number; readonly max: number },
): Setting<number | null> {
  return make<number | null>(basics, {
    schema: boundedInteger(range),
    fallback: null,
    defaultValue: null,
    expected: `a whole number from ${range.min} to ${range.max}`,
  });
}

/** A number of something, within bounds, or a word in its place. */
export function integerOr<const W extends string>(
  basics: Basics,
  word: W,
  range: { readonly default: number | W; readonly min: number; readonly max: number },
): Setting<number | W> {
  return make<number | W>(basics, {
    schema: z.union([z.literal(word), boundedInteger(range)]),
    fallback: String(range.default),
    defaultValue: range.default,
    expected: `a whole number from ${range.min} to ${range.max}, or ${word}`,
  });
}

function boundedInteger(range: { readonly min: number; readonly max: number }): z.ZodType<number, string> {
  return z
    .string()
    .regex(/^\d{1,15}$/)
    .transform(Number)
    .refine((value) => value >= range.min && value <= range.max);
}

/** A duration in milliseconds; `30s` and `5m` are understood as well. */
export function durationMs(
  basics: Basics,
  range: { readonly default: string; readonly min: string; readonly max: string },
): Setting<number> {
  return measured(basics, range, parseDurationMs, 'milliseconds, or a number with ms, s, m or h,');
}

/** A number of bytes; `256MB` and `2GiB` are understood as well. */
export function byteSize(
  basics: Basics,
  range: { readonly default: string; readonly min: string; readonly max: string },
): Setting<number> {
  return measured(basics, range, parseBytes, 'a byte count such as 268435456, 256MB or 2GB,');
}

/** A number of bytes that is worked out from the machine and the backbone when it is not given. */
export function optionalByteSize(
  basics: Basics,
  range: { readonly min: string; readonly max: string },
): Setting<number | null> {
  const { schema, expected } = byteSize(basics, { ...range, default: range.min });
  return make<number | null>(basics, { schema, expected, fallback: null, defaultValue: null });
}

/** An amount of money in units of the currency, such as `12.50`, as nano-units. */
export function money(
  basics: Basics,
  range: { readonly default: string; readonly min: string; readonly max: string },
): Setting<bigint> {
  const known = (text: string): bigint => {
    const value = parseMoney(text);
    if (value === null) throw new Error(`The table holds ${text}, which is no amount.`);
    return value;
  };
  const min = known(range.min);
  const max = known(range.max);
  return make(basics, {
    schema: z
      .string()
      .transform(parseMoney)
      .pipe(z.bigint())
      .refine((value) => value >= min && value <= max),
    fallback: range.default,
    defaultValue: known(range.default),
    expected: `an amount such as 12.50, from ${range.min} to ${range.max},`,
  });
}

function measured(
  basics: Basics,
  range: { readonly default: string; readonly min: string; readonly max: string },
  parse: (text: string) => number | null,
  kind: string,
): Setting<number> {
  const known = (text: string): number => {
    const value = parse(text);
    if (value === null) throw new Error(`The table holds ${text}, which its own parser refuses.`);
    return value;
  };
  const min = known(range.min);
  const max = known(range.max);
  return make(basics, {
    schema: z
      .string()
      .transform(parse)
      .pipe(z.number())
      .refine((value) => value >= min && value <= max),
    fallback: range.default,
    defaultValue: known(range.default),
    expected: `${kind} from ${range.min} to ${range.max}`,
  });
}

/** One of a few words. */
export function choice<const T extends string>(
  basics: Basics,
  words: readonly [T, ...T[]],
  fallback: NoInfer<T>,
): Setting<T> {
  return make<T>(basics, {
    schema: z.enum(words),
    fallback,
    defaultValue: fallback,
    expected: `one of ${words.join(', ')}`,
  });
}

/** One of a few numbers. */
export function numberChoice<const T extends number>(
  basics: Basics,
  numbers: readonly [T, ...T[]],
  fallback: NoInfer<T>,
): Setting<T> {
  return make<T>(basics, {
    schema: z.string().transform((value, context) => {
      const found = numbers.find((number) => String(number) === value);
      if (found !== undefined) return found;
      context.addIssue({ code: 'custom' });
      return z.NEVER;
    }),
    fallback: String(fallback),
    defaultValue: fallback,
    expected: `one of ${numbers.join(', ')}`,
  });
}

/** Yes or no. */
export function flag(basics: Basics, fallback: boolean): Setting<boolean> {
  const yes = ['true', '1', 'yes', 'on'];
  const no = ['false', '0', 'no', 'off'];
  return make(basics, {
    schema: z
      .string()
      .toLowerCase()
      .refine((text) => yes.includes(text) || no.includes(text))
      .transform((text) => yes.includes(text)),
    fallback: String(fallback),
    defaultValue: fallback,
    expected: 'true or false',
  });
}

/** Text with a rule. */
export function text(basics: Basics, rule: TextRule & { readonly default: string }): Setting<string> {
  return make<string>(basics, {
    schema: rule.schema ?? z.string(),
    fallback: rule.default,
    defaultValue: rule.default,
    expected: rule.expected,
  });
}

/** Text that may be left out. */
export function optionalText(basics: Basics, rule: TextRule): Setting<string | null> {
  return make<string | null>(basics, {
    schema: rule.schema ?? z.string(),
    fallback: null,
    defaultValue: null,
    expected: rule.expected,
  });
}

/** A comma-separated list of words. */
export function list(basics: Basics, words: readonly string[], fallback: string): Setting<readonly string[]> {
  const split = (value: string): readonly string[] => value.split(',').map((word) => word.trim());
  return make<readonly string[]>(basics, {
    schema: z
      .string()
      .transform(split)
      .refine((parts) => parts.every((part) => words.includes(part)) && new Set(parts).size === parts.length),
    fallback,
    defaultValue: split(fallback),
    expected: `a comma-separated list out of ${words.join(', ')}, each once`,
  });
}

interface TextRule {
  readonly schema?: z.ZodType<string, string>;
  readonly expected: string;
}

const BYTE_UNITS = new Map([
  ['', 1],
  ['b', 1],
  ['k', 2 ** 10],
  ['m', 2 ** 20],
  ['g', 2 ** 30],
  ['t', 2 ** 40],
]);

/**
 * Reads `1048576`, `256MB`, `1.5 GiB`. Units are powers of 1024 with or without the `i`, because memory is counted
 * that way and a surprise of 7 % would help nobody. Null when it is not a size.
 */
export function parseBytes(value: string): number | null {
  const match = /^(\d{1,15}(?:\.\d{1,6})?)\s*([kmgt]?)(i?b)?$/i.exec(value.trim());
  const unit = BYTE_UNITS.get(match?.[2]?.toLowerCase() ?? '?');
  if (match === null || unit === undefined) return null;
  const bytes = Number(match[1]) * unit;
  return Number.isSafeInteger(Math.round(bytes)) ? Math.round(bytes) : null;
}

const DURATION_UNITS_MS = new Map([
  ['', 1],
  ['ms', 1],
  ['s', 1_000],
  ['m', 60_000],
  ['h', 3_600_000],
]);

/** Reads `1500`, `1500ms`, `30s`, `5m`, `2h` as milliseconds. Null when it is not a duration. */
export function parseDurationMs(value: string): number | null {
  const match = /^(\d{1,12}(?:\.\d{1,3})?)\s*(ms|s|m|h)?$/i.exec(value.trim());
  const unit = DURATION_UNITS_MS.get(match?.[2]?.toLowerCase() ?? '');
  if (match === null || unit === undefined) return null;
  return Math.round(Number(match[1]) * unit);
}
