import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { at, itemAt } from './array.ts';
import { readCases, readExpectations } from './cases.ts';
import { referenceGreedy, referenceLogits } from './generate.ts';
import { GOLDEN_FOLDER } from './make-fixtures.ts';
import { inverseFrequencies, loadModel, type ReferenceModel } from './model.ts';
import { type SynthModelOptions, synthModel, synthPrompt, writeFileTree } from './synth.ts';

const scratch = mkdtempSync(join(tmpdir(), 'reference-model-'));
afterAll(() => rmSync(scratch, { recursive: true }));
let folderCount = 0;

function build(options: SynthModelOptions): ReferenceModel {
  const folder = join(scratch, String(folderCount++));
  writeFileTree(folder, synthModel(options));
  return loadModel(folder);
}

function lastLogits(model: ReferenceModel, ids: readonly number[]): Float64Array {
  return itemAt(referenceLogits(model, [], ids), ids.length - 1);
}

describe('rotary frequencies', () => {
  const scaling = {
    factor: 8,
    low_freq_factor: 1,
    high_freq_factor: 4,
    original_max_position_embeddings: 64,
  };

  test('unscaled frequencies are the powers theta^(-2i/d)', () => {
    expect([...inverseFrequencies(4, 10000, undefined)]).toEqual([1, expect.closeTo(0.01, 15)]);
  });

  test('llama3 scaling keeps short wavelengths, divides long ones and interpolates between', () => {
    const plain = inverseFrequencies(16, 10000, undefined);
    const scaled = inverseFrequencies(16, 10000, { rope_type: 'llama3', ...scaling });
    // Wavelength 6.3 is under 64/4 and wavelength 199 is over 64/1.
    expect(at(scaled, 0)).toBe(at(plain, 0));
    expect(at(scaled, 3)).toBe(at(plain, 3) / 8);
    // Wavelength 19.87 gives smooth = (64 / 19.87 - 1) / 3 = 0.7404.
    expect(at(scaled, 1) / at(plain, 1)).toBeCloseTo(0.7404 + 0.2596 / 8, 3);
  });

  test('the legacy key `type` selects the same scaling as `rope_type`', () => {
    expect(inverseFrequencies(16, 10000, { type: 'llama3', ...scaling })).toEqual(
      inverseFrequencies(16, 10000, { rope_type: 'llama3', ...scaling }),
    );
    const ropeScaling = { factor: 8, lowFreqFactor: 1, highFreqFactor: 4, originalMaxPositions: 64 };
    const current = build({ family: 'llama', seed: 7, ropeScaling });
    const legacy = build({ family: 'llama', seed: 7, ropeScaling: { ...ropeScaling, legacyTypeKey: true } });
    expect(legacy.config).toEqual(current.config);
  });

  test('an unknown scaling is refused instead of ignored', () => {
    expect(() => inverseFrequencies(16, 10000, { rope_type: 'yarn', factor: 4 })).toThrow(/yarn/);
  });

  test('the llama3 fixture cannot be reproduced without its scaling', () => {
    const folder = join(GOLDEN_FOLDER, 'llama3-untied');
    const model = loadModel(folder);
    const unscaled = {
      ...model,
      config: { ...model.config, inverseFrequencies: inverseFrequencies(16, 10000, undefined) },
    };
    const { promptIds, maxTokens, adapters } = itemAt(readCases(folder), 0);
    expect(promptIds.length).toBeGreaterThan(64);
    expect(adapters).toEqual([]);
    const { ids } = referenceGreedy({ model: unscaled, adapters: [], promptIds, maxTokens, ignoreEos: true });
    expect(ids).not.toEqual(itemAt(readExpectations(folder), 0).ids);
  });
});

describe('checkpoint layouts', () => {
  const prompt = synthPrompt('layouts', 20);

  test('a sharded checkpoint gives exactly the logits of the single file', () => {
    const options: SynthModelOptions = { family: 'llama', seed: 3, tied: false, dtype: 'BF16' };
    const single = lastLogits(build(options), prompt);
    expect(lastLogits(build({ ...options, shardCount: 3 }), prompt)).toEqual(single);
  });

  test('every family runs in every dtype, tied and untied, with its own head size', () => {
    for (const family of ['llama', 'mistral', 'qwen2', 'qwen3'] as const) {
      for (const dtype of ['F32', 'F16', 'BF16'] as const) {
        for (const tied of [true, false]) {
          const headDim = family === 'qwen2' ? undefined : 24;
          const model = build({
            family,
            seed: 4,
            dtype,
            tied,
            layerCount: 1,
            ...(headDim === undefined ? {} : { headDim }),
          });
          expect(model.config.headDim).toBe(headDim ?? 16);
          const logits = lastLogits(model, prompt.slice(0, 5));
          expect(logits).toHaveLength(320);
          expect(logits.every(Number.isFinite)).toBe(true);
        }
      }
    }
  });

  test('qwen2 needs its q/k/v biases and they change the logits', () => {
    const model = build({ family: 'qwen2', seed: 5 });
    const unbiased = {
      ...model,
      layers: model.layers.map((layer) => ({ ...layer, q: { ...layer.q, bias: undefined } })),
    };
    expect(lastLogits(unbiased, prompt)).not.toEqual(lastLogits(model, prompt));
    const folder = join(scratch, 'no-bias');
    const files = synthModel({ family: 'llama', seed: 5 });
    const config = synthModel({ family: 'qwen2', seed: 5 }).get('config.json');
    if (config === undefined) throw new Error('no config.json');
    writeFileTree(folder, files.set('config.json', config));
    expect(() => loadModel(folder)).toThrow(/q_proj\.bias/);
  });

  test('qwen3 head norms are not the identity: weights of one give other logits', () => {
    const model = build({ family: 'qwen3', seed: 5 });
    const ones = new Float64Array(model.config.headDim).fill(1);
    const layers = model.layers.map((layer) => ({ ...layer, qNorm: ones, kNorm: ones }));
    expect(lastLogits({ ...model, layers }, prompt)).not.toEqual(lastLogits(model, prompt));
  });
});

describe('sequences', () => {
  const prompt = synthPrompt('sequences', 12);

  test('a position never depends on later tokens', () => {
    const model = build({ family: 'mistral', seed: 6, headDim: 24 });
    const short = referenceLogits(model, [], prompt.slice(0, 6));
    expect(referenceLogits(model, [], prompt).slice(0, 6)).toEqual(short);
  });

  test('decoding with the cache chooses what recomputing the whole sequence chooses', () => {
    const model = build({ family: 'qwen3', seed: 6 });
    const { ids, margins } = referenceGreedy({
      model,
      adapters: [],
      promptIds: prompt,
      maxTokens: 8,
      ignoreEos: true,
    });
    ids.forEach((id, i) => {
      const sorted = lastLogits(model, [...prompt, ...ids.slice(0, i)]);
      const best = at(sorted, id);
      const second = Math.max(...sorted.filter((_, other) => other !== id));
      expect(best - second).toBe(at(margins, i));
    });
  });

  test('a sequence longer than an active sliding window is refused', () => {
    const model = build({ family: 'mistral', seed: 6 });
    const windowed = { ...model, config: { ...model.config, slidingWindow: 4 } };
    expect(() => referenceLogits(windowed, [], prompt)).toThrow(/sliding/);
    expect(referenceLogits(windowed, [], prompt.slice(0, 4))).toHaveLength(4);
  });

  test('a token outside the vocabulary is refused', () => {
    const model = build({ family: 'llama', seed: 6 });
    expect(() => referenceLogits(model, [], [320])).toThrow(/vocabulary/);
  });
});
