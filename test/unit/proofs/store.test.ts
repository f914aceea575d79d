import { expect, test } from 'vitest';
import { type Query, readTiles, StoredTrees } from '../../../src/proofs/log/store.ts';
import type { TileRef } from '../../../src/proofs/log/tiles.ts';
import { HASH_BYTES } from '../../../src/proofs/merkle/hash.ts';

/** Answers with tiles of zeros, and takes down how many were asked for at once. */
function zeros() {
  const asked: number[] = [];
  const read = async (tiles: readonly TileRef[]) => {
    asked.push(tiles.length);
    return tiles.map(({ width }) => Buffer.alloc(width * HASH_BYTES));
  };
  return { read, asked };
}

test('tiles that several subtrees lie in are read once, and those that were read are kept', async () => {
  const { read, asked } = zeros();
  const tree = new StoredTrees(read).of(700 * 256);
  const leaf = (index: number) => ({ level: 0, index });
  const [first] = await tree.read([leaf(0), leaf(1), { level: 3, index: 0 }, { level: 8, index: 0 }]);
  expect(first).toHaveLength(32);
  expect(asked).toEqual([2]);
  await tree.read([leaf(7), leaf(300)]);
  expect(asked).toEqual([2, 1]);
  await tree.read([leaf(255)]);
  expect(asked).toEqual([2, 1]);
  // Reading so many others lets go of those that were used longest ago.
  for (let index = 1; index <= 600; index += 1) await tree.read([leaf(index * 256)]);
  asked.length = 0;
  await tree.read([leaf(600 * 256)]);
  expect(asked).toEqual([]);
  await tree.read([leaf(0)]);
  expect(asked).toEqual([1]);
});

test('a tile that is not whole in the tables is noticed', async () => {
  const lacking: Query = async () => [];
  await expect(readTiles(lacking, [{ level: 1, index: 7, width: 3 }])).rejects.toThrow('the tile 1/7');
});
