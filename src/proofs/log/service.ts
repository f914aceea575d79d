import type { Database } from '../../db/client.ts';
import { invariant, PatchbayError } from '../../kernel/errors.ts';
import { isUuid } from '../../kernel/ids.ts';
import { HASH_BYTES } from '../merkle/hash.ts';
import { consistencyPath, inclusionPath } from '../merkle/prove.ts';
import { verifiesConsistency, verifiesInclusion } from '../merkle/verify.ts';
import {
  HEAD_COLUMNS,
  type HeadRow,
  type Query,
  readLatestHead,
  readTiles,
  StoredTrees,
  toHead,
} from './store.ts';
import type { Consistency, Inclusion, LeafRef, TreeHead } from './types.ts';

const LEAF_WHERE: Readonly<Record<LeafRef['kind'], string>> = {
  index: 'position = $2',
  // Two entries with one leaf hash would be one receipt twice; the first place is as good as the other.
  hash: 'leaf_hash = $2 ORDER BY position LIMIT 1',
  entry: 'entry_id = $2',
};

/** A head, of a size or the latest, and a leaf if there is one: one statement, because public proofs come in numbers. */
const findLeaf = (kind: LeafRef['kind']): string => `
SELECT ${HEAD_COLUMNS}, l.position::text, l.leaf_hash
FROM (SELECT * FROM log_head WHERE $1::bigint IS NULL OR size = $1 ORDER BY size DESC LIMIT 1) h
LEFT JOIN (SELECT position, leaf_hash FROM log_leaf WHERE ${LEAF_WHERE[kind]}) l ON true`;

type FoundRow = HeadRow & { readonly position: string | null; readonly leaf_hash: Buffer | null };

/**
 * Heads and proofs of the log. Heads and hashes are for everybody; ids of entries are for who may know of the entry, which
 * callers decide. No proof is given away that does not verify against the heads that were signed.
 */
export class LogService {
  /** The log's id, 32 bytes. */
  readonly id: Uint8Array;
  readonly #query: Query;
  readonly #trees: StoredTrees;

  constructor(
    options: { readonly logId: Uint8Array },
    deps: { readonly database: Pick<Database, 'querySystem'> },
  ) {
    this.id = options.logId;
    this.#query = (text, values) => deps.database.querySystem(text, values);
    this.#trees = new StoredTrees((tiles) => readTiles(this.#query, tiles));
  }

  /** The latest head; null before the first leaf. */
  latest(): Promise<TreeHead | null> {
    return readLatestHead(this.#query);
  }

  /** The head of a size, which must have been signed; the latest one without a size. */
  async head(size: number | null, field = 'size'): Promise<TreeHead> {
    if (size === null) {
      const latest = await this.latest();
      if (latest !== null) return latest;
      throw new PatchbayError('NOT_FOUND', 'The log has no leaves yet, and no head.', {
        fix: 'Ask again when a request was settled.',
      });
    }
    requireCount(size, field);
    if (size === 0) {
      throw new PatchbayError('BAD_INPUT', 'The empty log has no head; it is the beginning of every other.', {
        field,
      });
    }
    const [row] = await this.#query<HeadRow>(`SELECT ${HEAD_COLUMNS} FROM log_head h WHERE h.size = $1`, [
      size,
    ]);
    if (row !== undefined) return toHead(row);
    throw new PatchbayError('NOT_FOUND', `No head of the size ${size} was signed.`, {
      field,
      fix: 'Name the size of a head that you hold, or none for the latest.',
      meta: { size: String(size) },
    });
  }

  /** Proves that a leaf is in the log as the head of that size has it, or the latest. */
  async inclusion(leaf: LeafRef, size: number | null): Promise<Inclusion> {
    const key = keyOf(leaf);
    if (size !== null) requireCount(size, 'size');
    const [row] = await this.#query<FoundRow>(findLeaf(leaf.kind), [size, key]);
    // Without a head there is no row at all, and then this says why.
    const head = row === undefined ? await this.head(size) : toHead(row);
    const index = Number(row?.position ?? Number.POSITIVE_INFINITY);
    const found = row?.leaf_hash ?? null;
    if (found === null || index >= head.size) {
      throw new PatchbayError('NOT_FOUND', 'The log of that head does not have the leaf.', {
        field: FIELDS[leaf.kind],
        fix: 'Ask for a later head; what was settled is in the log a moment later.',
        meta: { size: String(head.size) },
      });
    }
    const path = await inclusionPath(this.#trees.of(head.size), index, head.size);
    invariant(
      verifiesInclusion({ leaf: found, index, size: head.size, root: head.root, path }),
      `the log in the tables is the one of its head of size ${head.size}`,
    );
    return { leaf: found, index, path, head };
  }

  /** Proves that the log of one head is the beginning of that of another, or of the latest. */
  async consistency(first: number, second: number | null): Promise<Consistency> {
    const [earlier, later] = await inOrder(this.head(first, 'first'), this.head(second, 'second'));
    if (first > later.size) {
      throw new PatchbayError('BAD_INPUT', 'The first size is larger than the second.', { field: 'first' });
    }
    const path = await consistencyPath(this.#trees.of(later.size), first, later.size);
    invariant(
      verifiesConsistency({
        ...{ first, firstRoot: earlier.root },
        ...{ second: later.size, secondRoot: later.root, path },
      }),
      `the heads of sizes ${first} and ${later.size} are of one log`,
    );
    return { first: earlier, second: later, path };
  }
}

const FIELDS: Readonly<Record<LeafRef['kind'], string>> = { index: 'index', hash: 'leaf', entry: 'entry' };

function keyOf(leaf: LeafRef): unknown {
  switch (leaf.kind) {
    case 'index':
      requireCount(leaf.index, FIELDS.index);
      return leaf.index;
    case 'hash':
      if (leaf.hash.length === HASH_BYTES) return leaf.hash;
      throw new PatchbayError('BAD_INPUT', `A leaf hash has ${HASH_BYTES} bytes.`, { field: FIELDS.hash });
    case 'entry':
      if (isUuid(leaf.entryId)) return leaf.entryId;
      throw new PatchbayError('BAD_INPUT', 'The id of an entry is a UUID.', { field: FIELDS.entry });
  }
}

function requireCount(value: number, field: string): void {
  if (Number.isSafeInteger(value) && value >= 0) return;
  throw new PatchbayError('BAD_INPUT', 'It must be a whole number from 0 to 2^53 - 1.', { field });
}

/** Waits for both; when both fail, the first one's error counts, whichever comes first. */
async function inOrder<A, B>(first: Promise<A>, second: Promise<B>): Promise<readonly [A, B]> {
  await Promise.allSettled([first, second]);
  return [await first, await second];
}
