import type { Uuid } from '../kernel/ids.ts';
import type { AccountKind } from '../ledger/types.ts';

/** What a transfer of the ledger does. */
export const ENTRY_KINDS = ['SINGLE', 'PENDING', 'POST', 'VOID', 'EXPIRE'] as const;
export type EntryKind = (typeof ENTRY_KINDS)[number];

/** One posting of a transfer, on an account of the reader's own. */
export interface EntryLine {
  readonly account: AccountKind;
  readonly amount: bigint;
  readonly subjectId: Uuid | null;
}

/** One transfer as the tenant sees it that it was made for: with its own lines, not the platform's or an owner's. */
export interface LedgerEntry {
  readonly id: Uuid;
  readonly kind: EntryKind;
  readonly currency: string;
  readonly amount: bigint;
  readonly held: bigint;
  readonly pendingId: Uuid | null;
  readonly referenceType: string;
  readonly referenceId: Uuid | null;
  readonly lines: readonly EntryLine[];
  readonly createdAt: Date;
}

/** What an adapter version earned somebody in a period. */
export interface Earning {
  readonly adapterVersionId: Uuid;
  readonly currency: string;
  readonly amount: bigint;
  readonly postings: bigint;
}

/** A row of ledger_transfer as the driver gives it: 64-bit integers as text. */
export interface EntryRow {
  readonly id: Uuid;
  readonly kind: EntryKind;
  readonly asset: string;
  readonly amount: string;
  readonly held: string;
  readonly pending_id: Uuid | null;
  readonly reference_type: string;
  readonly reference_id: Uuid | null;
  readonly created_at: Date;
}

/** A row of ledger_posting with its account. */
export interface LineRow {
  readonly transfer_id: Uuid;
  readonly account: AccountKind;
  readonly amount: string;
  readonly subject_id: Uuid | null;
}

/** Puts each transfer together with its lines. */
export function toEntries(rows: readonly EntryRow[], lines: readonly LineRow[]): readonly LedgerEntry[] {
  const byTransfer = new Map<Uuid, EntryLine[]>();
  for (const { transfer_id, account, amount, subject_id } of lines) {
    const line = { account, amount: BigInt(amount), subjectId: subject_id };
    const known = byTransfer.get(transfer_id);
    if (known === undefined) byTransfer.set(transfer_id, [line]);
    else known.push(line);
  }
  return rows.map((row) => ({
    id: row.id,
    kind: row.kind,
    currency: row.asset,
    amount: BigInt(row.amount),
    held: BigInt(row.held),
    pendingId: row.pending_id,
    referenceType: row.reference_type,
    referenceId: row.reference_id,
    lines: byTransfer.get(row.id) ?? [],
    createdAt: row.created_at,
  }));
}
