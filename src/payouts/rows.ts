import { invariant } from '../kernel/errors.ts';
import type { Uuid } from '../kernel/ids.ts';
import { RAIL_KINDS, type RailKind } from './rail.ts';
import {
  BATCH_STATES,
  PAYOUT_STATES,
  type Payout,
  type PayoutBatch,
  type PayoutDestination,
  type PayoutImport,
} from './types.ts';

interface DestinationRow {
  readonly id: Uuid;
  readonly tenantId: Uuid;
  readonly kind: string;
  readonly accountName: string;
  readonly accountReference: string;
  readonly effectiveFrom: Date;
  readonly createdAt: Date;
}

interface BatchRow {
  readonly id: Uuid;
  readonly state: string;
  readonly rail: string;
  readonly currency: string;
  readonly earnedBefore: Date;
  readonly payoutCount: number;
  readonly totalNano: bigint;
  readonly secondPersonAboveNano: bigint;
  readonly draftedBy: Uuid;
  readonly approvedBy: Uuid | null;
  readonly railReference: string | null;
  readonly railSha256: Uint8Array | null;
  readonly createdAt: Date;
  readonly approvedAt: Date | null;
  readonly submittingAt: Date | null;
  readonly submittedAt: Date | null;
  readonly closedAt: Date | null;
}

interface PayoutRow {
  readonly id: Uuid;
  readonly tenantId: Uuid;
  readonly batchId: Uuid;
  readonly state: string;
  readonly currency: string;
  readonly amountNano: bigint;
  readonly earnedBefore: Date;
  readonly paymentKey: Uint8Array;
  readonly bankReference: string | null;
  readonly returnReference: string | null;
  readonly createdAt: Date;
  readonly stateChangedAt: Date;
  readonly destination: DestinationRow;
}

interface ImportRow {
  readonly id: Uuid;
  readonly sha256: Uint8Array;
  readonly resultCount: number;
  readonly appliedCount: number;
  readonly totalNano: { toFixed(): string };
  readonly createdAt: Date;
}

export function toDestination(row: DestinationRow): PayoutDestination {
  const { id, tenantId, accountName, accountReference, effectiveFrom, createdAt } = row;
  return { id, tenantId, kind: railKind(row.kind), accountName, accountReference, effectiveFrom, createdAt };
}

export function toBatch(row: BatchRow): PayoutBatch {
  const { secondPersonAboveNano, railSha256, rail, state, ...rest } = row;
  return {
    ...rest,
    state: oneOf(BATCH_STATES, state),
    rail: railKind(rail),
    needsSecondPerson: row.totalNano > secondPersonAboveNano,
    railSha256: railSha256 && hex(railSha256),
  };
}

export function toPayout(row: PayoutRow): Payout {
  const { id, tenantId, batchId, currency, amountNano, earnedBefore, bankReference, createdAt } = row;
  return {
    ...{ id, tenantId, batchId, currency, amountNano, earnedBefore, bankReference, createdAt },
    state: oneOf(PAYOUT_STATES, row.state),
    paymentKey: hex(row.paymentKey),
    destination: toDestination(row.destination),
    returnReference: row.returnReference,
    stateChangedAt: row.stateChangedAt,
  };
}

export function toImport(row: ImportRow): PayoutImport {
  const { id, resultCount, appliedCount, createdAt } = row;
  return {
    ...{ id, resultCount, appliedCount, createdAt },
    sha256: hex(row.sha256),
    totalNano: BigInt(row.totalNano.toFixed()),
  };
}

export function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex');
}

/** Bytes as Prisma takes them. */
export function bytes(hexText: string): Uint8Array<ArrayBuffer> {
  return new Uint8Array(Buffer.from(hexText, 'hex'));
}

function railKind(text: string): RailKind {
  return oneOf(RAIL_KINDS, text);
}

function oneOf<const T extends string>(words: readonly T[], text: string): T {
  const found = words.find((word) => word === text);
  invariant(found !== undefined, `the database knows ${text} as one of ${words.join(', ')}`);
  return found;
}
