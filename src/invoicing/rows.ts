import { z } from 'zod';
import type {
  CreditNote as CreditNoteRow,
  Prisma,
  BillingTerms as TermsRow,
} from '../db/generated/client.ts';
import type { Uuid } from '../kernel/ids.ts';
import { type InvoiceDocument, parseDocument } from './document.ts';
import type { BillingTermsVersion } from './terms.ts';

/** Where an invoice stands. */
export const INVOICE_STATES = ['DRAFT', 'FINALISED', 'PAID', 'VOID'] as const;
export type InvoiceState = (typeof INVOICE_STATES)[number];

/** A correction of a final invoice: money that is given back. */
export interface CreditNote {
  readonly id: Uuid;
  readonly tenantId: Uuid;
  readonly invoiceId: Uuid;
  readonly number: string;
  readonly currency: string;
  readonly amountNano: bigint;
  readonly reason: string;
  readonly createdAt: Date;
}

/** The bill of a tenant and a month. */
export interface Invoice {
  readonly id: Uuid;
  readonly tenantId: Uuid;
  /** As the tenant was called when the period was closed. */
  readonly customerName: string;
  /** What lines are shown with, by adapter version or backbone. */
  readonly names: Readonly<Record<string, string>>;
  readonly state: InvoiceState;
  /** Null for a draft. */
  readonly number: string | null;
  readonly period: { readonly start: Date; readonly end: Date };
  readonly currency: string;
  readonly chargesNano: bigint;
  readonly totalNano: bigint;
  /** What the content says. */
  readonly document: InvoiceDocument;
  /** The canonical bytes of the document, and their SHA-256 in hex. */
  readonly content: string;
  readonly sha256: string;
  /** The how-manieth bill of its month; those before it are void. */
  readonly revision: number;
  /** Who wrote it, as it was set when the period was closed. */
  readonly issuer: string | null;
  /** What of the total the balance had paid when the period ended. */
  readonly prepaidNano: bigint;
  /** What is to be paid yet: the total less what was prepaid and credited. Zero once it is paid or void. */
  readonly dueNano: bigint;
  /** What of a minimum charge waits until it fits into the balance. */
  readonly openNano: bigint;
  readonly creditNotes: readonly CreditNote[];
  readonly paymentReference: string | null;
  /** The transfer that brought what was due. */
  readonly paymentTransferId: Uuid | null;
  readonly createdAt: Date;
  readonly finalisedAt: Date | null;
  readonly paidAt: Date | null;
  readonly voidedAt: Date | null;
}

/** What {@link toInvoice} reads. */
export const INVOICE_PARTS = {
  creditNotes: { orderBy: { id: 'asc' } },
  openCharges: true,
} as const satisfies Prisma.InvoiceInclude;

type InvoiceRow = Prisma.InvoiceGetPayload<{ include: typeof INVOICE_PARTS }>;

const state = z.enum(INVOICE_STATES);
const names = z.record(z.string(), z.string());

/** Reads an invoice with its parts. */
export function toInvoice(row: InvoiceRow): Invoice {
  let document: InvoiceDocument | undefined;
  const creditNotes = row.creditNotes.map(toCreditNote);
  return {
    id: row.id,
    tenantId: row.tenantId,
    customerName: row.customerName,
    names: names.parse(row.names),
    state: state.parse(row.state),
    number: row.number,
    period: { start: row.periodStart, end: row.periodEnd },
    currency: row.currency,
    chargesNano: BigInt(row.chargesNano.toFixed(0)),
    totalNano: BigInt(row.totalNano.toFixed(0)),
    /** Read when somebody asks: it may have thousands of lines, and lists show none of them. */
    get document() {
      document ??= parseDocument(row.content);
      return document;
    },
    content: row.content,
    sha256: Buffer.from(row.contentSha256).toString('hex'),
    openNano: row.openCharges.reduce((sum, { amountNano }) => sum + amountNano, 0n),
    ...{ revision: row.revision, issuer: row.issuer },
    prepaidNano: integer(row.prepaidNano),
    dueNano: dueOf(row, creditNotes),
    creditNotes,
    paymentTransferId: row.paymentTransferId,
    paymentReference: row.paymentReference,
    createdAt: row.createdAt,
    finalisedAt: row.finalisedAt,
    paidAt: row.paidAt,
    voidedAt: row.voidedAt,
  };
}

function dueOf(row: InvoiceRow, creditNotes: readonly CreditNote[]): bigint {
  if (row.state === 'PAID' || row.state === 'VOID') return 0n;
  const left = integer(row.totalNano) - integer(row.prepaidNano);
  const due = creditNotes.reduce((rest, { amountNano }) => rest - amountNano, left);
  return due > 0n ? due : 0n;
}

/** A whole number of up to 38 digits, as the database has it. */
function integer(value: Prisma.Decimal): bigint {
  return BigInt(value.toFixed());
}

/** Reads a credit note. */
export function toCreditNote(row: CreditNoteRow): CreditNote {
  const { id, tenantId, invoiceId, number, currency, amountNano, reason, createdAt } = row;
  return { id, tenantId, invoiceId, number, currency, amountNano, reason, createdAt };
}

/** Reads a version of terms. */
export function toTermsVersion(
  row: TermsRow,
  effectiveUntil: Date | null,
  isDefault: boolean,
): BillingTermsVersion {
  const { id, effectiveFrom, createdAt, currency } = row;
  const version = { id, effectiveFrom, effectiveUntil, createdAt, tenantId: isDefault ? null : row.tenantId };
  if (row.inherits) return { ...version, terms: null };
  const tiers = row.tierFromNano.map((fromNano, index) => ({
    fromNano,
    discountPpm: row.tierDiscountPpm[index] ?? 0n,
  }));
  return {
    ...version,
    terms: { currency, freeNano: row.freeNano ?? 0n, minimumNano: row.minimumNano ?? 0n, tiers },
  };
}
