import { execFileSync } from 'node:child_process';
import { mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { confinedPath, openCheckpoint } from '../../../src/safetensors/checkpoint.ts';
import { BACKBONE_HEADER_LIMITS } from '../../../src/safetensors/header.ts';
import { openSafetensors } from '../../../src/safetensors/source.ts';
import { buildSafetensors, f32 } from './build.ts';

let dir = '';
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'patchbay-checkpoint-'));
});
afterEach(async () => {
  await rm(dir, { recursive: true, force: true });
});

const open = () => openCheckpoint(join(dir, 'model'), BACKBONE_HEADER_LIMITS);
const put = async (name: string, content: string | Uint8Array): Promise<void> => {
  await mkdir(join(dir, 'model'), { recursive: true });
  await writeFile(join(dir, 'model', name), content);
};
const index = (weightMap: unknown): Promise<void> =>
  put('model.safetensors.index.json', JSON.stringify({ metadata: { total_size: 8 }, weight_map: weightMap }));
const one = buildSafetensors([f32('a', [1], [1])]);
const two = buildSafetensors([f32('b', [2], [2, 3])]);

describe('openCheckpoint', () => {
  it('reads a single file', async () => {
    await put('model.safetensors', one);
    const checkpoint = await open();
    expect(checkpoint.files).toEqual(['model.safetensors']);
    expect(new Float32Array((await checkpoint.readTensor('a')).buffer)).toEqual(Float32Array.of(1));
    await checkpoint.close();
  });

  it('reads tensors of all shards by name', async () => {
    await put('x.safetensors', one);
    await put('y.safetensors', two);
    await index({ a: 'x.safetensors', b: 'y.safetensors' });
    const checkpoint = await open();
    expect([...checkpoint.tensors.keys()].sort()).toEqual(['a', 'b']);
    expect(new Float32Array((await checkpoint.readRange('b', 4, 4)).buffer)).toEqual(Float32Array.of(3));
    await checkpoint.close();
  });

  it.each([
    ['a path upwards', { a: '../secret.safetensors' }],
    ['an absolute path', { a: '/etc/secret.safetensors' }],
    ['a backslash', { a: '..\\secret.safetensors' }],
    ['another kind of file', { a: 'config.json' }],
    ['a number', { a: 1 }],
    ['no tensors', {}],
    ['a tensor that the shard lacks', { a: 'x.safetensors', ghost: 'x.safetensors' }],
  ])('refuses an index with %s', async (_what, weightMap) => {
    await writeFile(join(dir, 'secret.safetensors'), one);
    await put('x.safetensors', one);
    await index(weightMap);
    await expect(open()).rejects.toMatchObject({ code: 'BACKBONE_INVALID' });
  });

  it('refuses a tensor in a shard where the index does not place it', async () => {
    await put('x.safetensors', one);
    await put('y.safetensors', buildSafetensors([f32('b', [1], [1]), f32('a', [1], [9])]));
    await index({ a: 'x.safetensors', b: 'y.safetensors' });
    await expect(open()).rejects.toMatchObject({ code: 'BACKBONE_INVALID' });
  });

  it('refuses an index that names a tensor twice', async () => {
    await put('x.safetensors', one);
    await put('model.safetensors.index.json', '{"weight_map":{"a":"x.safetensors","a":"x.safetensors"}}');
    await expect(open()).rejects.toMatchObject({ code: 'BACKBONE_INVALID' });
  });

  it('follows links, of which the Hugging Face cache is made', async () => {
    await writeFile(join(dir, 'blob'), one);
    await mkdir(join(dir, 'model'));
    await symlink(join(dir, 'blob'), join(dir, 'model', 'model.safetensors'));
    await (await open()).close();
  });

  it('refuses confined files whose links lead out of the folder, and follows those that stay', async () => {
    await writeFile(join(dir, 'secret'), one);
    await put('x.safetensors', one);
    const folder = join(dir, 'model');
    await symlink(join(dir, 'secret'), join(folder, 'out.safetensors'));
    await expect(confinedPath(folder, 'out.safetensors')).rejects.toMatchObject({
      code: 'FILE_MISSING',
      message: expect.stringContaining('link'),
    });
    await symlink('x.safetensors', join(folder, 'in.safetensors'));
    await expect(confinedPath(folder, 'in.safetensors')).resolves.toContain('x.safetensors');
  });

  it('names what is missing', async () => {
    await mkdir(join(dir, 'model'));
    await expect(open()).rejects.toMatchObject({ code: 'FILE_MISSING' });
    await index({ a: 'gone.safetensors' });
    await expect(open()).rejects.toMatchObject({ code: 'FILE_MISSING', field: 'gone.safetensors' });
  });

  it('refuses a pipe instead of waiting for it', async () => {
    execFileSync('mkfifo', [join(dir, 'pipe')]);
    await expect(openSafetensors(join(dir, 'pipe'), BACKBONE_HEADER_LIMITS)).rejects.toMatchObject({
      code: 'FILE_MISSING',
    });
  });
});
