import { isDecimal, MAX_AMOUNT, MAX_U64, UUID } from './input/texts.ts';

/** Whether a text is a value of the field. */
type Form = (value: string) => boolean;

const HASH = /^[0-9a-f]{64}$/;
/** The two numbers of a share can be larger than 64 bits; this is more than either can reach. */
const MAX_SHARE_DIGITS = 400;

const hash: Form = (value) => HASH.test(value);
const uuid: Form = (value) => UUID.test(value);
const count: Form = (value) => isDecimal(value, MAX_U64);
const amount: Form = (value) => value === '' || isDecimal(value, MAX_AMOUNT);
const rank: Form = (value) => isDecimal(value, 65_535n, 1n);
const words = (...all: readonly string[]): Form => {
  const set = new Set(all);
  return (value) => set.has(value);
};
const orEmpty =
  (form: Form): Form =>
  (value) =>
    value === '' || form(value);
const counter: Form = (value) => {
  const [lane, number, ...more] = value.split(':');
  return (
    more.length === 0 &&
    isDecimal(lane ?? '', 2n ** 32n - 1n) &&
    number !== undefined &&
    isDecimal(number, MAX_U64, 1n)
  );
};
const share: Form = (value) =>
  /^(?:0|[1-9][0-9]*)\/[1-9][0-9]*$/.test(value) && value.length <= 2 * MAX_SHARE_DIGITS;
const currency: Form = (value) => /^[A-Z]{3,8}$/.test(value);
const weight: Form = (value) => {
  if (!/^[0-9a-f]{16}$/.test(value)) return false;
  return Number.isFinite(weightOf(value));
};

/** The number that a weight's 16 digits are; zero when there are none. */
export function weightOf(digits: string): number {
  return digits === '' ? 0 : Buffer.from(digits, 'hex').readDoubleBE();
}

const REQUEST_FIELDS = {
  tenant: uuid,
  tenantCounter: counter,
  key: uuid,
  backbone: hash,
  priority: words('INTERACTIVE', 'STANDARD', 'BATCH'),
  promptTokens: count,
  cachedPromptTokens: count,
  completionTokens: count,
  promptCommitment: hash,
  outputCommitment: hash,
  admittedAt: count,
  endedAt: count,
  finish: words('stop', 'length', 'cancelled', 'error'),
  settledBy: words('engine', 'recovery'),
  currency: orEmpty(currency),
  amount,
};

const PART_FIELDS = {
  version: orEmpty(uuid),
  digest: orEmpty(hash),
  weight: orEmpty(weight),
  share,
  owner: orEmpty(uuid),
  counter: orEmpty(counter),
  rank: orEmpty(rank),
  price: orEmpty(hash),
  royaltyTerms: orEmpty(hash),
  split: orEmpty(hash),
  input: amount,
  cached: amount,
  output: amount,
  rankAmount: amount,
  royalty: amount,
  fee: amount,
  total: amount,
};

export type RequestField = keyof typeof REQUEST_FIELDS;
export type PartField = keyof typeof PART_FIELDS;

const REQUEST = Object.entries(REQUEST_FIELDS);
const PART = Object.entries(PART_FIELDS);

/** What a field of an index is called, and what its values look like. */
export function fieldAt(index: number): { readonly name: string; readonly form: Form } | null {
  if (index < REQUEST.length) return named(REQUEST[index], '');
  const offset = index - REQUEST.length;
  return named(PART[offset % PART.length], `part.${Math.floor(offset / PART.length)}.`);
}

function named(entry: readonly [string, Form] | undefined, prefix: string) {
  return entry === undefined ? null : { name: prefix + entry[0], form: entry[1] };
}

/** How many parts a receipt of this many fields has, or null when there is none. */
export function partsOf(fields: number): number | null {
  const rest = fields - REQUEST.length;
  return rest > 0 && rest % PART.length === 0 ? rest / PART.length : null;
}
