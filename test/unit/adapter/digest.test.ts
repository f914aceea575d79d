import { createHash } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { versionDigest } from '../../../src/adapter/digest.ts';
import { DEFAULT_ADAPTER_LIMITS } from '../../../src/adapter/limits.ts';
import { parseAdapterConfig } from '../../../src/adapter/peft/config.ts';
import { readAdapter } from '../../../src/adapter/read.ts';
import { ADAPTER_HEADER_LIMITS } from '../../../src/safetensors/header.ts';
import { bytesSource, readSafetensors } from '../../../src/safetensors/source.ts';
import { type BuiltTensor, buildSafetensors, f32, filled } from '../safetensors/build.ts';
import { CONTEXT, configJson, qName, qPair } from './sample.ts';

async function digest(
  tensors: readonly BuiltTensor[],
  config: Readonly<Record<string, unknown>> = {},
  backboneDigest = 'b'.repeat(64),
): Promise<string> {
  return versionDigest({
    tensors: await readSafetensors(bytesSource(buildSafetensors(tensors)), ADAPTER_HEADER_LIMITS),
    config: parseAdapterConfig(configJson(config), DEFAULT_ADAPTER_LIMITS),
    backboneDigest,
  });
}

describe('versionDigest', () => {
  it('hashes exactly the documented text', async () => {
    const tensors = [f32('é', [1, 2], [1, 2]), f32('a', [2], [3, 4])];
    const sha = (data: Uint8Array | string): string => createHash('sha256').update(data).digest('hex');
    const text = [
      'patchbay-adapter-version/1',
      `backbone ${'b'.repeat(64)}`,
      'r 2',
      'lora_alpha 4010000000000000',
      'use_rslora 1',
      'rank_pattern 2',
      '6:q_proj 4',
      '1:b 3',
      'alpha_pattern 1',
      '6:v_proj 3fe0000000000000',
      'tensors 2',
      `1:a F32 2 ${sha(new Uint8Array(Float32Array.of(3, 4).buffer))}`,
      `2:é F32 1,2 ${sha(new Uint8Array(Float32Array.of(1, 2).buffer))}`,
      '',
    ].join('\n');
    const config = { use_rslora: true, rank_pattern: { q_proj: 4, b: 3 }, alpha_pattern: { v_proj: 0.5 } };
    expect(await digest(tensors, config)).toBe(sha(text));
  });

  it('is the same for the same adapter saved twice', async () => {
    const [a, b] = qPair();
    if (a === undefined || b === undefined) throw new Error('a pair has two tensors');
    const noise = { lora_dropout: 0.3, base_model_name_or_path: 'elsewhere', target_modules: 'all-linear' };
    expect(await digest([b, a], noise)).toBe(await digest([a, b]));
  });

  it('changes with everything that the output depends on', async () => {
    const digests = await Promise.all([
      digest(qPair()),
      digest(qPair(1)),
      digest(qPair(0, 3)),
      digest(qPair(0, 2, 0.25)),
      digest(qPair(), { r: 3 }),
      digest(qPair(), { lora_alpha: 5 }),
      digest(qPair(), { use_rslora: true }),
      digest(qPair(), { rank_pattern: { a: 1 } }),
      digest(qPair(), { alpha_pattern: { a: 1 } }),
      digest(qPair(), { alpha_pattern: { a: 1, b: 2 } }),
      digest(qPair(), { alpha_pattern: { b: 2, a: 1 } }),
      digest(qPair(), {}, 'c'.repeat(64)),
      digest([filled(qName(0, 'A'), [8, 2], 0.5), filled(qName(0, 'B'), [12, 2], 0.5)]),
    ]);
    expect(new Set(digests).size).toBe(digests.length);
  });

  it('is what reading the adapter reports', async () => {
    const read = await readAdapter(
      { config: bytesSource(configJson()), tensors: bytesSource(buildSafetensors(qPair())) },
      CONTEXT,
    );
    expect(read.digest).toBe(await digest(qPair()));
  });
});
