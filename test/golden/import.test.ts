import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeEach, describe, expect, test } from 'vitest';
import { importBackbone } from '../../src/backbone/import.ts';
import { importOnce, listImported } from '../../src/backbone/imported.ts';
import { readSafetensors, type Tensor } from '../reference/safetensors.ts';
import { encodeSafetensors, synthModel, writeFileTree } from '../reference/synth.ts';
import { temporaryFolder } from './kit.ts';

let dir: string;
let root: string;

async function checkpoint(change: (tensors: Map<string, Tensor>) => void = () => {}): Promise<void> {
  writeFileTree(dir, synthModel({ family: 'llama', seed: 7, tied: true, dtype: 'F32' }));
  const path = join(dir, 'model.safetensors');
  const tensors = readSafetensors(path);
  change(tensors);
  await writeFile(
    path,
    encodeSafetensors(
      [...tensors].map(([name, tensor]) => ({ name, ...tensor })),
      'F32',
    ),
  );
}

function run(bits: 32 | 8 | 4 = 32) {
  return importBackbone({ dir, root, bits });
}

beforeEach(async () => {
  const base = await temporaryFolder();
  dir = join(base, 'checkpoint');
  root = join(base, 'backbones');
  await mkdir(dir);
});

describe('importing a checkpoint', () => {
  test('is content-addressed: the same content gives the same digest, another weight or width another', async () => {
    await checkpoint();
    const first = await run();
    expect((await run()).manifest.digest).toBe(first.manifest.digest);
    const quantized = await run(8);
    expect(quantized.manifest.digest).not.toBe(first.manifest.digest);
    await checkpoint((tensors) => {
      const norm = tensors.get('model.norm.weight');
      if (norm !== undefined) norm.data[0] = 2;
    });
    const changed = await run();
    expect(changed.manifest.digest).not.toBe(first.manifest.digest);
    const listed = (await listImported(root)).map(({ manifest }) => manifest.digest);
    expect(new Set(listed)).toEqual(
      new Set([first.manifest.digest, quantized.manifest.digest, changed.manifest.digest]),
    );
  });

  test('leaves nothing behind when it is refused', async () => {
    await checkpoint((tensors) => tensors.delete('model.norm.weight'));
    await expect(run()).rejects.toMatchObject({ code: 'BACKBONE_INVALID', field: 'model.norm.weight' });
    expect(await readdir(root).catch(() => [])).toEqual([]);
  });

  test('names a tensor of another shape, one without a place, and one that is not finite', async () => {
    const name = 'model.layers.1.mlp.down_proj.weight';
    await checkpoint((tensors) => {
      const tensor = tensors.get(name);
      if (tensor !== undefined) tensors.set(name, { ...tensor, shape: [...tensor.shape].reverse() });
    });
    await expect(run()).rejects.toMatchObject({ code: 'BACKBONE_INVALID', field: name });
    const extra = 'model.layers.0.self_attn.q_proj.bias';
    await checkpoint((tensors) =>
      tensors.set(extra, { dtype: 'F32', shape: [1], data: new Float64Array(1) }),
    );
    await expect(run()).rejects.toMatchObject({ code: 'BACKBONE_UNSUPPORTED', field: extra });
    await checkpoint((tensors) => {
      const tensor = tensors.get(name);
      if (tensor !== undefined) tensor.data[3] = Number.NaN;
    });
    await expect(run()).rejects.toMatchObject({ code: 'BACKBONE_INVALID', field: name });
  });

  test('accepts a saved head beside tied embeddings only when they are equal', async () => {
    const copyHead = (tensors: Map<string, Tensor>): Tensor | undefined => {
      const embedding = tensors.get('model.embed_tokens.weight');
      if (embedding === undefined) return undefined;
      const head = { ...embedding, data: embedding.data.slice() };
      tensors.set('lm_head.weight', head);
      return head;
    };
    await checkpoint((tensors) => void copyHead(tensors));
    await expect(run()).resolves.toBeDefined();
    await checkpoint((tensors) => {
      const head = copyHead(tensors);
      if (head !== undefined) head.data[5] = 9;
    });
    await expect(run()).rejects.toMatchObject({ code: 'BACKBONE_INVALID', field: 'lm_head.weight' });
  });

  test('says which file is missing or malformed', async () => {
    await expect(run()).rejects.toMatchObject({ code: 'FILE_MISSING', field: 'config.json' });
    await checkpoint();
    await writeFile(join(dir, 'generation_config.json'), '{"eos_token_id": "two"}');
    await expect(run()).rejects.toMatchObject({
      code: 'BACKBONE_INVALID',
      field: expect.stringContaining('eos_token_id'),
    });
    await writeFile(join(dir, 'config.json'), '{');
    await expect(run()).rejects.toMatchObject({ code: 'BACKBONE_INVALID', field: 'config.json' });
  });

  test('replaces a damaged import and removes what a dead process left', async () => {
    await checkpoint();
    const first = await run();
    await writeFile(join(first.dir, 'manifest.json'), '{');
    const abandoned = join(root, '.import-999999999-x');
    await mkdir(abandoned);
    expect((await run()).manifest).toEqual(first.manifest);
    expect(await readdir(root)).toEqual([first.manifest.digest]);
  });

  test('ends sequences at the token that only the tokenizer names as the end', async () => {
    await checkpoint();
    await rm(join(dir, 'generation_config.json'));
    const config: unknown = JSON.parse(await readFile(join(dir, 'config.json'), 'utf8'));
    await writeFile(
      join(dir, 'config.json'),
      JSON.stringify(config, (key, value) => (key === 'eos_token_id' ? null : value)),
    );
    expect((await run()).manifest.eosTokenIds).toEqual([257]);
    await rm(join(dir, 'tokenizer.json'));
    expect((await run()).manifest.eosTokenIds).toEqual([]);
    await writeFile(join(dir, 'generation_config.json'), '{"eos_token_id": [3, 320]}');
    await expect(run()).rejects.toMatchObject({ code: 'BACKBONE_INVALID' });
  });

  test('a folder that did not change is not read again, and one that did is', async () => {
    await checkpoint();
    let reads = 0;
    const once = () => importOnce({ dir, root, bits: 32, onProgress: () => (reads += 1) });
    const first = await once();
    const readsOfImport = reads;
    expect(readsOfImport).toBeGreaterThan(0);
    expect((await once()).manifest).toEqual(first.manifest);
    expect(reads).toBe(readsOfImport);
    const config = await readFile(join(dir, 'generation_config.json'), 'utf8');
    await writeFile(join(dir, 'generation_config.json'), `${config} \n`);
    await once();
    expect(reads).toBeGreaterThan(readsOfImport);
    await rm(first.dir, { recursive: true });
    await once();
    expect(await readdir(root)).toContain(first.manifest.digest);
  });
});
