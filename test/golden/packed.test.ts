import { mkdir, readdir, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { importBackbone } from '../../src/backbone/import.ts';
import { packedGraphs } from '../../src/serving/packed-graphs.ts';
import { multipliesBytesExactly } from '../../src/serving/processor.ts';
import { GOLDEN_ROOT, temporaryFolder } from './kit.ts';

const settings = async (providers: readonly string[] = ['cpu']) => ({
  intraOpThreads: 1,
  exactBytes: await multipliesBytesExactly(process.arch),
  executionProviders: providers,
});

/** Higher than any process id that Linux gives. */
const GONE = 2 ** 22 + 1;

test('weights are packed once, whole, also when two starts do it at the same time', async () => {
  const { dir } = await importBackbone({
    dir: join(GOLDEN_ROOT, 'llama-tied'),
    root: await temporaryFolder(),
    bits: 8,
  });
  const abandoned = join(dir, `.packing-${GONE}-x`);
  await mkdir(abandoned);
  await writeFile(join(abandoned, 'packed.data'), 'half');

  const [one, other] = await Promise.all([
    packedGraphs(dir, await settings()),
    packedGraphs(dir, await settings()),
  ]);
  expect(one).toEqual(other);
  const folders = (await readdir(dir)).filter((name) => name.includes('pack'));
  expect(folders).toEqual([expect.stringMatching(/^packed-[0-9a-f]{16}$/)]);
  const packed = join(dir, folders[0] ?? '');
  expect((await readdir(packed)).sort()).toEqual([
    'model.onnx',
    'packed.data',
    'single-plain.onnx',
    'single.onnx',
  ]);

  const before = await stat(join(packed, 'packed.data'));
  expect(await packedGraphs(dir, await settings())).toEqual(one);
  expect((await stat(join(packed, 'packed.data'))).ino).toBe(before.ino);
});

test('providers with memory of their own get the general graph as it was imported', async () => {
  const { dir } = await importBackbone({
    dir: join(GOLDEN_ROOT, 'llama-tied'),
    root: await temporaryFolder(),
    bits: 32,
  });
  expect(await packedGraphs(dir, await settings(['cuda', 'cpu']))).toEqual({
    general: join(dir, 'model.onnx'),
  });
});
