import type { Uuid } from '../../kernel/ids.ts';
import type { PriorityClass } from '../../kernel/priority.ts';

/** One part of a request: an adapter version of it, or the plain backbone. Amounts are nano-units. */
export interface ReceiptPart {
  /** Null for the plain backbone. */
  readonly adapter: {
    readonly versionId: Uuid;
    readonly ownerTenantId: Uuid;
    /** As the engine executed it, hexadecimal. */
    readonly digest: string;
    readonly weight: number;
    readonly counter: Counter;
  } | null;
  readonly share: { readonly numerator: bigint; readonly denominator: bigint };
  /** Null for a request of before there were prices. */
  readonly charge: PartCharge | null;
}

/** What a part cost. Documents are named by their digests. */
export interface PartCharge {
  /** Null for the plain backbone. */
  readonly rank: number | null;
  readonly price: string;
  readonly royaltyTerms: string | null;
  readonly split: string | null;
  readonly input: bigint;
  readonly cached: bigint;
  readonly output: bigint;
  readonly rankAmount: bigint;
  readonly royalty: bigint;
  readonly fee: bigint;
}

/** A number of a lane. */
export interface Counter {
  readonly lane: number;
  readonly number: bigint;
}

/** Everything that a receipt states of one usage record. */
export interface ReceiptFacts {
  readonly requestId: Uuid;
  readonly tenantId: Uuid;
  readonly counter: Counter;
  readonly keyId: Uuid;
  readonly backboneDigest: string;
  readonly priority: PriorityClass;
  readonly promptTokens: number;
  readonly cachedPromptTokens: number;
  readonly completionTokens: number;
  readonly promptCommitment: string;
  readonly outputCommitment: string;
  /** Microseconds since 1970. */
  readonly admittedAtUs: bigint;
  readonly endedAtUs: bigint;
  readonly finish: string;
  readonly settledBy: 'engine' | 'recovery';
  readonly currency: string | null;
  readonly amount: bigint | null;
  /** In the ascending order of the versions' ids. */
  readonly parts: readonly ReceiptPart[];
}

/** Who may open a field: the tenant that asked, the owners of all parts, or the owner of the field's part. */
type Reader = 'tenant' | 'owners' | 'owner';

interface FieldRule<Of> {
  readonly name: string;
  readonly readers: readonly Reader[];
  readonly text: (of: Of) => string;
}

const BOTH: readonly Reader[] = ['tenant', 'owners'];
const TENANT: readonly Reader[] = ['tenant'];
const PART: readonly Reader[] = ['tenant', 'owner'];
const OWNER: readonly Reader[] = ['owner'];

/** The fields of a request, by index. docs/reference/proofs.md specifies them. */
const REQUEST_FIELDS: readonly FieldRule<ReceiptFacts>[] = [
  { name: 'tenant', readers: TENANT, text: ({ tenantId }) => tenantId },
  { name: 'tenantCounter', readers: TENANT, text: ({ counter }) => counterText(counter) },
  { name: 'key', readers: TENANT, text: ({ keyId }) => keyId },
  { name: 'backbone', readers: BOTH, text: ({ backboneDigest }) => backboneDigest },
  { name: 'priority', readers: BOTH, text: ({ priority }) => priority },
  { name: 'promptTokens', readers: BOTH, text: ({ promptTokens }) => String(promptTokens) },
  { name: 'cachedPromptTokens', readers: BOTH, text: ({ cachedPromptTokens }) => String(cachedPromptTokens) },
  { name: 'completionTokens', readers: BOTH, text: ({ completionTokens }) => String(completionTokens) },
  { name: 'promptCommitment', readers: TENANT, text: ({ promptCommitment }) => promptCommitment },
  { name: 'outputCommitment', readers: TENANT, text: ({ outputCommitment }) => outputCommitment },
  { name: 'admittedAt', readers: TENANT, text: ({ admittedAtUs }) => String(admittedAtUs) },
  { name: 'endedAt', readers: BOTH, text: ({ endedAtUs }) => String(endedAtUs) },
  { name: 'finish', readers: TENANT, text: ({ finish }) => finish },
  { name: 'settledBy', readers: BOTH, text: ({ settledBy }) => settledBy },
  { name: 'currency', readers: BOTH, text: ({ currency }) => currency ?? '' },
  { name: 'amount', readers: TENANT, text: ({ amount }) => textOf(amount) },
];

/** The fields of each part, by their distance from the part's first. */
const PART_FIELDS: readonly FieldRule<ReceiptPart>[] = [
  { name: 'version', readers: PART, text: ({ adapter }) => adapter?.versionId ?? '' },
  { name: 'digest', readers: PART, text: ({ adapter }) => adapter?.digest ?? '' },
  {
    name: 'weight',
    readers: PART,
    text: ({ adapter }) => (adapter === null ? '' : doubleText(adapter.weight)),
  },
  { name: 'share', readers: PART, text: ({ share }) => `${share.numerator}/${share.denominator}` },
  { name: 'owner', readers: OWNER, text: ({ adapter }) => adapter?.ownerTenantId ?? '' },
  {
    name: 'counter',
    readers: OWNER,
    text: ({ adapter }) => (adapter === null ? '' : counterText(adapter.counter)),
  },
  { name: 'rank', readers: PART, text: ({ charge }) => textOf(charge?.rank) },
  { name: 'price', readers: PART, text: ({ charge }) => charge?.price ?? '' },
  { name: 'royaltyTerms', readers: PART, text: ({ charge }) => charge?.royaltyTerms ?? '' },
  { name: 'split', readers: OWNER, text: ({ charge }) => charge?.split ?? '' },
  { name: 'input', readers: PART, text: ({ charge }) => textOf(charge?.input) },
  { name: 'cached', readers: PART, text: ({ charge }) => textOf(charge?.cached) },
  { name: 'output', readers: PART, text: ({ charge }) => textOf(charge?.output) },
  { name: 'rankAmount', readers: PART, text: ({ charge }) => textOf(charge?.rankAmount) },
  { name: 'royalty', readers: PART, text: ({ charge }) => textOf(charge?.royalty) },
  { name: 'fee', readers: OWNER, text: ({ charge }) => textOf(charge?.fee) },
  { name: 'total', readers: PART, text: ({ charge }) => textOf(charge === null ? null : totalOf(charge)) },
];

/** A field's text, and who may open it. */
export interface Field {
  readonly text: string;
  readonly readers: ReadonlySet<Uuid>;
}

/** The fields of a receipt, by index. */
export function fieldsOf(facts: ReceiptFacts): readonly Field[] {
  const owners = facts.parts.flatMap(({ adapter }) => (adapter === null ? [] : [adapter.ownerTenantId]));
  const readersOf = (readers: readonly Reader[], part: ReceiptPart | null): ReadonlySet<Uuid> =>
    new Set([
      ...(readers.includes('tenant') ? [facts.tenantId] : []),
      ...(readers.includes('owners') ? owners : []),
      ...(readers.includes('owner') && part?.adapter ? [part.adapter.ownerTenantId] : []),
    ]);
  const ofRequest = REQUEST_FIELDS.map(({ text, readers }) => ({
    text: text(facts),
    readers: readersOf(readers, null),
  }));
  const ofParts = facts.parts.flatMap((part) =>
    PART_FIELDS.map(({ text, readers }) => ({ text: text(part), readers: readersOf(readers, part) })),
  );
  return [...ofRequest, ...ofParts];
}

/** The name of a field: `tokens`, or `part.0.version`. */
export function fieldName(index: number): string {
  const inPart = index - REQUEST_FIELDS.length;
  if (inPart < 0) return REQUEST_FIELDS[index]?.name ?? '';
  const part = Math.floor(inPart / PART_FIELDS.length);
  return `part.${part}.${PART_FIELDS[inPart % PART_FIELDS.length]?.name ?? ''}`;
}

function totalOf({ input, cached, output, rankAmount, royalty }: PartCharge): bigint {
  return input + cached + output + rankAmount + royalty;
}

function counterText({ lane, number }: Counter): string {
  return `${lane}:${number}`;
}

/** The bits of an IEEE 754 double, the sign first. */
function doubleText(value: number): string {
  const bytes = Buffer.alloc(8);
  bytes.writeDoubleBE(value);
  return bytes.toString('hex');
}

function textOf(value: bigint | number | null | undefined): string {
  return value === null || value === undefined ? '' : String(value);
}
