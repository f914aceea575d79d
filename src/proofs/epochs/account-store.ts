import type { Uuid } from '../../kernel/ids.ts';
import { canonical } from '../documents.ts';
import type { Query } from '../log/store.ts';
import { type Account, accountDocument, type LaneEnd } from './accounts.ts';
import { accountCommitment, accountKey, accountLeaf } from './commit.ts';
import { type StoredTile, treeOf } from './tree.ts';
import type { AccountKind } from './types.ts';

/** Accounts of one statement: parties of a large deployment are more than one should carry. */
const CHUNK = 1_000;
const SALT_BYTES = 32;

/** An account at its place in the tree. */
interface SealedAccount {
  readonly key: Buffer;
  readonly commitment: Buffer;
  /** What opens it; null where somebody of it was erased: then nobody is to open it any more. */
  readonly statement: {
    readonly party: Uuid;
    readonly kind: AccountKind;
    readonly subject: Uuid;
    readonly salt: Buffer;
    readonly account: string;
  } | null;
}

/** The accounts of an epoch, ascending by their keys, and the tree over them. */
export interface SealedAccounts {
  readonly root: Uint8Array;
  readonly leaves: readonly SealedAccount[];
  readonly tiles: readonly StoredTile[];
}

const LANES = `
SELECT c.kind, c.subject_id AS subject, c.lane, c.last::text
FROM unnest($1::text[], $2::uuid[]) AS s(kind, subject)
CROSS JOIN LATERAL (
  SELECT * FROM receipt_counter c WHERE c.kind = s.kind AND c.subject_id = s.subject OFFSET 0) c`;

/** Commits to accounts, with the last numbers of their lanes as they are by now. */
export async function sealAccounts(
  query: Query,
  of: {
    readonly accounts: readonly Account[];
    readonly number: bigint;
    readonly logId: Uint8Array;
    readonly randomBytes: (size: number) => Buffer;
  },
): Promise<SealedAccounts> {
  const sealed: SealedAccount[] = [];
  for (const chunk of chunks(of.accounts)) {
    const lanes = await lanesOf(query, chunk);
    for (const account of chunk) {
      const { kind, subject, party, openable } = account;
      const text = canonical(accountDocument(account, lanes.get(`${kind}:${subject}`) ?? []));
      const salt = of.randomBytes(SALT_BYTES);
      sealed.push({
        key: accountKey(of.logId, of.number, kind, subject),
        commitment: accountCommitment(salt, text),
        statement: openable ? { party, kind, subject, salt, account: text } : null,
      });
    }
  }
  const leaves = sealed.sort((a, b) => Buffer.compare(a.key, b.key));
  return { leaves, ...treeOf(leaves.map(({ key, commitment }) => accountLeaf(key, commitment))) };
}

async function lanesOf(
  query: Query,
  accounts: readonly Account[],
): Promise<ReadonlyMap<string, readonly LaneEnd[]>> {
  const rows = await query<{
    readonly kind: AccountKind;
    readonly subject: Uuid;
    readonly lane: number;
    readonly last: string;
  }>(LANES, [accounts.map(({ kind }) => kind), accounts.map(({ subject }) => subject)]);
  const lanes = new Map<string, LaneEnd[]>();
  for (const { kind, subject, lane, last } of rows) {
    const name = `${kind}:${subject}`;
    const known = lanes.get(name) ?? [];
    known.push({ lane, last: BigInt(last) });
    lanes.set(name, known);
  }
  return lanes;
}

const ACCOUNTS = `
INSERT INTO epoch_account (epoch, position, key, commitment)
SELECT $1::bigint, a.* FROM unnest($2::integer[], $3::bytea[], $4::bytea[]) AS a`;

const STATEMENTS = `
INSERT INTO epoch_statement (epoch, tenant_id, kind, subject_id, position, salt, account)
SELECT $1::bigint, s.* FROM unnest($2::uuid[], $3::text[], $4::uuid[], $5::integer[], $6::bytea[], $7::text[]) AS s`;

const TILES = `
INSERT INTO epoch_tile (epoch, level, index, hashes)
SELECT $1::bigint, t.* FROM unnest($2::smallint[], $3::bigint[], $4::bytea[]) AS t`;

/** Writes the accounts of an epoch that is written, and what opens them. */
export async function writeAccounts(
  query: Query,
  epoch: bigint,
  { leaves, tiles }: SealedAccounts,
): Promise<void> {
  const number = epoch.toString();
  for (const chunk of chunks(leaves.map((leaf, position) => ({ ...leaf, position })))) {
    await query(ACCOUNTS, [
      number,
      chunk.map(({ position }) => position),
      chunk.map(({ key }) => key),
      chunk.map(({ commitment }) => commitment),
    ]);
    const kept = chunk.flatMap(({ position, statement }) =>
      statement === null ? [] : [{ position, ...statement }],
    );
    await query(STATEMENTS, [
      number,
      kept.map(({ party }) => party),
      kept.map(({ kind }) => kind),
      kept.map(({ subject }) => subject),
      kept.map(({ position }) => position),
      kept.map(({ salt }) => salt),
      kept.map(({ account }) => account),
    ]);
  }
  for (const chunk of chunks(tiles)) {
    await query(TILES, [
      number,
      chunk.map(({ level }) => level),
      chunk.map(({ index }) => index),
      chunk.map(({ hashes }) => Buffer.from(hashes)),
    ]);
  }
}

function chunks<T>(all: readonly T[]): readonly (readonly T[])[] {
  return Array.from({ length: Math.ceil(all.length / CHUNK) }, (_, i) =>
    all.slice(i * CHUNK, (i + 1) * CHUNK),
  );
}
