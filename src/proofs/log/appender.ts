import type { PoolClient } from 'pg';
import type { Database } from '../../db/client.ts';
import type { Clock } from '../../kernel/clock.ts';
import { invariant } from '../../kernel/errors.ts';
import { EMPTY_ROOT, HASH_BYTES } from '../merkle/hash.ts';
import { treeHeadDigest } from './digest.ts';
import { type Query, readLatestHead, readTiles } from './store.ts';
import { type Edge, edgeTiles, extend, rootOfEdge, type Tile } from './tiles.ts';
import type { DigestSigner, TreeHead } from './types.ts';

/** How the log grows. */
export interface AppenderOptions {
  /** Most leaves under one new head, which is one transaction. */
  readonly leavesMax: number;
  /** Most heads that one run makes, so that a run ends. */
  readonly headsMax: number;
}

/** Values that suit a server that appends once a second. */
export const APPENDER_DEFAULTS: AppenderOptions = { leavesMax: 8_192, headsMax: 100 };

interface AppenderDeps {
  readonly database: Pick<Database, 'withSystemPg'>;
  readonly clock: Clock;
  readonly signer: DigestSigner;
}

const LOCK = `SELECT pg_try_advisory_xact_lock(hashtextextended('patchbay.log_append', 0)) AS locked`;

// Leaves move inside of the database; what comes out is their hashes alone, in their new order. Entries have ids of their time,
// so that the order is theirs but for what was committed late.
const TAKE = `
WITH taken AS (
  DELETE FROM log_queue
  WHERE entry_id = ANY (ARRAY(SELECT q.entry_id FROM log_queue q ORDER BY q.entry_id LIMIT $2))
  RETURNING entry_id, leaf_hash
), added AS (
  INSERT INTO log_leaf (position, entry_id, leaf_hash)
  SELECT $1::bigint + row_number() OVER (ORDER BY t.entry_id) - 1, t.entry_id, t.leaf_hash FROM taken t
  RETURNING position, leaf_hash
)
SELECT string_agg(a.leaf_hash, ''::bytea ORDER BY a.position) AS leaves FROM added a`;

/**
 * Puts what waits into the log and signs the head of what it has become. Any number of processes may call it: one appends, and
 * the others find nothing to do. Leaves, tiles and the head are one transaction, so that a process that dies leaves everything
 * to the next one.
 */
export class LogAppender {
  readonly #options: AppenderOptions & { readonly logId: Uint8Array };
  readonly #deps: AppenderDeps;

  constructor(options: AppenderOptions & { readonly logId: Uint8Array }, deps: AppenderDeps) {
    this.#options = options;
    this.#deps = deps;
  }

  /** Appends until nothing waits or the run has made its most; returns the new heads in order. */
  async run(): Promise<readonly TreeHead[]> {
    const heads: TreeHead[] = [];
    while (heads.length < this.#options.headsMax) {
      const head = await this.#deps.database.withSystemPg((client) => this.#append(client));
      if (head === null) break;
      heads.push(head);
    }
    return heads;
  }

  async #append(client: PoolClient): Promise<TreeHead | null> {
    const query: Query = async <R extends Record<string, unknown>>(
      text: string,
      values: readonly unknown[],
    ) => (await client.query<R>(text, [...values])).rows;
    const [lock] = await query<{ readonly locked: boolean }>(LOCK, []);
    if (lock?.locked !== true) return null;
    // A statement of its own: what the writer before committed is seen only by what begins after its lock was gone.
    const before = await readLatestHead(query);
    const size = before?.size ?? 0;
    const [taken] = await query<{ readonly leaves: Buffer | null }>(TAKE, [size, this.#options.leavesMax]);
    if (!taken?.leaves) return null;
    const edge = await readTiles(query, edgeTiles(size));
    requireSameTree(edge, before);
    const next = extend(edge, size, taken.leaves);
    const head = await this.#sign({
      root: rootOfEdge(next.edge),
      size: size + taken.leaves.length / HASH_BYTES,
      // A clock that was set back must not make a later head look earlier.
      signedAtMs: Math.max(this.#deps.clock.nowMs(), before?.signedAtMs ?? 0),
    });
    await writeTiles(query, next.tiles);
    await query(
      `INSERT INTO log_head (size, root, signed_at, address, signature) VALUES ($1, $2, $3, $4, $5)`,
      [head.size, head.root, new Date(head.signedAtMs).toISOString(), head.address, head.signature],
    );
    return head;
  }

  async #sign(head: Pick<TreeHead, 'root' | 'size' | 'signedAtMs'>): Promise<TreeHead> {
    const { signer } = this.#deps;
    const signature = await signer.sign(treeHeadDigest(this.#options.logId, head));
    return { ...head, address: signer.address, signature };
  }
}

/** Nothing is signed that does not go on from what was signed before: the tables may have been changed by other hands. */
function requireSameTree(edge: Edge, before: TreeHead | null): void {
  const root = before?.root ?? EMPTY_ROOT;
  invariant(
    Buffer.compare(rootOfEdge(edge), root) === 0,
    'the log in the tables is the one of its last head',
  );
}

async function writeTiles(query: Query, tiles: readonly Tile[]): Promise<void> {
  if (tiles.length === 0) return;
  await query(
    `INSERT INTO log_tile (level, index, hashes, root)
     SELECT * FROM unnest($1::smallint[], $2::bigint[], $3::bytea[], $4::bytea[])`,
    [
      tiles.map(({ level }) => level),
      tiles.map(({ index }) => index),
      tiles.map(({ hashes }) => hashes),
      tiles.map(({ root }) => root),
    ],
  );
}
