import { invariant } from '../../kernel/errors.ts';
import { HASH_BYTES } from '../merkle/hash.ts';
import type { NodeReader } from '../merkle/prove.ts';
import { rootInTile, rowsOf, type TileRef, type TileRows, tileOf } from './tiles.ts';
import type { TreeHead } from './types.ts';

/** How many tiles are kept, of 16 KiB each: those above the leaves, which many proofs share, stay among them. */
const TILES_KEPT = 512;

/** Runs a statement of the system role. */
export type Query = <R extends Record<string, unknown>>(
  text: string,
  values: readonly unknown[],
) => Promise<readonly R[]>;

/** The hashes of tiles, in the order in which they are asked for. */
export async function readTiles(query: Query, tiles: readonly TileRef[]): Promise<readonly Uint8Array[]> {
  if (tiles.length === 0) return [];
  const rows = await query<{ readonly hashes: Buffer | null }>(
    'SELECT t.hashes FROM patchbay.log_tiles($1, $2, $3) t',
    [tiles.map(({ level }) => level), tiles.map(({ index }) => index), tiles.map(({ width }) => width)],
  );
  return tiles.map(({ level, index, width }, place) => {
    const hashes = rows[place]?.hashes ?? new Uint8Array();
    invariant(hashes.length === width * HASH_BYTES, `the log lacks hashes of the tile ${level}/${index}`);
    return hashes;
  });
}

/** Trees of the log, read from its tiles. What tiles hold never changes, so the last ones that were read are kept. */
export class StoredTrees {
  readonly #read: (tiles: readonly TileRef[]) => Promise<readonly Uint8Array[]>;
  /** By what {@link keyOf} says, the one that was used last at the end. */
  readonly #kept = new Map<string, TileRows>();

  /** The tree is made of what `read` answers with: the hashes of tiles, in the order in which they are asked for. */
  constructor(read: (tiles: readonly TileRef[]) => Promise<readonly Uint8Array[]>) {
    this.#read = read;
  }

  /** The tree of the first leaves. */
  of(size: number): NodeReader {
    return {
      read: async (subtrees) => {
        const placed = subtrees.map((subtree) => ({ subtree, tile: tileOf(subtree, size) }));
        const tiles = new Map(placed.map(({ tile }) => [keyOf(tile), tile]));
        const rows = await this.#rowsOf(tiles);
        return placed.map(({ subtree, tile }) => {
          const own = rows.get(keyOf(tile));
          invariant(own, 'every tile was read');
          return rootInTile(own, subtree);
        });
      },
    };
  }

  async #rowsOf(tiles: ReadonlyMap<string, TileRef>): Promise<ReadonlyMap<string, TileRows>> {
    const rows = new Map<string, TileRows>();
    const missing: TileRef[] = [];
    for (const [key, tile] of tiles) {
      const kept = this.#kept.get(key);
      if (kept === undefined) missing.push(tile);
      else rows.set(key, kept);
    }
    const read = missing.length === 0 ? [] : await this.#read(missing);
    for (const [place, tile] of missing.entries()) {
      rows.set(keyOf(tile), rowsOf(read[place] ?? new Uint8Array()));
    }
    for (const [key, own] of rows) this.#keep(key, own);
    return rows;
  }

  #keep(key: string, rows: TileRows): void {
    this.#kept.delete(key);
    this.#kept.set(key, rows);
    for (const oldest of this.#kept.keys()) {
      if (this.#kept.size <= TILES_KEPT) break;
      this.#kept.delete(oldest);
    }
  }
}

function keyOf({ level, index, width }: TileRef): string {
  return `${level}/${index}/${width}`;
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
