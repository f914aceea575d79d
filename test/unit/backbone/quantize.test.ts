import { describe, expect, test } from 'vitest';
import { QUANT_BLOCK } from '../../../src/backbone/onnx/graph.ts';
import { blocksOf, quantizeRows } from '../../../src/backbone/quantize.ts';

/** Values as `MatMulNBits` reads them. */
function dequantize(quantized: ReturnType<typeof quantizeRows>, columns: number, bits: 8 | 4): number[] {
  const blocks = blocksOf(columns);
  const rows = quantized.scales.length / blocks;
  const out: number[] = [];
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      const block = row * blocks + Math.floor(column / QUANT_BLOCK);
      const within = column % QUANT_BLOCK;
      const scale = quantized.scales[block] ?? 0;
      if (bits === 8) out.push(((quantized.values[block * QUANT_BLOCK + within] ?? 0) - 128) * scale);
      else {
        const byte = quantized.values[block * (QUANT_BLOCK / 2) + (within >> 1)] ?? 0;
        out.push(((within % 2 === 0 ? byte & 15 : byte >> 4) - 8) * scale);
      }
    }
  }
  return out;
}

describe.each([8, 4] as const)('%i bits', (bits) => {
  test.each([32, 64, 160, 172])('every value of rows of %i is within one step of the original', (columns) => {
    const rows = 3;
    const weights = Float32Array.from(
      { length: rows * columns },
      (_, i) => Math.sin(i * 12.9898) * (1 + (i % 7)),
    );
    const quantized = quantizeRows(weights, rows, columns, bits);
    const restored = dequantize(quantized, columns, bits);
    restored.forEach((value, i) => {
      const block = Math.floor(i / columns) * blocksOf(columns) + Math.floor((i % columns) / QUANT_BLOCK);
      const stepSize = Math.abs(quantized.scales[block] ?? 0);
      expect(Math.abs(value - (weights[i] ?? 0))).toBeLessThanOrEqual(stepSize * 1.001);
    });
  });

  test('a block of zeros stays zero', () => {
    const quantized = quantizeRows(new Float32Array(40), 1, 40, bits);
    expect(dequantize(quantized, 40, bits).every((value) => value === 0)).toBe(true);
  });
});
