import { createHash } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import {
  edgeTiles,
  extend,
  rootInTile,
  rootOfEdge,
  rowsOf,
  type Tile,
  tileOf,
} from '../../../src/proofs/log/tiles.ts';
import { HASH_BYTES } from '../../../src/proofs/merkle/hash.ts';
import { rootOf } from '../../../src/proofs/merkle/prove.ts';
import { entriesOf, LeafTree } from './tree.ts';

const MOST = 256 * 256 + 300;
const tree = new LeafTree(entriesOf(MOST));
const leavesOf = (from: number, to: number) => Buffer.concat(tree.leaves.slice(from, to));

/** Grows a log in steps of those sizes. */
function grow(sizes: readonly number[]) {
  let edge: readonly Uint8Array[] = [];
  let size = 0;
  const tiles: Tile[] = [];
  for (const next of sizes) {
    const grown = extend(edge, size, leavesOf(size, next));
    tiles.push(...grown.tiles);
    [edge, size] = [grown.edge, next];
  }
  return { edge, tiles };
}

const atOnce = grow([MOST]);

describe('tiles', () => {
  test.each([1, 2, 255, 256, 257, 512, 513, 65_536])(
    'of %i leaves end with an edge that has the root of the tree',
    async (size) => {
      const { edge, tiles } = grow([size]);
      expect(Buffer.compare(rootOfEdge(edge), await rootOf(tree, size))).toBe(0);
      expect(tiles.filter(({ level }) => level === 0)).toHaveLength(Math.floor(size / 256));
      expect(tiles.filter(({ level }) => level === 1)).toHaveLength(Math.floor(size / 65_536));
      expect(edgeTiles(size).map(({ width }) => width * HASH_BYTES)).toEqual(
        edge.map(({ length }) => length).slice(0, edgeTiles(size).length),
      );
    },
  );

  test('are the same in however many steps a log grows', () => {
    const sizes = [0, 1, 1, 255, 256, 257, 300, 512, 65_535, 65_536, 65_537, MOST];
    const inSteps = grow(sizes);
    const digest = ({ level, index, hashes, root }: Tile) =>
      `${level}/${index} ${createHash('sha256').update(hashes).update(root).digest('hex')}`;
    expect(inSteps.tiles.map(digest).sort()).toEqual(atOnce.tiles.map(digest).sort());
    expect(Buffer.concat(inSteps.edge).equals(Buffer.concat(atOnce.edge))).toBe(true);
  });

  test('hold each subtree where it is looked for', async () => {
    const { tiles } = atOnce;
    for (const [level, index] of [
      ...[0, 1, 3, 7].flatMap((row) => [[row, 0] as const, [row, 1] as const]),
      [8, 0],
      [8, 255],
      [9, 127],
      [15, 1],
      [7, 511],
    ] as const) {
      const ref = tileOf({ level, index }, MOST);
      const tile = tiles.find((one) => one.level === ref.level && one.index === ref.index);
      expect(ref.width).toBe(256);
      const [root] = await tree.read([{ level, index }]);
      const found = rootInTile(rowsOf(tile?.hashes ?? new Uint8Array()), { level, index });
      expect(Buffer.compare(found, root ?? new Uint8Array()), `${level}/${index}`).toBe(0);
    }
  });

  test('that are not full are as wide as the log has hashes for them', () => {
    expect(tileOf({ level: 0, index: 256 }, 300)).toEqual({ level: 0, index: 1, width: 44 });
    expect(tileOf({ level: 8, index: 0 }, 300)).toEqual({ level: 1, index: 0, width: 1 });
    expect(tileOf({ level: 40, index: 1 }, 2 ** 42)).toEqual({ level: 5, index: 0, width: 4 });
    expect(edgeTiles(0)).toEqual([]);
    expect(edgeTiles(65_536)).toEqual([
      { level: 0, index: 256, width: 0 },
      { level: 1, index: 1, width: 0 },
      { level: 2, index: 0, width: 1 },
    ]);
  });
});
