import type { Database } from '../../db/client.ts';
import { invariant, PatchbayError } from '../../kernel/errors.ts';
import { isUuid } from '../../kernel/ids.ts';
import { EMPTY_ROOT, HASH_BYTES } from '../merkle/hash.ts';
import { consistencyPath, inclusionPath } from '../merkle/prove.ts';
import { verifiesConsistency, verifiesInclusion } from '../merkle/verify.ts';
import { HEAD_COLUMNS, type HeadRow, type Query, readLatestHead, storedTree, toHead } from './store.ts';
import type { Consistency, Inclusion, LeafRef, TreeHead } from './types.ts';

const FIND_LEAF = {
  index: 'SELECT l.position::text, l.leaf_hash FROM log_leaf l WHERE l.position = $1',
  hash: 'SELECT l.position::text, l.leaf_hash FROM log_leaf l WHERE l.leaf_hash = $1 ORDER BY l.position LIMIT 1',
  entry: 'SELECT l.position::text, l.leaf_hash FROM log_leaf l WHERE l.entry_id = $1',
} as const;

/**
 * Heads and proofs of the log. Heads and hashes are for everybody; ids of entries are for who may know of the entry, which
 * callers decide. No proof is given away that does not verify against the heads that were signed.
 */
export class LogService {
  /** The log's id, 32 bytes. */
  readonly id: Uint8Array;
  readonly #query: Query;

  constructor(
    options: { readonly logId: Uint8Array },
    deps: { readonly database: Pick<Database, 'querySystem'> },
  ) {
    this.id = options.logId;
    this.#query = (text, values) => deps.database.querySystem(text, values);
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
    const [head, found] = await Promise.all([this.head(size), this.#find(leaf)]);
    if (found === null || found.index >= head.size) {
      throw new PatchbayError('NOT_FOUND', 'The log of that head does not have the leaf.', {
        field: FIELDS[leaf.kind],
        fix: 'Ask for a later head; what was settled is in the log a moment later.',
        meta: { size: String(head.size) },
      });
    }
    const path = await inclusionPath(storedTree(this.#query, head.size), found.index, head.size);
    invariant(
      verifiesInclusion({ ...found, size: head.size, root: head.root, path }),
      `the log in the tables is the one of its head of size ${head.size}`,
    );
    return { ...found, path, head };
  }

  /** Proves that the log of one head is the beginning of that of another, or of the latest; 0 is the empty log. */
  async consistency(first: number, second: number | null): Promise<Consistency> {
    requireCount(first, 'first');
    const [earlier, later] = await Promise.all([
      first === 0 ? null : this.head(first, 'first'),
      this.head(second, 'second'),
    ]);
    if (first > later.size) {
      throw new PatchbayError('BAD_INPUT', 'The first size is larger than the second.', { field: 'first' });
    }
    const path = await consistencyPath(storedTree(this.#query, later.size), first, later.size);
    const roots = { firstRoot: earlier?.root ?? EMPTY_ROOT, secondRoot: later.root };
    invariant(
      verifiesConsistency({ first, second: later.size, ...roots, path }),
      `the heads of sizes ${first} and ${later.size} are of one log`,
    );
    return { first: earlier, second: later, path };
  }

  async #find(leaf: LeafRef): Promise<{ readonly index: number; readonly leaf: Uint8Array } | null> {
    const [row] = await this.#query<{ readonly position: string; readonly leaf_hash: Buffer }>(
      FIND_LEAF[leaf.kind],
      [keyOf(leaf)],
    );
    return row === undefined ? null : { index: Number(row.position), leaf: row.leaf_hash };
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
