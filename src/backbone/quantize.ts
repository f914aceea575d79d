import { QUANT_BLOCK } from './onnx/graph.ts';

/** Rows of a quantized matrix as `MatMulNBits` reads them. */
export interface QuantizedRows {
  /** `[rows, blocks, QUANT_BLOCK * bits / 8]`, values offset by half the range (128, or 8 with the low nibble first). */
  readonly values: Uint8Array;
  /** `[rows, blocks]`. */
  readonly scales: Float32Array;
}

/** Number of blocks along an input dimension; the last one may be padded with zeros. */
export function blocksOf(columns: number): number {
  return Math.ceil(columns / QUANT_BLOCK);
}

/**
 * Quantizes rows symmetrically in blocks of {@link QUANT_BLOCK}, round to nearest. The value furthest from zero maps
 * to the end of the range that has one step more (-128 or -8), as llama.cpp's Q4_0 does, which uses every level.
 * @param weights row-major `[rows, columns]`
 */
export function quantizeRows(
  weights: Float32Array,
  rows: number,
  columns: number,
  bits: 8 | 4,
): QuantizedRows {
  const blocks = blocksOf(columns);
  const blockBytes = (QUANT_BLOCK * bits) / 8;
  const half = 2 ** (bits - 1);
  const values = new Uint8Array(rows * blocks * blockBytes).fill(bits === 8 ? half : half * 17);
  const scales = new Float32Array(rows * blocks);
  for (let row = 0; row < rows; row++) {
    for (let block = 0; block < blocks; block++) {
      const from = row * columns + block * QUANT_BLOCK;
      const length = Math.min(QUANT_BLOCK, columns - block * QUANT_BLOCK);
      let extreme = 0;
      for (let i = 0; i < length; i++) {
        const value = weights[from + i] ?? 0;
        if (Math.abs(value) > Math.abs(extreme)) extreme = value;
      }
      const scale = extreme / -half;
      scales[row * blocks + block] = scale;
      if (scale === 0) continue;
      const base = (row * blocks + block) * blockBytes;
      for (let i = 0; i < length; i++) {
        const level = Math.max(
          0,
          Math.min(2 * half - 1, Math.round((weights[from + i] ?? 0) / scale) + half),
        );
        if (bits === 8) values[base + i] = level;
        else {
          const at = base + (i >> 1);
          const old = values[at] ?? 0;
          values[at] = i % 2 === 0 ? (old & 0xf0) | level : (old & 0x0f) | (level << 4);
        }
      }
    }
  }
  return { values, scales };
}
