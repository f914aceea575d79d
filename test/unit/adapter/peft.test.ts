import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { DEFAULT_ADAPTER_LIMITS } from '../../../src/adapter/limits.ts';
import { readAdapter, requireEffect } from '../../../src/adapter/read.ts';
import { PatchbayError } from '../../../src/kernel/errors.ts';
import { bytesSource } from '../../../src/safetensors/source.ts';
import { assemble, type BuiltTensor, buildSafetensors, f32, filled, zeros } from '../safetensors/build.ts';
import { CONTEXT, configJson, qName, qPair } from './sample.ts';

const readBytes = (tensors: Uint8Array, config: Readonly<Record<string, unknown>> = {}, context = CONTEXT) =>
  readAdapter({ config: bytesSource(configJson(config)), tensors: bytesSource(tensors) }, context);
const read = (
  tensors: readonly BuiltTensor[],
  config: Readonly<Record<string, unknown>> = {},
  context = CONTEXT,
) => readBytes(buildSafetensors(tensors), config, context);

const qA = filled(qName(0, 'A'), [2, 8], 1);
const qB = filled(qName(0, 'B'), [12, 2], 1);
const mlp = (target: string, a: readonly number[], b: readonly number[]): readonly BuiltTensor[] => [
  filled(`base_model.model.model.layers.1.mlp.${target}.lora_A.weight`, a, 1),
  filled(`base_model.model.model.layers.1.mlp.${target}.lora_B.weight`, b, 1),
];

describe('readPeftAdapter', () => {
  it('orders modules by layer and projection, whatever the order of the file', async () => {
    const tensors = [
      ...mlp('down_proj', [2, 16], [8, 2]),
      ...mlp('gate_proj', [2, 8], [16, 2]),
      ...qPair(1),
      ...qPair(0),
    ];
    const { modules, summary } = await read(tensors);
    expect(modules.map(({ layer, target }) => `${layer}.${target}`)).toEqual([
      '0.q_proj',
      '1.q_proj',
      '1.gate_proj',
      '1.down_proj',
    ]);
    expect(summary).toEqual({
      rankMax: 2,
      targets: ['q_proj', 'gate_proj', 'down_proj'],
      layers: [0, 1],
      moduleCount: 4,
      parameters: 2 * 40 + 48 + 48,
      tensorBytes: 4 * (2 * 40 + 48 + 48),
      hasEffect: true,
    });
  });

  it('scales by alpha over rank, or over its root with rslora', async () => {
    const tensors = [filled(qName(0, 'A'), [4, 8], 1), filled(qName(0, 'B'), [12, 4], 1)];
    expect((await read(tensors, { r: 4, lora_alpha: 6 })).modules[0]?.scale).toBe(1.5);
    expect((await read(tensors, { r: 4, lora_alpha: 6, use_rslora: true })).modules[0]?.scale).toBe(3);
  });

  it('takes the first pattern that matches, each for rank and alpha', async () => {
    const tensors = [...qPair(0, 3), ...qPair(1, 5)];
    const patterns = {
      rank_pattern: { 'layers.0.self_attn.q_proj': 3, q_proj: 5 },
      alpha_pattern: { 'layers\\.[1-9]\\..*': 10 },
    };
    const { modules } = await read(tensors, patterns);
    expect(modules.map(({ rank, scale }) => [rank, scale])).toEqual([
      [3, 4 / 3],
      [5, 2],
    ]);
  });

  it('lets the tensors decide about targets', async () => {
    const { summary } = await read(qPair(), { target_modules: ['v_proj'], layers_to_transform: [1] });
    expect(summary.targets).toEqual(['q_proj']);
  });

  it('keeps the values as stored', async () => {
    const a = Array.from({ length: 16 }, (_, i) => i / 7);
    const { modules } = await read([f32(qName(0, 'A'), [2, 8], a), qB]);
    expect(modules[0]?.a).toEqual(Float32Array.from(a));
  });

  const reject: readonly [string, readonly BuiltTensor[], string][] = [
    ['A without B', [qA], 'ADAPTER_TENSOR_UNPAIRED'],
    ['B without A', [qB], 'ADAPTER_TENSOR_UNPAIRED'],
    ['no tensors', [], 'ADAPTER_NO_EFFECT'],
    ['a layer that the backbone lacks', qPair(2), 'ADAPTER_TENSOR_UNKNOWN'],
    [
      'a name with the adapter name inside',
      [{ ...qA, name: qName(0, 'A').replace('A.w', 'A.default.w') }, qB],
      'ADAPTER_TENSOR_UNKNOWN',
    ],
    [
      'a layer number with a leading zero',
      [{ ...qA, name: qName(0, 'A').replace('.0.', '.00.') }, qB],
      'ADAPTER_TENSOR_UNKNOWN',
    ],
    [
      'a projection in the wrong place',
      [{ ...qA, name: qName(0, 'A').replace('self_attn', 'mlp') }, qB],
      'ADAPTER_TENSOR_UNKNOWN',
    ],
    [
      'an unknown projection',
      [{ ...qA, name: qName(0, 'A').replace('q_proj', 'x_proj') }, qB],
      'ADAPTER_TENSOR_UNKNOWN',
    ],
    ['a bare name', [{ ...qA, name: '__proto__' }], 'ADAPTER_TENSOR_UNKNOWN'],
    [
      'embedding LoRA',
      [qA, qB, zeros('base_model.model.model.embed_tokens.lora_embedding_A', 'F32', [2, 32])],
      'ADAPTER_UNSUPPORTED',
    ],
    [
      'head LoRA',
      [qA, qB, zeros('base_model.model.lm_head.lora_A.weight', 'F32', [2, 8])],
      'ADAPTER_UNSUPPORTED',
    ],
    [
      'a saved head',
      [qA, qB, zeros('base_model.model.lm_head.weight', 'F32', [2, 8])],
      'ADAPTER_UNSUPPORTED',
    ],
    [
      'a DoRA vector',
      [qA, qB, zeros('base_model.model.model.layers.0.self_attn.q_proj.lora_magnitude_vector', 'F32', [12])],
      'ADAPTER_UNSUPPORTED',
    ],
    [
      'a bias of B',
      [qA, qB, zeros(qName(0, 'B').replace('weight', 'bias'), 'F32', [12])],
      'ADAPTER_UNSUPPORTED',
    ],
    ['an A of another width', [filled(qName(0, 'A'), [2, 9], 1), qB], 'ADAPTER_SHAPE'],
    ['a B of another height', [qA, filled(qName(0, 'B'), [8, 2], 1)], 'ADAPTER_SHAPE'],
    ['an A and B of different rank', [qA, filled(qName(0, 'B'), [12, 3], 1)], 'ADAPTER_SHAPE'],
    ['a vector', [filled(qName(0, 'A'), [16], 1), qB], 'ADAPTER_SHAPE'],
    [
      'rank zero',
      [zeros(qName(0, 'A'), 'F32', [0, 8]), zeros(qName(0, 'B'), 'F32', [12, 0])],
      'ADAPTER_RANK',
    ],
    ['a rank that the configuration contradicts', qPair(0, 3), 'ADAPTER_RANK'],
    ['integers', [zeros(qName(0, 'A'), 'I32', [2, 8]), qB], 'SAFETENSORS_DTYPE'],
    ['doubles', [zeros(qName(0, 'A'), 'F64', [2, 8]), qB], 'SAFETENSORS_DTYPE'],
    ['NaN in A', [filled(qName(0, 'A'), [2, 8], Number.NaN), qB], 'ADAPTER_NOT_FINITE'],
    ['infinity in B', [qA, filled(qName(0, 'B'), [12, 2], Number.NEGATIVE_INFINITY)], 'ADAPTER_NOT_FINITE'],
  ];
  it.each(reject)('refuses %s', async (_what, tensors, code) => {
    await expect(read(tensors)).rejects.toMatchObject({ code });
  });

  it('refuses NaN and infinity in halves', async () => {
    for (const [dtype, bits] of [
      ['F16', 0x7c00],
      ['F16', 0x7e00],
      ['BF16', 0x7f80],
      ['BF16', 0xffc0],
    ] as const) {
      const data = new Uint8Array(new Uint16Array(16).fill(bits, 7, 8).buffer);
      await expect(read([{ name: qName(0, 'A'), dtype, shape: [2, 8], data }, qB])).rejects.toMatchObject({
        code: 'ADAPTER_NOT_FINITE',
        field: qName(0, 'A'),
      });
    }
  });

  it('calls a tensor that the header names twice doubled', async () => {
    const entry = '{"dtype":"U8","shape":[0],"data_offsets":[0,0]}';
    await expect(readBytes(assemble(`{"x":${entry},"x":${entry}}`))).rejects.toMatchObject({
      code: 'ADAPTER_TENSOR_DUPLICATE',
      field: 'x',
    });
  });

  it('bounds the rank', async () => {
    const wide = (rank: number) => read(qPair(0, rank), { r: rank });
    expect((await wide(128)).summary.rankMax).toBe(128);
    expect((await wide(1)).summary.rankMax).toBe(1);
    await expect(wide(129)).rejects.toMatchObject({ code: 'ADAPTER_RANK', meta: { maxRank: 128 } });
  });

  it('refuses a scale that overflows 32-bit floats, where it could reach neighbours in the batch', async () => {
    await expect(read([qA, qB], { lora_alpha: 1e300 })).rejects.toMatchObject({
      code: 'ADAPTER_BREAKS_OUTPUT',
    });
    await expect(read([qA, filled(qName(0, 'B'), [12, 2], 1e38)], { lora_alpha: 20 })).rejects.toMatchObject({
      code: 'ADAPTER_BREAKS_OUTPUT',
    });
  });

  it('notices adapters that change nothing', async () => {
    const noB = await read([qA, filled(qName(0, 'B'), [12, 2], 0)]);
    const noScale = await read([qA, qB], { lora_alpha: 0 });
    for (const { summary } of [noB, noScale]) {
      expect(() => requireEffect(summary)).toThrowError(
        expect.objectContaining({ code: 'ADAPTER_NO_EFFECT' }),
      );
    }
  });

  it('refuses files over their limits before it parses them', async () => {
    const context = { ...CONTEXT, limits: { ...DEFAULT_ADAPTER_LIMITS, maxTensorsBytes: 100 } };
    await expect(read([qA, qB], {}, context)).rejects.toMatchObject({ code: 'FILE_TOO_LARGE' });
  });

  it('answers any damage to either file with a coded error, never with a crash', async () => {
    const edits = fc.array(fc.record({ at: fc.nat(2_000), value: fc.nat(255) }), {
      minLength: 1,
      maxLength: 3,
    });
    const damage = (bytes: Uint8Array, changes: readonly { at: number; value: number }[]): Uint8Array => {
      const copy = Uint8Array.from(bytes);
      for (const { at, value } of changes) copy[at % copy.byteLength] = value;
      return copy;
    };
    await fc.assert(
      fc.asyncProperty(edits, edits, fc.boolean(), async (inConfig, inTensors, both) => {
        const config = damage(configJson({ rank_pattern: { 'layers.(0|1).*': 2 } }), inConfig);
        const tensors = buildSafetensors(qPair());
        const sources = {
          config: bytesSource(config),
          tensors: bytesSource(both ? damage(tensors, inTensors) : tensors),
        };
        try {
          expect((await readAdapter(sources, CONTEXT)).modules.length).toBeGreaterThan(0);
        } catch (error) {
          expect(error).toBeInstanceOf(PatchbayError);
        }
      }),
      { numRuns: 3_000 },
    );
  });

  it('lets other work in while it matches hostile patterns, and ends', async () => {
    const layers = 80;
    const shape = { ...CONTEXT.shape, layers };
    const tensors = Array.from({ length: layers }, (_, layer) => qPair(layer)).flat();
    // As many states as the limits allow, all of them alive at every character, and no match.
    const patterns = Object.fromEntries(Array.from({ length: 17 }, (_, i) => [`(.*[a-z]){100}${i}`, 9]));
    let turns = 0;
    const ticker = setInterval(() => {
      turns += 1;
    }, 1);
    const { modules } = await read(tensors, { rank_pattern: patterns }, { ...CONTEXT, shape });
    clearInterval(ticker);
    expect(modules).toHaveLength(layers);
    expect(turns).toBeGreaterThanOrEqual(10);
  });
});
