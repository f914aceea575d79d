import { invariant } from '../../kernel/errors.ts';
import { HASH_BYTES } from '../merkle/hash.ts';
import type { NodeReader } from '../merkle/prove.ts';
import { rootInTile, TILE_WIDTH, type TileRef, tileOf } from './tiles.ts';
import type { TreeHead } from './types.ts';

/** Runs a statement of the system role. */
export type Query = <R extends Record<string, unknown>>(
  text: string,
  values: readonly unknown[],
) => Promise<readonly R[]>;

// Each part is looked up by its key, whatever the planner believes of the tables' sizes. What a tile is not full of is made of
// leaves, and of the roots of full tiles below it: those are there for every earlier size of the log too.
const READ_TILES = `
SELECT CASE
    WHEN w.width = ${TILE_WIDTH} THEN (
      SELECT t.hashes FROM log_tile t WHERE t.level = w.level AND t.index = w.index)
    WHEN w.level = 0 THEN (
      SELECT string_agg(l.leaf_hash, ''::bytea ORDER BY l.position) FROM log_leaf l
      WHERE l.position >= w.index * ${TILE_WIDTH} AND l.position < w.index * ${TILE_WIDTH} + w.width)
    ELSE (
      SELECT string_agg(t.root, ''::bytea ORDER BY t.index) FROM log_tile t
      WHERE t.level = w.level - 1 AND t.index >= w.index * ${TILE_WIDTH}
        AND t.index < w.index * ${TILE_WIDTH} + w.width)
  END AS hashes
FROM unnest($1::integer[], $2::bigint[], $3::integer[]) WITH ORDINALITY AS w(level, index, width, place)
ORDER BY w.place`;

/** The hashes of tiles, in the order in which they are asked for. */
export async function readTiles(query: Query, tiles: readonly TileRef[]): Promise<readonly Uint8Array[]> {
  if (tiles.length === 0) return [];
  const rows = await query<{ readonly hashes: Buffer | null }>(READ_TILES, [
    tiles.map(({ level }) => level),
    tiles.map(({ index }) => index),
    tiles.map(({ width }) => width),
  ]);
  return tiles.map(({ level, index, width }, place) => {
    const hashes = rows[place]?.hashes ?? new Uint8Array();
    invariant(hashes.length === width * HASH_BYTES, `the log lacks hashes of the tile ${level}/${index}`);
    return hashes;
  });
}

/** The tree of the first leaves, read from its tiles. */
export function storedTree(query: Query, size: number): NodeReader {
  return {
    async read(subtrees) {
      const keyOf = ({ level, index }: TileRef): string => `${level}/${index}`;
      const placed = subtrees.map((subtree) => ({ subtree, tile: tileOf(subtree, size) }));
      const tiles = [...new Map(placed.map(({ tile }) => [keyOf(tile), tile])).values()];
      const found = await readTiles(query, tiles);
      const hashes = new Map(tiles.map((tile, place) => [keyOf(tile), found[place]]));
      return placed.map(({ subtree, tile }) => {
        const own = hashes.get(keyOf(tile));
        invariant(own, 'every tile was read');
        return rootInTile(own, subtree);
      });
    },
  };
}

/** Columns of a head, for {@link toHead}. */
export const HEAD_COLUMNS = 'h.size::text, h.root, h.signed_at, h.address, h.signature';

/** A row of `log_head`. */
export type HeadRow = {
  readonly size: string;
  readonly root: Buffer;
  readonly signed_at: Date;
  readonly address: string;
  readonly signature: string;
};

export function toHead({ size, root, signed_at, address, signature }: HeadRow): TreeHead {
  return { size: Number(size), root, signedAtMs: signed_at.getTime(), address, signature };
}

/** The latest head; null before the first leaf. */
export async function readLatestHead(query: Query): Promise<TreeHead | null> {
  const [row] = await query<HeadRow>(
    `SELECT ${HEAD_COLUMNS} FROM log_head h ORDER BY h.size DESC LIMIT 1`,
    [],
  );
  return row === undefined ? null : toHead(row);
}
