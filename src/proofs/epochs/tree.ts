import { invariant } from '../../kernel/errors.ts';
import { type Query, StoredTrees } from '../log/store.ts';
import { edgeTiles, extend, rootOfEdge } from '../log/tiles.ts';
import { EMPTY_ROOT } from '../merkle/hash.ts';
import { inclusionPath } from '../merkle/prove.ts';

/** Hashes of a level of a tree, from a place of it on. */
export interface StoredTile {
  readonly level: number;
  readonly index: number;
  readonly hashes: Uint8Array;
}

/** A tree as it is stored: full tiles, and what is left of each level. */
export function treeOf(leaves: readonly Uint8Array[]): {
  readonly root: Uint8Array;
  readonly tiles: readonly StoredTile[];
} {
  if (leaves.length === 0) return { root: EMPTY_ROOT, tiles: [] };
  const { edge, tiles } = extend([], 0, Buffer.concat(leaves));
  const ends = edgeTiles(leaves.length).flatMap(({ level, index, width }) =>
    width === 0 ? [] : [{ level, index, hashes: edge[level] ?? new Uint8Array() }],
  );
  return { root: rootOfEdge(edge), tiles: [...tiles, ...ends] };
}

const TILES = `
SELECT t.hashes FROM unnest($2::integer[], $3::bigint[]) WITH ORDINALITY AS w(level, index, place)
LEFT JOIN epoch_tile t ON t.epoch = $1 AND t.level = w.level AND t.index = w.index
ORDER BY w.place`;

/** The audit path of an account in the tree of its epoch. */
export function accountPath(
  query: Query,
  epoch: bigint,
  position: number,
  size: number,
): Promise<readonly Uint8Array[]> {
  const trees = new StoredTrees(async (tiles) => {
    const rows = await query<{ readonly hashes: Buffer | null }>(TILES, [
      epoch.toString(),
      tiles.map(({ level }) => level),
      tiles.map(({ index }) => index),
    ]);
    return tiles.map((_, place) => {
      const hashes = rows[place]?.hashes;
      invariant(hashes, `the epoch ${epoch} has the tiles of its accounts`);
      return hashes;
    });
  });
  return inclusionPath(trees.of(size), position, size);
}
