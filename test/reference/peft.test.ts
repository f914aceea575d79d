import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { at, itemAt } from './array.ts';
import { referenceLogits } from './generate.ts';
import { GOLDEN_FOLDER } from './make-fixtures.ts';
import { loadModel, type ReferenceModel } from './model.ts';
import {
  type LoraModule,
  loadAdapter,
  patternValue,
  type ReferenceAdapter,
  type WeightedAdapter,
} from './peft.ts';
import { synthAdapter, synthPrompt, writeFileTree } from './synth.ts';

const scratch = mkdtempSync(join(tmpdir(), 'reference-peft-'));
afterAll(() => rmSync(scratch, { recursive: true }));

const MISTRAL = join(GOLDEN_FOLDER, 'mistral');

function moduleOf(adapter: ReferenceAdapter, path: string): LoraModule {
  const module = adapter.modules.find((candidate) => candidate.path === path);
  if (module === undefined) throw new Error(`${path} is not adapted`);
  return module;
}

describe('pattern keys', () => {
  const path = 'model.layers.1.self_attn.q_proj';

  test('a key matches whole name components at the end of the module name', () => {
    expect(patternValue({ q_proj: 5 }, path, 1)).toBe(5);
    expect(patternValue({ 'self_attn.q_proj': 5 }, path, 1)).toBe(5);
    expect(patternValue({ [path]: 5 }, path, 1)).toBe(5);
    expect(patternValue({ proj: 5 }, path, 1)).toBe(1);
    expect(patternValue({ self_attn: 5 }, path, 1)).toBe(1);
  });

  test('a key is a regular expression and its alternatives stay inside the component', () => {
    expect(patternValue({ '[kq]_proj': 5 }, path, 1)).toBe(5);
    expect(patternValue({ 'v_proj|q_proj': 5 }, path, 1)).toBe(5);
    expect(patternValue({ 'layers\\.[02]\\..*q_proj': 5 }, path, 1)).toBe(1);
  });

  test('the first matching key wins over a later, more specific one', () => {
    expect(patternValue({ q_proj: 5, [path]: 6 }, path, 1)).toBe(5);
    expect(patternValue({ [path]: 6, q_proj: 5 }, path, 1)).toBe(6);
  });
});

describe('scales', () => {
  test('rslora divides alpha by the root of the rank', () => {
    const adapter = loadAdapter(join(MISTRAL, 'adapters/rslora_r24'));
    for (const module of adapter.modules) expect(module.scale).toBeCloseTo(12 / Math.sqrt(24), 15);
  });

  test('rank and alpha patterns set rank and scale per module', () => {
    const adapter = loadAdapter(join(MISTRAL, 'adapters/pattern'));
    const of = (path: string): [number, number] => {
      const { rank, scale } = moduleOf(adapter, `model.layers.${path}`);
      return [rank, scale];
    };
    expect(of('0.self_attn.q_proj')).toEqual([4, 8 / 4]);
    expect(of('1.self_attn.q_proj')).toEqual([6, 8 / 6]);
    expect(of('0.self_attn.o_proj')).toEqual([4, 2 / 4]);
    expect(of('0.mlp.down_proj')).toEqual([10, 5 / 10]);
    expect(of('1.mlp.down_proj')).toEqual([10, 8 / 10]);
  });

  test('an adapter restricted to one layer adapts only that layer', () => {
    const { modules } = loadAdapter(join(MISTRAL, 'adapters/last_only'));
    expect(modules).toHaveLength(7);
    expect(modules.every(({ path }) => path.startsWith('model.layers.2.'))).toBe(true);
  });
});

/** The same blend written into the weights, which is the definition the run-time path has to agree with. */
function merge(model: ReferenceModel, adapters: readonly WeightedAdapter[]): ReferenceModel {
  type Linear = ReferenceModel['head'];
  const mergeLinear = (linear: Linear): Linear => {
    const weight = linear.weight.slice();
    for (const { adapter, weight: blend } of adapters) {
      const module = adapter.modules.find(({ path }) => path === linear.path);
      if (module === undefined) continue;
      for (let row = 0; row < linear.outFeatures; row++) {
        for (let column = 0; column < linear.inFeatures; column++) {
          let delta = 0;
          for (let k = 0; k < module.rank; k++) {
            delta += at(module.b, row * module.rank + k) * at(module.a, k * linear.inFeatures + column);
          }
          const index = row * linear.inFeatures + column;
          weight[index] = at(weight, index) + blend * module.scale * delta;
        }
      }
    }
    return { ...linear, weight };
  };
  const layers = model.layers.map((layer) => ({
    ...layer,
    q: mergeLinear(layer.q),
    k: mergeLinear(layer.k),
    v: mergeLinear(layer.v),
    o: mergeLinear(layer.o),
    gate: mergeLinear(layer.gate),
    up: mergeLinear(layer.up),
    down: mergeLinear(layer.down),
  }));
  return { ...model, layers };
}

function largestDifference(left: Float64Array, right: Float64Array): number {
  return left.reduce((largest, value, i) => Math.max(largest, Math.abs(value - at(right, i))), 0);
}

describe('blends', () => {
  const model = loadModel(MISTRAL);
  const ids = synthPrompt('blends', 10);
  const member = (name: string, weight: number): WeightedAdapter => ({
    adapter: loadAdapter(join(MISTRAL, 'adapters', name)),
    weight,
  });
  const last = (base: ReferenceModel, adapters: readonly WeightedAdapter[]): Float64Array =>
    itemAt(referenceLogits(base, adapters, ids), ids.length - 1);

  test('a blend gives the logits of weights with weight * scale * B A merged in', () => {
    const blend = [member('all_r8', 0.5), member('rslora_r24', 0.3), member('last_only', 1.25)];
    expect(largestDifference(last(model, blend), last(merge(model, blend), []))).toBeLessThan(1e-9);
  });

  test('weight zero leaves the backbone, and a repeated adapter adds its weights', () => {
    expect(largestDifference(last(model, [member('pattern', 0)]), last(model, []))).toBe(0);
    const twice = last(model, [member('pattern', 0.25), member('pattern', 0.5)]);
    expect(largestDifference(twice, last(model, [member('pattern', 0.75)]))).toBeLessThan(1e-9);
  });

  test('an adapter made for another model is refused', () => {
    const foreign = { adapter: loadAdapter(join(GOLDEN_FOLDER, 'llama-tied/adapters/qv_r3')), weight: 1 };
    expect(() => referenceLogits(model, [foreign], ids)).toThrow(/does not fit/);
  });
});

describe('what the reference does not compute is refused', () => {
  const spec = { name: 'tiny', r: 2, alpha: 4, targets: ['q_proj'] } as const;
  const files = synthAdapter({ family: 'llama', seed: 1 }, spec);
  const config = Buffer.from(files.get('adapter_config.json') ?? []).toString();

  test.each([
    ['DoRA', '"use_dora": false', '"use_dora": true'],
    ['trained biases', '"bias": "none"', '"bias": "all"'],
    ['modules_to_save', '"modules_to_save": null', '"modules_to_save": ["lm_head"]'],
    ['a rank the tensors do not have', '"r": 2', '"r": 4'],
  ])('%s', (name, from, to) => {
    expect(config).toContain(from);
    const folder = join(scratch, name.replaceAll(' ', '-'));
    writeFileTree(
      folder,
      new Map([...files, ['adapter_config.json', Buffer.from(config.replace(from, to))]]),
    );
    expect(() => loadAdapter(folder)).toThrow();
  });

  test('the same adapter unchanged loads', () => {
    const folder = join(scratch, 'unchanged');
    writeFileTree(folder, files);
    expect(loadAdapter(folder).modules).toHaveLength(3);
  });
});
