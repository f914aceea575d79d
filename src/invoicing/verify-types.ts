import type { Uuid } from '../kernel/ids.ts';

/** Something about a bill that is not as it must be. */
export interface InvoiceProblem {
  /** Null for what concerns no single bill. */
  readonly invoiceId: Uuid | null;
  /** Number, or tenant and period of a draft. */
  readonly bill: string;
  readonly message: string;
}

/** An invoice as it is stored. */
export interface StoredInvoice {
  readonly id: Uuid;
  readonly tenant_id: Uuid;
  readonly period_start: Date;
  readonly revision: number;
  readonly currency: string;
  readonly state: string;
  readonly number: string | null;
  readonly content: string;
  readonly sha256: string;
  readonly charges: string;
  readonly reduction: string;
  readonly minimum: string;
  readonly total: string;
  readonly prepaid: string;
  /** What a top-up brought that was taken for its payment. */
  readonly topped_up: string;
  readonly open: string;
  readonly credited: string;
}
