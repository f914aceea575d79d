import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { multipliesBytesExactly } from '../../../src/serving/processor.ts';

test.each([
  ['x64', 'flags\t\t: fpu avx2 avx512f avx512_vnni', true],
  ['x64', 'flags\t\t: fpu avx2 avx_vnni', true],
  ['x64', 'flags\t\t: fpu avx2 avx512f', false],
  ['x64', 'model name\t: avx512_vnni', false],
  ['arm64', '', true],
])('%s with "%s": %s', async (arch, info, exact) => {
  const dir = await mkdtemp(join(tmpdir(), 'patchbay-processor-'));
  const path = join(dir, 'cpuinfo');
  await writeFile(path, `processor\t: 0\n${info}\nbugs\t\t: none\n`);
  expect(await multipliesBytesExactly(arch, path)).toBe(exact);
  await rm(dir, { recursive: true });
});

test('an unknown processor is not trusted', async () => {
  expect(await multipliesBytesExactly('x64', '/nowhere/cpuinfo')).toBe(false);
});
