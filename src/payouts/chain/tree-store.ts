import type { PoolClient } from 'pg';
import type { Entitlement } from '../../chain/payout-tree.ts';
import type { Uuid } from '../../kernel/ids.ts';
import type { Payment } from '../rail.ts';
import type { PaidForAccount } from './entitlements.ts';

/** A tree as it is stored. */
export interface StoredTree {
  readonly id: Uuid;
  readonly sequence: bigint;
  readonly currency: string;
  /** `0x` and 64 digits. */
  readonly root: string;
  readonly total: bigint;
  /** Lower-case hex. */
  readonly orderSha256: string;
}

/** A tree, and where it is. */
export interface PlacedTree extends StoredTree {
  readonly chainId: bigint;
  readonly distributor: string;
}

interface TreeRow {
  readonly id: Uuid;
  readonly sequence: string;
  readonly currency: string;
  readonly root: Buffer;
  readonly total: string;
  readonly order_sha256: Buffer;
}

const COLUMNS = 't.id, t.sequence::text, t.currency, t.root, t.total_units::text AS total, t.order_sha256';

/** Runs a statement; of the system role. */
export type Query = <R extends object>(text: string, values: readonly unknown[]) => Promise<readonly R[]>;

/** Statements on a connection. */
export function queryOn(client: PoolClient): Query {
  return async <R extends object>(text: string, values: readonly unknown[]) =>
    (await client.query<R>(text, [...values])).rows;
}

/** The tree that answers the order of a batch, of whichever distributor. */
export async function treeOfBatch(query: Query, batchId: Uuid): Promise<PlacedTree | null> {
  const [row] = await query<TreeRow & { readonly chain_id: string; readonly address: string }>(
    `SELECT ${COLUMNS}, d.chain_id::text, d.address
     FROM payout_tree t JOIN payout_distributor d ON d.id = t.distributor_id WHERE t.batch_id = $1`,
    [batchId],
  );
  if (row === undefined) return null;
  return { ...toTree(row), chainId: BigInt(row.chain_id), distributor: row.address };
}

/** The last tree of a distributor. */
export async function lastTree(query: Query, distributorId: Uuid): Promise<StoredTree | null> {
  const rows = await query<TreeRow>(
    `SELECT ${COLUMNS} FROM payout_tree t WHERE t.distributor_id = $1 ORDER BY t.sequence DESC LIMIT 1`,
    [distributorId],
  );
  return firstTree(rows);
}

/** A tree by its number. */
export async function treeAt(
  query: Query,
  distributorId: Uuid,
  sequence: bigint,
): Promise<StoredTree | null> {
  const rows = await query<TreeRow>(
    `SELECT ${COLUMNS} FROM payout_tree t WHERE t.distributor_id = $1 AND t.sequence = $2`,
    [distributorId, String(sequence)],
  );
  return firstTree(rows);
}

/** The leaves of a tree. */
export async function leavesOf(query: Query, treeId: Uuid): Promise<readonly Entitlement[]> {
  const rows = await query<{ readonly account: string; readonly units: string }>(
    'SELECT l.account, l.units::text FROM payout_tree_leaf l WHERE l.tree_id = $1',
    [treeId],
  );
  return rows.map(({ account, units }) => ({ account, cumulative: BigInt(units) }));
}

/** What was ordered of a distributor so far, added up. */
export async function paidSoFar(query: Query, distributorId: Uuid): Promise<readonly PaidForAccount[]> {
  const rows = await query<{
    readonly beneficiary_id: Uuid;
    readonly account: string;
    readonly amount: string;
  }>(
    `SELECT p.beneficiary_id, p.account, sum(p.amount_nano)::text AS amount
     FROM payout_tree t JOIN payout_tree_payment p ON p.tree_id = t.id
     WHERE t.distributor_id = $1 GROUP BY p.beneficiary_id, p.account`,
    [distributorId],
  );
  return rows.map((row) => ({
    beneficiary: row.beneficiary_id,
    account: row.account,
    amountNano: BigInt(row.amount),
  }));
}

const ADD_PAYMENTS = `
INSERT INTO payout_tree_payment (payment_key, tree_id, line, beneficiary_id, account, amount_nano)
SELECT decode(p.key, 'hex'), $1, p.line, p.beneficiary, p.account, p.amount
FROM unnest($2::text[], $3::uuid[], $4::text[], $5::bigint[]) WITH ORDINALITY AS p(key, beneficiary, account, amount, line)`;

const ADD_LEAVES = `
INSERT INTO payout_tree_leaf (tree_id, account, units)
SELECT $1, l.account, l.units FROM unnest($2::text[], $3::numeric[]) AS l(account, units)`;

const ADD_TREE = `
INSERT INTO payout_tree (id, distributor_id, sequence, batch_id, currency, root, total_units, accounts, order_sha256, created_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)`;

/** Writes a tree, what it holds first. */
export async function addTree(
  query: Query,
  tree: StoredTree & {
    readonly distributorId: Uuid;
    readonly batchId: Uuid;
    readonly payments: readonly Payment[];
    readonly leaves: readonly Entitlement[];
    readonly at: string;
  },
): Promise<void> {
  const { id, payments, leaves } = tree;
  await query(ADD_PAYMENTS, [
    id,
    payments.map(({ key }) => key),
    payments.map(({ beneficiary }) => beneficiary),
    payments.map(({ accountReference }) => accountReference),
    payments.map(({ amount }) => String(amount)),
  ]);
  await query(ADD_LEAVES, [
    id,
    leaves.map(({ account }) => account),
    leaves.map(({ cumulative }) => String(cumulative)),
  ]);
  await query(ADD_TREE, [
    ...[id, tree.distributorId, String(tree.sequence), tree.batchId, tree.currency],
    ...[Buffer.from(tree.root.slice(2), 'hex'), String(tree.total), leaves.length],
    ...[Buffer.from(tree.orderSha256, 'hex'), tree.at],
  ]);
}

/** Takes down an attempt to publish a tree. */
export async function addPublication(
  query: Query,
  publication: {
    readonly treeId: Uuid;
    readonly attempt: number;
    readonly purpose: string;
    readonly at: string;
  },
): Promise<void> {
  const { treeId, attempt, purpose, at } = publication;
  await query(
    'INSERT INTO payout_tree_publication (tree_id, attempt, purpose, created_at) VALUES ($1, $2, $3, $4)',
    [treeId, attempt, purpose, at],
  );
}

function firstTree([row]: readonly TreeRow[]): StoredTree | null {
  return row === undefined ? null : toTree(row);
}

function toTree(row: TreeRow): StoredTree {
  return {
    id: row.id,
    sequence: BigInt(row.sequence),
    currency: row.currency,
    root: `0x${row.root.toString('hex')}`,
    total: BigInt(row.total),
    orderSha256: row.order_sha256.toString('hex'),
  };
}
