import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { readJsonObject } from './json.ts';
import { FIXTURES, fixtureInputs, GOLDEN_FOLDER } from './make-fixtures.ts';
import { halfToNumber } from './safetensors.ts';
import { synthModel, toBfloat16Bits, toHalfBits, tokenizerJson } from './synth.ts';

function filesBelow(folder: string, prefix = ''): string[] {
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) =>
    entry.isDirectory()
      ? filesBelow(join(folder, entry.name), `${prefix}${entry.name}/`)
      : [prefix + entry.name],
  );
}

describe.each(FIXTURES)('fixture $name', (spec) => {
  const folder = join(GOLDEN_FOLDER, spec.name);

  test('regenerating from the seed gives the committed bytes, file for file', () => {
    const files = fixtureInputs(spec);
    expect([...files.keys(), 'expected.jsonl'].sort()).toEqual(filesBelow(folder).sort());
    for (const [name, bytes] of files) {
      expect(Buffer.compare(readFileSync(join(folder, name)), bytes), `${name} differs`).toBe(0);
    }
  });

  test('weights stay small enough to be committed', () => {
    for (const name of filesBelow(folder)) expect(statSync(join(folder, name)).size).toBeLessThan(1.2e6);
  });
});

describe('the generator', () => {
  test('its tokenizer is the one the given goldens use', () => {
    expect(tokenizerJson(320)).toEqual(readJsonObject(join(GOLDEN_FOLDER, 'llama-tied/tokenizer.json')));
  });

  test('another seed gives other weights in files of the same size', () => {
    const [left, right] = [1, 2].map((seed) =>
      synthModel({ family: 'qwen3', seed }).get('model.safetensors'),
    );
    expect(left).not.toEqual(right);
    expect(left?.length).toBe(right?.length);
  });
});

describe('narrow floats', () => {
  test('every finite float16 survives a round trip', () => {
    for (let bits = 0; bits < 0x7c00; bits++) {
      expect(toHalfBits(halfToNumber(bits))).toBe(bits);
      if (bits > 0) expect(toHalfBits(-halfToNumber(bits))).toBe(bits + 0x8000);
    }
  });

  test('float16 rounds to nearest with ties to even, across exponents and into subnormals', () => {
    expect(halfToNumber(toHalfBits(1 + 1 / 2048))).toBe(1);
    expect(halfToNumber(toHalfBits(1 + 3 / 2048))).toBe(1 + 2 / 1024);
    expect(halfToNumber(toHalfBits(2 - 1 / 4096))).toBe(2);
    expect(halfToNumber(toHalfBits(1.5 * 2 ** -24))).toBe(2 ** -23);
    expect(() => toHalfBits(65520)).toThrow(/float16/);
  });

  test('bfloat16 rounds to nearest with ties to even', () => {
    expect(toBfloat16Bits(1)).toBe(0x3f80);
    expect(toBfloat16Bits(-2)).toBe(0xc000);
    expect(toBfloat16Bits(1 + 1 / 256)).toBe(0x3f80);
    expect(toBfloat16Bits(1 + 3 / 256)).toBe(0x3f82);
  });
});
