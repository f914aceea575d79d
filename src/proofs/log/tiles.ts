import { foldRight, HASH_BYTES, perfectRoot, rowAbove } from '../merkle/hash.ts';
import { type Subtree, subtreesOf } from '../merkle/ranges.ts';

// The tree in tiles, as C2SP's tlog-tiles has it: the tile of a level and index holds 256 neighbouring hashes, eight rows of
// the tree above the level below, and the rows between are computed from them. A tile that is full never changes.

/** Hashes of a full tile. */
export const TILE_WIDTH = 256;
/** Rows of the tree from one level of tiles to the next. */
const TILE_HEIGHT = 8;
const TILE_BYTES = TILE_WIDTH * HASH_BYTES;

/** A tile, or the beginning of one that is not full yet. */
export interface TileRef {
  /** 0 for tiles of leaf hashes. */
  readonly level: number;
  readonly index: number;
  /** How many hashes it has. */
  readonly width: number;
}

/** A full tile. */
export interface Tile {
  readonly level: number;
  readonly index: number;
  readonly hashes: Uint8Array;
  /** The hash of the tile in the level above. */
  readonly root: Uint8Array;
}

/** The hashes of each level that no full tile has yet, one after the other: all that is needed to go on with the tree. */
export type Edge = readonly Uint8Array[];

/** How many hashes a level has in the tree of that many leaves. */
function hashesOf(level: number, size: number): number {
  return Math.floor(size / TILE_WIDTH ** level);
}

/** The tiles of {@link Edge}, level by level; of some there is nothing yet. */
export function edgeTiles(size: number): readonly TileRef[] {
  const tiles: TileRef[] = [];
  for (let level = 0; hashesOf(level, size) > 0; level += 1) {
    const hashes = hashesOf(level, size);
    tiles.push({ level, index: Math.floor(hashes / TILE_WIDTH), width: hashes % TILE_WIDTH });
  }
  return tiles;
}

/** The root of the tree that ends with the edge. */
export function rootOfEdge(edge: Edge): Uint8Array {
  const roots = edge.map((hashes) => {
    const rows = rowsOf(hashes);
    return subtreesOf({ start: 0, end: hashes.length / HASH_BYTES }).map((subtree) =>
      rootInTile(rows, subtree),
    );
  });
  return foldRight(roots.reverse().flat());
}

/** Goes on with the tree: the tiles that leaf hashes fill, and the edge behind them. Costs as much as there are hashes. */
export function extend(
  edge: Edge,
  size: number,
  leaves: Uint8Array,
): { readonly edge: Edge; readonly tiles: readonly Tile[] } {
  const tiles: Tile[] = [];
  const next: Uint8Array[] = [];
  let coming = leaves;
  for (let level = 0; level < edge.length || coming.length > 0; level += 1) {
    const hashes = Buffer.concat([edge[level] ?? new Uint8Array(), coming]);
    const first = hashesOf(level + 1, size);
    const roots: Uint8Array[] = [];
    let at = 0;
    for (; at + TILE_BYTES <= hashes.length; at += TILE_BYTES) {
      const full = hashes.subarray(at, at + TILE_BYTES);
      const root = perfectRoot(full);
      tiles.push({ level, index: first + roots.length, hashes: full, root });
      roots.push(root);
    }
    next.push(hashes.subarray(at));
    coming = Buffer.concat(roots);
  }
  return { edge: next, tiles };
}

/** The tile that a subtree lies in, so far as the tree of that many leaves has it. */
export function tileOf({ level, index }: Subtree, size: number): TileRef {
  const tileLevel = Math.floor(level / TILE_HEIGHT);
  const first = index * 2 ** (level % TILE_HEIGHT);
  const tile = Math.floor(first / TILE_WIDTH);
  const width = Math.min(TILE_WIDTH, hashesOf(tileLevel, size) - tile * TILE_WIDTH);
  return { level: tileLevel, index: tile, width };
}

/** A tile's hashes and the rows above them, so far as they are above whole pairs; each row one hash after the other. */
export type TileRows = readonly Uint8Array[];

/** The rows of a tile, up to the one below its root. */
export function rowsOf(hashes: Uint8Array): TileRows {
  const rows = [hashes];
  for (let row = hashes; rows.length < TILE_HEIGHT; ) {
    row = rowAbove(row);
    rows.push(row);
  }
  return rows;
}

/** The root of a subtree, from the rows of its tile. */
export function rootInTile(rows: TileRows, { level, index }: Subtree): Uint8Array {
  const row = level % TILE_HEIGHT;
  const at = (index % 2 ** (TILE_HEIGHT - row)) * HASH_BYTES;
  return rows[row]?.subarray(at, at + HASH_BYTES) ?? new Uint8Array();
}
