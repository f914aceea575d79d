import { describe, expect, test } from 'vitest';
import { QUANT_BLOCK } from '../../../src/backbone/onnx/stored.ts';
import { blocksOf, quantizeBlocks, quantizePerRow } from '../../../src/backbone/quantize.ts';

function weightsOf(count: number): Float32Array {
  return Float32Array.from({ length: count }, (_, i) => Math.sin(i * 12.9898) * (1 + (i % 7)));
}

/** Values as `MatMulNBits` reads them. */
function dequantizeBlocks(quantized: ReturnType<typeof quantizeBlocks>, columns: number): number[] {
  const blocks = blocksOf(columns);
  const rows = quantized.scales.length / blocks;
  const out: number[] = [];
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      const block = row * blocks + Math.floor(column / QUANT_BLOCK);
      const within = column % QUANT_BLOCK;
      const byte = quantized.values[block * (QUANT_BLOCK / 2) + (within >> 1)] ?? 0;
      out.push(((within % 2 === 0 ? byte & 15 : byte >> 4) - 8) * (quantized.scales[block] ?? 0));
    }
  }
  return out;
}

describe('4 bits in blocks', () => {
  test.each([32, 64, 160, 172])('every value of rows of %i is within one step of the original', (columns) => {
    const weights = weightsOf(3 * columns);
    const quantized = quantizeBlocks(weights, 3, columns);
    dequantizeBlocks(quantized, columns).forEach((value, i) => {
      const block = Math.floor(i / columns) * blocksOf(columns) + Math.floor((i % columns) / QUANT_BLOCK);
      const stepSize = Math.abs(quantized.scales[block] ?? 0);
      expect(Math.abs(value - (weights[i] ?? 0))).toBeLessThanOrEqual(stepSize * 1.001);
    });
  });

  test('a block of zeros stays zero', () => {
    const quantized = quantizeBlocks(new Float32Array(40), 1, 40);
    expect(dequantizeBlocks(quantized, 40).every((value) => value === 0)).toBe(true);
  });
});

describe('8 bits with a scale for each row', () => {
  test('every value is within half a step of the original, and the largest is exact', () => {
    const weights = weightsOf(4 * 37);
    const { values, scales } = quantizePerRow(weights, 4, 37);
    values.forEach((value, i) => {
      const scale = scales[Math.floor(i / 37)] ?? 0;
      expect(Math.abs(value * scale - (weights[i] ?? 0))).toBeLessThanOrEqual(scale * 0.5001);
    });
    expect(
      [0, 1, 2, 3].map((row) => Math.max(...values.subarray(row * 37, row * 37 + 37).map(Math.abs))),
    ).toEqual([127, 127, 127, 127]);
  });

  test('a row of zeros stays zero beside others', () => {
    const { values, scales } = quantizePerRow(Float32Array.of(0, 0, 1, -2), 2, 2);
    expect([...values]).toEqual([0, 0, 64, -127]);
    expect(scales[0]).toBe(0);
  });
});
