import { createHash } from 'node:crypto';
import { invariant } from '../kernel/errors.ts';

/** How a column's value is written as bytes. */
type ColumnType = 'uuid' | 'text' | 'integer' | 'time';

/** The tables of facts: what the chain of hashes covers, every column in the table's order. */
export const FACT_COLUMNS = {
  account: { id: 'uuid', tenant_id: 'uuid', kind: 'text', asset: 'text', created_at: 'time' },
  limit: {
    id: 'uuid',
    tenant_id: 'uuid',
    account_id: 'uuid',
    number: 'integer',
    credit_limit: 'integer',
    business_key: 'text',
    created_at: 'time',
  },
  transfer: {
    id: 'uuid',
    tenant_id: 'uuid',
    kind: 'text',
    asset: 'text',
    amount: 'integer',
    lines: 'integer',
    account_id: 'uuid',
    held: 'integer',
    pending_id: 'uuid',
    business_key: 'text',
    reference_type: 'text',
    reference_id: 'uuid',
    expires_at: 'time',
    created_at: 'time',
  },
  posting: {
    transfer_id: 'uuid',
    line: 'integer',
    account_id: 'uuid',
    tenant_id: 'uuid',
    amount: 'integer',
    subject_id: 'uuid',
    created_at: 'time',
  },
} as const satisfies Record<string, Readonly<Record<string, ColumnType>>>;

/** A table of facts, without the prefix `ledger_`. */
export type Fact = keyof typeof FACT_COLUMNS;

/** A row as text, as {@link selectList} reads it. Times are microseconds since the Unix epoch. */
export type FactRow = Readonly<Record<string, string | null>>;

/** What to select so that {@link rowHash} can read it: every column as text, without rounding. */
export function selectList(fact: Fact): string {
  return Object.entries<ColumnType>(FACT_COLUMNS[fact])
    .map(([name, type]) => `${type === 'time' ? microseconds(name) : `${name}::text`} AS ${name}`)
    .join(', ');
}

/** SQL for a time as microseconds since the Unix epoch. An infinite one, which no rule allows, must not stop a verifier. */
export function microseconds(column: string): string {
  return `CASE WHEN isfinite(${column}) THEN (extract(epoch FROM ${column}) * 1000000)::bigint
    WHEN ${column} IS NOT NULL THEN 0 END::text`;
}

/**
 * SHA-256 over `patchbay:ledger:<table>:v1` and every column: a zero byte for null; otherwise a one byte and the value.
 * A uuid is its 16 bytes; an integer 8, big-endian; a time the 8 of its microseconds since 2000-01-01T00:00:00Z; a text
 * its length in UTF-8 bytes (4 bytes, big-endian) and those.
 */
export function rowHash(fact: Fact, row: FactRow): Buffer {
  const hash = createHash('sha256').update(`patchbay:ledger:${fact}:v1`);
  for (const [name, type] of Object.entries<ColumnType>(FACT_COLUMNS[fact])) {
    const value = row[name];
    invariant(value !== undefined, `the column ${name} of ledger_${fact} was read`);
    if (value === null) hash.update(ABSENT);
    else hash.update(PRESENT).update(bytesOf(type, value));
  }
  return hash.digest();
}

const ABSENT = Buffer.from([0]);
const PRESENT = Buffer.from([1]);
const POSTGRES_EPOCH_US = 946_684_800_000_000n;

function bytesOf(type: ColumnType, value: string): Buffer {
  if (type === 'uuid') return Buffer.from(value.replaceAll('-', ''), 'hex');
  if (type === 'integer') return int64(BigInt(value));
  if (type === 'time') return int64(BigInt(value) - POSTGRES_EPOCH_US);
  const text = Buffer.from(value, 'utf8');
  return Buffer.concat([int32(text.length), text]);
}

/** What a batch says of itself besides its rows. */
export interface BatchHeader {
  readonly sequence: bigint;
  readonly previousHash: Buffer;
  readonly sealedAtUs: bigint;
  readonly accounts: number;
  readonly limits: number;
  readonly transfers: number;
}

/**
 * SHA-256 over `patchbay:ledger:batch:v1`, the sequence (8 bytes), the previous hash (32), the time of sealing (8), the
 * numbers of accounts, limits, transfers and rows (4 each), and the hashes of all rows in the order of the members.
 */
export function batchHash(header: BatchHeader, rowHashes: readonly Buffer[]): Buffer {
  const hash = createHash('sha256')
    .update('patchbay:ledger:batch:v1')
    .update(int64(header.sequence))
    .update(header.previousHash)
    .update(int64(header.sealedAtUs - POSTGRES_EPOCH_US));
  for (const count of [header.accounts, header.limits, header.transfers, rowHashes.length]) {
    hash.update(int32(count));
  }
  for (const row of rowHashes) hash.update(row);
  return hash.digest();
}

/** What the first batch has in the place of a previous hash. */
export const GENESIS = Buffer.alloc(32);

/** How many bytes of a row's hash its batch keeps as a mark. */
export const MARK_BYTES = 8;

function int64(value: bigint): Buffer {
  const bytes = Buffer.allocUnsafe(8);
  bytes.writeBigInt64BE(value);
  return bytes;
}

function int32(value: number): Buffer {
  const bytes = Buffer.allocUnsafe(4);
  bytes.writeInt32BE(value);
  return bytes;
}
