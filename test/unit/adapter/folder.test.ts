import { mkdtemp, readdir, readFile, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { readAdapterFolder } from '../../../src/adapter/folder.ts';
import { CONFIG_FILE, DEFAULT_ADAPTER_LIMITS, TENSORS_FILE } from '../../../src/adapter/limits.ts';
import type { Family, ModelShape } from '../../../src/kernel/model.ts';
import { CONTEXT, configJson, SHAPE, sampleTensors } from './sample.ts';

const GOLDEN = fileURLToPath(new URL('../../fixtures/golden/', import.meta.url));

let dir = '';
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'patchbay-adapter-'));
  await writeFile(join(dir, CONFIG_FILE), configJson());
  await writeFile(join(dir, TENSORS_FILE), sampleTensors());
});
afterEach(async () => {
  await rm(dir, { recursive: true, force: true });
});

describe('readAdapterFolder', () => {
  it('reads a folder and ignores what is not the adapter', async () => {
    await writeFile(join(dir, 'README.md'), '# card');
    expect((await readAdapterFolder(dir, CONTEXT)).modules).toHaveLength(1);
  });

  it('refuses a pickle by name', async () => {
    await rename(join(dir, TENSORS_FILE), join(dir, 'adapter_model.bin'));
    await expect(readAdapterFolder(dir, CONTEXT)).rejects.toMatchObject({
      code: 'ADAPTER_UNSUPPORTED',
      field: 'adapter_model.bin',
    });
  });

  it.each([CONFIG_FILE, TENSORS_FILE])('names a missing %s', async (name) => {
    await rm(join(dir, name));
    await expect(readAdapterFolder(dir, CONTEXT)).rejects.toMatchObject({
      code: 'FILE_MISSING',
      field: name,
    });
  });

  it('refuses links that lead out of the folder', async () => {
    await rm(join(dir, CONFIG_FILE));
    await symlink('/etc/passwd', join(dir, CONFIG_FILE));
    await expect(readAdapterFolder(dir, CONTEXT)).rejects.toMatchObject({ code: 'FILE_MISSING' });
  });
});

describe('the golden adapters', () => {
  const wanted: Readonly<Record<string, { rank: number; targets: number; scale: number }>> = {
    all_r8: { rank: 8, targets: 7, scale: 2 },
    half_r16: { rank: 16, targets: 2, scale: 2 },
    last_only: { rank: 40, targets: 7, scale: 1 },
    pattern: { rank: 10, targets: 3, scale: 2 },
    qv_r3: { rank: 3, targets: 2, scale: 2 },
    rslora_r24: { rank: 24, targets: 6, scale: 12 / Math.sqrt(24) },
  };

  it.each([
    ['llama-tied', 'llama'],
    ['qwen2', 'qwen2'],
  ] as const)('of %s are read with their ranks and scales', async (backbone, family) => {
    const shape = shapeOf(JSON.parse(await readFile(join(GOLDEN, backbone, 'config.json'), 'utf8')), family);
    const folders = await readdir(join(GOLDEN, backbone, 'adapters'));
    expect(folders.sort()).toEqual(Object.keys(wanted));
    for (const [name, { rank, targets, scale }] of Object.entries(wanted)) {
      const context = { shape, backboneDigest: 'a'.repeat(64), limits: DEFAULT_ADAPTER_LIMITS };
      const { modules, summary } = await readAdapterFolder(join(GOLDEN, backbone, 'adapters', name), context);
      expect(summary).toMatchObject({ rankMax: rank, hasEffect: true });
      expect(summary.targets).toHaveLength(targets);
      expect(modules[0]?.scale).toBe(scale);
      if (name !== 'pattern') continue;
      expect(modules.find((module) => module.target === 'o_proj')?.scale).toBe(2 / 4);
      expect(modules.find((module) => module.target === 'down_proj')?.scale).toBe(8 / 10);
    }
  });
});

/** The dimensions of a checkpoint of the fixtures, as far as adapters depend on them. */
function shapeOf(config: Readonly<Record<string, number>>, family: Family): ModelShape {
  const number = (key: string, otherwise = 0): number => config[key] ?? otherwise;
  const heads = number('num_attention_heads');
  return {
    ...SHAPE,
    family,
    hiddenSize: number('hidden_size'),
    layers: number('num_hidden_layers'),
    heads,
    kvHeads: number('num_key_value_heads', heads),
    headDim: number('head_dim', number('hidden_size') / heads),
    intermediateSize: number('intermediate_size'),
  };
}
