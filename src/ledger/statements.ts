/**
 * The ledger's writes as typed batches. Each is one statement, whatever the number of items, on whatever connection
 * {@link Run} stands for; so a group commit runs them inside of its own transaction.
 */
import type { PoolClient, QueryResultRow } from 'pg';
import type { Tx } from '../db/client.ts';
import { invariant } from '../kernel/errors.ts';
import type { Uuid } from '../kernel/ids.ts';
import type {
  Capture,
  CaptureResult,
  Hold,
  HoldResult,
  LedgerDeps,
  Release,
  ReleaseResult,
  Run,
  Transfer,
  TransferResult,
} from './types.ts';

/** Runs statements on a connection, inside of the transaction that is open there. */
export function runOn(client: PoolClient): Run {
  return async (query) => (await client.query({ ...query, values: [...query.values] })).rows;
}

/** Runs each statement as a transaction of its own. */
export function runAlone(database: LedgerDeps['database']): Run {
  return ({ text, values }) => database.querySystem(text, values);
}

/** Runs statements in a transaction of Prisma's. */
export function runInTx(tx: Tx): Run {
  return <R extends QueryResultRow>({
    text,
    values,
  }: {
    readonly text: string;
    readonly values: readonly unknown[];
  }) => tx.$queryRawUnsafe<R[]>(text, ...values);
}

/**
 * Locks accounts, in the order that everybody locks them in. A transaction that calls more than one of the batches
 * below calls this first, with all accounts that are held or were held; otherwise two such transactions may wait for
 * each other. Accounts that only receive are not locked by anything.
 */
export async function lockAccounts(run: Run, accountIds: readonly Uuid[]): Promise<void> {
  // As text, because Prisma reads no column of the type void.
  const text = 'SELECT patchbay.ledger_lock($1::uuid[])::text';
  await run({ name: 'ledger_lock', text, values: [accountIds] });
}

/** Reserves amounts; one result for each hold, in order. A refused one leaves the others as they are. */
export async function holdAll(
  run: Run,
  holds: readonly Hold[],
  referenceType: string,
  at: Date | null,
): Promise<readonly HoldResult[]> {
  const rows = await run<ResultRow<HoldResult['outcome']> & { readonly available: string | null }>({
    name: 'ledger_hold',
    text: 'SELECT ord, id, outcome, available::text FROM patchbay.ledger_hold($1, $2, $3, $4, $5, $6, $7, $8)',
    values: [
      holds.map((hold) => hold.id),
      holds.map((hold) => hold.accountId),
      holds.map((hold) => String(hold.amount)),
      holds.map((hold) => hold.key),
      referenceType,
      holds.map((hold) => hold.referenceId),
      holds.map((hold) => hold.expiresAt?.toISOString() ?? null),
      at?.toISOString() ?? null,
    ],
  });
  return inOrder(rows, holds.length).map(({ id, outcome, available }) => ({
    id,
    outcome,
    available: available === null ? null : BigInt(available),
  }));
}

/** Resolves holds by moving parts of them; one result for each, in order. */
export async function captureAll(
  run: Run,
  captures: readonly Capture[],
  at: Date | null,
): Promise<readonly CaptureResult[]> {
  const credits = captures.flatMap((capture, index) =>
    capture.credits.map((credit) => ({ ...credit, of: index + 1 })),
  );
  const rows = await run<ResultRow<CaptureResult['outcome']>>({
    name: 'ledger_capture',
    text: 'SELECT ord, id, outcome FROM patchbay.ledger_capture($1, $2, $3, $4, $5, $6, $7, $8)',
    values: [
      captures.map((capture) => capture.id),
      captures.map((capture) => capture.holdId),
      captures.map((capture) => String(capture.amount)),
      credits.map((credit) => credit.of),
      credits.map((credit) => credit.accountId),
      credits.map((credit) => String(credit.amount)),
      credits.map((credit) => credit.subjectId),
      at?.toISOString() ?? null,
    ],
  });
  return inOrder(rows, captures.length).map(({ id, outcome }) => ({ id, outcome }));
}

/** Releases holds whole; one result for each, in order. */
export async function voidAll(
  run: Run,
  releases: readonly Release[],
  at: Date | null,
): Promise<readonly ReleaseResult[]> {
  const rows = await run<ResultRow<ReleaseResult['outcome']>>({
    name: 'ledger_void',
    text: 'SELECT ord, id, outcome FROM patchbay.ledger_void($1, $2, $3)',
    values: [
      releases.map((release) => release.id),
      releases.map((release) => release.holdId),
      at?.toISOString() ?? null,
    ],
  });
  return inOrder(rows, releases.length).map(({ id, outcome }) => ({ id, outcome }));
}

/** Moves money at once; one result for each transfer, in order. A debit that does not fit undoes all of them. */
export async function postAll(
  run: Run,
  transfers: readonly Transfer[],
  at: Date | null,
): Promise<readonly TransferResult[]> {
  const lines = transfers.flatMap((transfer, index) =>
    transfer.lines.map((line) => ({ ...line, of: index + 1 })),
  );
  const rows = await run<ResultRow<TransferResult['outcome']>>({
    name: 'ledger_post',
    text: 'SELECT ord, id, outcome FROM patchbay.ledger_post($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)',
    values: [
      transfers.map((transfer) => transfer.id),
      transfers.map((transfer) => transfer.tenantId),
      transfers.map((transfer) => transfer.asset),
      transfers.map((transfer) => transfer.key),
      transfers.map((transfer) => transfer.referenceType),
      transfers.map((transfer) => transfer.referenceId),
      lines.map((line) => line.of),
      lines.map((line) => line.accountId),
      lines.map((line) => String(line.amount)),
      lines.map((line) => line.subjectId),
      at?.toISOString() ?? null,
    ],
  });
  return inOrder(rows, transfers.length).map(({ id, outcome }) => ({ id, outcome }));
}

interface ResultRow<Outcome> {
  readonly ord: number;
  readonly id: Uuid;
  readonly outcome: Outcome;
}

function inOrder<Row extends { readonly ord: number }>(rows: readonly Row[], count: number): readonly Row[] {
  invariant(rows.length === count, 'the ledger answers every item of a batch once');
  return rows.toSorted((a, b) => a.ord - b.ord);
}
