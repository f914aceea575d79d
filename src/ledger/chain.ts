import type { PoolClient } from 'pg';
import type { Uuid } from '../kernel/ids.ts';
import {
  batchHash,
  type Fact,
  type FactRow,
  MARK_BYTES,
  microseconds,
  rowHash,
  selectList,
} from './encoding.ts';
import type { LedgerProblem } from './verify.ts';

/** A row of `ledger_batch`. */
export interface Batch {
  readonly sequence: bigint;
  readonly previousHash: Buffer;
  readonly sealedAtUs: bigint;
  readonly accountIds: readonly Uuid[];
  readonly limitIds: readonly Uuid[];
  readonly transferIds: readonly Uuid[];
  readonly rowCount: number;
  readonly marks: Buffer;
  readonly hash: Buffer;
}

interface BatchRow {
  readonly sequence: string;
  readonly previous_hash: Buffer;
  readonly sealed_at: string;
  readonly account_ids: readonly Uuid[];
  readonly limit_ids: readonly Uuid[];
  readonly transfer_ids: readonly Uuid[];
  readonly row_count: number;
  readonly marks: Buffer;
  readonly hash: Buffer;
}

/** All batches in order, one at a time. */
export async function* readBatches(client: PoolClient): AsyncGenerator<Batch> {
  let after = '-9223372036854775808';
  for (;;) {
    const { rows } = await client.query<BatchRow>(
      `SELECT sequence::text, previous_hash, ${microseconds('sealed_at')} AS sealed_at, account_ids, limit_ids,
         transfer_ids, row_count, marks, hash
       FROM ledger_batch b WHERE b.sequence > $1 ORDER BY b.sequence LIMIT 1`,
      [after],
    );
    const [row] = rows;
    if (row === undefined) return;
    after = row.sequence;
    yield {
      sequence: BigInt(row.sequence),
      previousHash: row.previous_hash,
      sealedAtUs: BigInt(row.sealed_at),
      accountIds: row.account_ids,
      limitIds: row.limit_ids,
      transferIds: row.transfer_ids,
      rowCount: row.row_count,
      marks: row.marks,
      hash: row.hash,
    };
  }
}

/** One row that a batch says to hold, in the order of its members; the row itself is null when there is none. */
interface Member {
  readonly fact: Fact;
  readonly key: string;
  readonly row: FactRow | null;
}

/** Recomputes a batch from the facts, and returns what differs: the row where one is to blame, else the batch. */
export async function checkBatch(
  client: PoolClient,
  batch: Batch,
  max: number,
): Promise<readonly LedgerProblem[]> {
  const members = await readMembers(client, batch);
  const problems: LedgerProblem[] = [];
  const hashes: Buffer[] = [];
  for (const [index, { fact, key, row }] of members.entries()) {
    const at = { batch: batch.sequence, table: `ledger_${fact}`, row: key };
    if (row === null) {
      problems.push({ ...at, message: 'The row is missing.' });
      break;
    }
    const hash = rowHash(fact, row);
    hashes.push(hash);
    const mark = batch.marks.subarray(index * MARK_BYTES, (index + 1) * MARK_BYTES);
    if (!mark.equals(hash.subarray(0, MARK_BYTES))) {
      problems.push({ ...at, message: 'The row is not the one that was sealed.' });
      // A changed transfer may say to have more or fewer postings, and then all marks behind it stand elsewhere.
      if (fact === 'transfer') break;
    }
    if (problems.length >= max) return problems;
  }
  if (problems.length > 0) return problems;
  const computed = batchHash(
    {
      ...batch,
      accounts: batch.accountIds.length,
      limits: batch.limitIds.length,
      transfers: batch.transferIds.length,
    },
    hashes,
  );
  const whole = batch.rowCount === hashes.length && batch.marks.length === hashes.length * MARK_BYTES;
  if (whole && computed.equals(batch.hash)) return [];
  return [
    {
      batch: batch.sequence,
      table: 'ledger_batch',
      row: String(batch.sequence),
      message: 'The batch is not the one that was sealed, although its rows are.',
    },
  ];
}

async function readMembers(client: PoolClient, batch: Batch): Promise<readonly Member[]> {
  const accounts = await readFacts(client, 'account', 'id', batch.accountIds);
  const limits = await readFacts(client, 'limit', 'id', batch.limitIds);
  const transfers = await readFacts(client, 'transfer', 'id', batch.transferIds);
  const postings = await readFacts(client, 'posting', 'transfer_id', batch.transferIds);
  const plain = (fact: Fact, ids: readonly Uuid[], rows: ReadonlyMap<string, FactRow>): Member[] =>
    ids.map((id) => ({ fact, key: id, row: rows.get(id) ?? null }));
  return [
    ...plain('account', batch.accountIds, accounts),
    ...plain('limit', batch.limitIds, limits),
    ...plain('transfer', batch.transferIds, transfers).flatMap((transfer) => [
      transfer,
      ...postingsOf(transfer, postings),
    ]),
  ];
}

/** A transfer says how many postings it has; more than those are found as strays. */
function postingsOf(transfer: Member, postings: ReadonlyMap<string, FactRow>): readonly Member[] {
  const lines = Number(transfer.row?.['lines'] ?? 0);
  return Array.from({ length: lines }, (_, index) => {
    const key = `${transfer.key}/${index + 1}`;
    return { fact: 'posting', key, row: postings.get(key) ?? null };
  });
}

async function readFacts(
  client: PoolClient,
  fact: Fact,
  column: 'id' | 'transfer_id',
  ids: readonly Uuid[],
): Promise<ReadonlyMap<string, FactRow>> {
  if (ids.length === 0) return new Map();
  const { rows } = await client.query<Record<string, string | null>>(
    `SELECT ${selectList(fact)} FROM ledger_${fact} f WHERE f.${column} = ANY($1::uuid[])`,
    [ids],
  );
  return new Map(rows.map((row) => [keyOf(fact, row), row]));
}

function keyOf(fact: Fact, row: FactRow): string {
  return fact === 'posting' ? `${row['transfer_id']}/${row['line']}` : `${row['id']}`;
}
