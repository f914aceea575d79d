import { createHash } from 'node:crypto';
import { z } from 'zod';
import type { Uuid } from '../kernel/ids.ts';
import { canonicalJson, type Json } from '../kernel/json.ts';
import type { Period } from '../kernel/period.ts';
import { PRIORITY_CLASSES, type PriorityClass } from '../kernel/priority.ts';
import { type Adjustment, adjust } from './adjustments.ts';
import { type BillingTerms, billingTermsJson } from './terms.ts';

/** What a document says of itself, so that a later format can be told apart. */
const FORMAT = 'patchbay.invoice.v1';

/** What a line sums up: parts of requests that were priced by the same versions. */
export interface LineKey {
  /** Null for the plain backbone. */
  readonly adapterVersionId: Uuid | null;
  readonly adapterId: Uuid | null;
  readonly backboneDigest: string;
  readonly priority: PriorityClass;
  readonly priceVersionId: Uuid;
  /** Null where the owner asked for nothing. */
  readonly royaltyVersionId: Uuid | null;
}

/** A line of an invoice. A request that blends adapters counts in the line of each of them, with all its tokens. */
export interface InvoiceLine extends LineKey {
  readonly requests: bigint;
  readonly inputTokens: bigint;
  readonly cachedTokens: bigint;
  readonly outputTokens: bigint;
  readonly inputNano: bigint;
  readonly cachedNano: bigint;
  readonly outputNano: bigint;
  readonly rankNano: bigint;
  readonly royaltyNano: bigint;
  readonly totalNano: bigint;
}

/** The version of the terms that was in effect at the end of a period. */
export interface PinnedTerms {
  readonly id: Uuid;
  readonly terms: BillingTerms;
}

/** Everything that an invoice says of its period. */
export interface InvoiceDocument {
  readonly tenantId: Uuid;
  readonly period: { readonly start: Date; readonly end: Date };
  readonly currency: string;
  /** In the order of {@link compareLines}. */
  readonly lines: readonly InvoiceLine[];
  readonly chargesNano: bigint;
  readonly terms: PinnedTerms | null;
  readonly adjustments: readonly Adjustment[];
  readonly totalNano: bigint;
}

/** Puts a document together: the same facts give the same document, in whatever order they come. */
export function composeDocument(facts: {
  readonly tenantId: Uuid;
  readonly period: Period;
  readonly currency: string;
  readonly lines: readonly InvoiceLine[];
  readonly terms: PinnedTerms | null;
}): InvoiceDocument {
  const { tenantId, period, currency, terms } = facts;
  const lines = facts.lines.toSorted(compareLines);
  const chargesNano = lines.reduce((sum, line) => sum + line.totalNano, 0n);
  const { start, end } = period;
  return {
    tenantId,
    period: { start, end },
    currency,
    lines,
    chargesNano,
    terms,
    ...adjust(chargesNano, terms?.terms ?? null),
  };
}

/** The canonical text of a document: names sorted, integers as decimal text, times in UTC with milliseconds. */
export function documentText(document: InvoiceDocument): string {
  const { period, lines, terms, adjustments } = document;
  return canonicalJson({
    format: FORMAT,
    tenantId: document.tenantId,
    period: { start: period.start.toISOString(), end: period.end.toISOString() },
    currency: document.currency,
    lines: lines.map(textual),
    chargesNano: String(document.chargesNano),
    terms: terms === null ? null : { id: terms.id, ...billingTermsJson(terms.terms) },
    adjustments: adjustments.map(textual),
    totalNano: String(document.totalNano),
  });
}

/** SHA-256 of a document's text in UTF-8. */
export function hashOf(text: string): Uint8Array<ArrayBuffer> {
  return new Uint8Array(createHash('sha256').update(text, 'utf8').digest());
}

/** Reads a document back. It was written by {@link documentText} and its hash was checked, or it throws. */
export function parseDocument(text: string): InvoiceDocument {
  const { format: _format, period, terms, ...rest } = documentShape.parse(JSON.parse(text));
  return {
    ...rest,
    period: { start: new Date(period.start), end: new Date(period.end) },
    terms: terms && pinned(terms),
  };
}

function pinned({ id, ...terms }: BillingTerms & { readonly id: Uuid }): PinnedTerms {
  return { id, terms };
}

/** Lines by adapter version, backbone, class, price and royalty; the plain backbone comes first. */
function compareLines(a: LineKey, b: LineKey): number {
  const [left, right] = [sortKey(a), sortKey(b)];
  return left < right ? -1 : left > right ? 1 : 0;
}

/** Ids and digests have one length each, so their texts sort as the lists of them do. */
function sortKey(line: LineKey): string {
  return [
    line.adapterVersionId ?? '',
    line.backboneDigest,
    line.priority,
    line.priceVersionId,
    line.royaltyVersionId ?? '',
  ].join('/');
}

function textual(fields: object): Json {
  return Object.fromEntries(
    Object.entries(fields).map(([name, value]: [string, unknown]) => [
      name,
      value === null ? null : String(value),
    ]),
  );
}

const integer = z
  .string()
  .regex(/^-?\d+$/)
  .transform((text) => BigInt(text));

const lineShape = z.object({
  adapterVersionId: z.string().nullable(),
  adapterId: z.string().nullable(),
  backboneDigest: z.string(),
  priority: z.enum(PRIORITY_CLASSES),
  priceVersionId: z.string(),
  royaltyVersionId: z.string().nullable(),
  requests: integer,
  inputTokens: integer,
  cachedTokens: integer,
  outputTokens: integer,
  inputNano: integer,
  cachedNano: integer,
  outputNano: integer,
  rankNano: integer,
  royaltyNano: integer,
  totalNano: integer,
});

const adjustmentShape = z.discriminatedUnion('kind', [
  z.object({ kind: z.literal('ALLOWANCE'), amountNano: integer }),
  z.object({
    kind: z.literal('TIER'),
    fromNano: integer,
    discountPpm: integer,
    basisNano: integer,
    amountNano: integer,
  }),
  z.object({ kind: z.literal('MINIMUM'), amountNano: integer }),
]);

const documentShape = z.object({
  format: z.literal(FORMAT),
  tenantId: z.string(),
  period: z.object({ start: z.iso.datetime(), end: z.iso.datetime() }),
  currency: z.string(),
  lines: z.array(lineShape),
  chargesNano: integer,
  terms: z
    .object({
      id: z.string(),
      currency: z.string(),
      freeNano: integer,
      minimumNano: integer,
      tiers: z.array(z.object({ fromNano: integer, discountPpm: integer })),
    })
    .nullable(),
  adjustments: z.array(adjustmentShape),
  totalNano: integer,
});
