import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { DataFile } from '../../../src/backbone/data-file.ts';

let dir: string;

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'patchbay-data-file-'));
});

afterAll(async () => {
  await rm(dir, { recursive: true });
});

// 35 values of 5 rows: held whole, in parts that end within a chunk, and one source row at a time.
test.each([1000, 21, 14, 1])('a matrix is stored transposed when %i bytes of it are held', async (held) => {
  const path = join(dir, `held-${held}`);
  const file = await DataFile.create(path, 'data', held);
  async function* chunks(): AsyncGenerator<Int8Array> {
    for (const rows of [2, 1, 2]) {
      const first = rows === 1 ? 2 : yielded;
      yield Int8Array.from({ length: rows * 7 }, (_, i) => first * 7 + i);
      yielded += rows;
    }
  }
  let yielded = 0;
  await file.append('before', 'uint8', [3], single(Uint8Array.of(1, 2, 3)));
  await file.appendTransposed('matrix', [7, 5], chunks());
  await file.append('after', 'uint8', [1], single(Uint8Array.of(9)));
  await file.close();

  const bytes = new Int8Array((await readFile(path)).buffer.slice(0));
  const [, matrix, after] = file.initializers;
  expect(matrix).toMatchObject({ name: 'matrix', type: 'int8', dims: [7, 5] });
  const offset = matrix?.data !== undefined && 'offset' in matrix.data ? matrix.data.offset : Number.NaN;
  const stored = Array.from({ length: 35 }, (_, at) => bytes[offset + at]);
  const expected = Array.from({ length: 35 }, (_, at) => (at % 5) * 7 + Math.floor(at / 5));
  expect(stored).toEqual(expected);
  const last = after?.data !== undefined && 'offset' in after.data ? after.data.offset : Number.NaN;
  expect(bytes[last]).toBe(9);
});

async function* single(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes;
}
