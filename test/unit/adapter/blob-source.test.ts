import { expect, test } from 'vitest';
import type { BlobStore } from '../../../src/adapter/store/port.ts';
import { blobSource } from '../../../src/adapter/store/source.ts';

/** A store of one blob that claims a size, and the ranges that were asked of it. */
function storeOf(bytes: number, content = Uint8Array.from({ length: 16 }, (_, i) => i)) {
  const ranges: { start: number; length: number }[] = [];
  const store: Pick<BlobStore, 'stat' | 'get'> = {
    stat: async (key) => (key === 'blob' ? { key, bytes } : null),
    async *get(_key, range = { start: 0, length: bytes }) {
      ranges.push(range);
      yield content.slice(range.start, range.start + range.length);
    },
  };
  return { store, ranges };
}

test('however many parts of a small blob are read, it is fetched once', async () => {
  const { store, ranges } = storeOf(16);
  const source = await blobSource(store, 'blob');
  expect([...(await source.read(4, 3))]).toEqual([4, 5, 6]);
  const part = await source.read(2, 2);
  part.fill(99);
  // What a reader does with its part must not reach the others.
  expect([...(await source.read(1, 4))]).toEqual([1, 2, 3, 4]);
  expect(part.byteOffset).toBe(0);
  expect(ranges).toEqual([{ start: 0, length: 16 }]);
});

test('a large blob is read piece by piece', async () => {
  const { store, ranges } = storeOf(65 * 2 ** 20);
  const source = await blobSource(store, 'blob');
  expect([...(await source.read(4, 3))]).toEqual([4, 5, 6]);
  expect(ranges).toEqual([{ start: 4, length: 3 }]);
});

test('a missing blob, a part beyond the end and a blob that became shorter are refused', async () => {
  const { store } = storeOf(16);
  await expect(blobSource(store, 'other')).rejects.toMatchObject({ code: 'NOT_FOUND' });
  await expect((await blobSource(store, 'blob')).read(10, 7)).rejects.toThrow('shorter');
  await expect((await blobSource(storeOf(17).store, 'blob')).read(0, 1)).rejects.toThrow('shorter');
});
