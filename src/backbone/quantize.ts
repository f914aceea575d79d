import { QUANT_BLOCK } from './onnx/stored.ts';

/** Rows of a matrix with one scale each. */
export interface ScaledRows {
  /** `[rows, columns]`, in -127 … 127. */
  readonly values: Int8Array;
  /** `[rows]`. */
  readonly scales: Float32Array;
}

/**
 * Quantizes rows to 8 bits symmetrically, round to nearest, each by its own largest absolute value: what an integer
 * matrix product needs, which can take a factor out of a whole row of outputs only.
 * @param weights row-major `[rows, columns]`
 */
export function quantizePerRow(weights: Float32Array, rows: number, columns: number): ScaledRows {
  const values = new Int8Array(rows * columns);
  const scales = new Float32Array(rows);
  for (let row = 0; row < rows; row++) {
    const from = row * columns;
    let largest = 0;
    for (let i = from; i < from + columns; i++) largest = Math.max(largest, Math.abs(weights[i] ?? 0));
    const scale = Math.fround(largest / 127);
    scales[row] = scale;
    if (scale === 0) continue;
    for (let i = from; i < from + columns; i++) values[i] = Math.round((weights[i] ?? 0) / scale);
  }
  return { values, scales };
}

/** Rows of a quantized matrix as `MatMulNBits` reads them. */
export interface QuantizedRows {
  /** `[rows, blocks, QUANT_BLOCK / 2]`, values offset by 8 with the low nibble first. */
  readonly values: Uint8Array;
  /** `[rows, blocks]`. */
  readonly scales: Float32Array;
}

/** Number of blocks along an input dimension; the last one may be padded with zeros. */
export function blocksOf(columns: number): number {
  return Math.ceil(columns / QUANT_BLOCK);
}

/**
 * Quantizes rows to 4 bits symmetrically in blocks of {@link QUANT_BLOCK}, round to nearest. The value furthest from
 * zero maps to -8, the end of the range that has one step more, as llama.cpp's Q4_0 does, which uses every level.
 * @param weights row-major `[rows, columns]`
 */
export function quantizeBlocks(weights: Float32Array, rows: number, columns: number): QuantizedRows {
  const blocks = blocksOf(columns);
  const blockBytes = QUANT_BLOCK / 2;
  const values = new Uint8Array(rows * blocks * blockBytes).fill(0x88);
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
      const scale = extreme / -8;
      scales[row * blocks + block] = scale;
      if (scale === 0) continue;
      const base = (row * blocks + block) * blockBytes;
      for (let i = 0; i < length; i++) {
        const level = Math.max(0, Math.min(15, Math.round((weights[from + i] ?? 0) / scale) + 8));
        const at = base + (i >> 1);
        const old = values[at] ?? 0;
        values[at] = i % 2 === 0 ? (old & 0xf0) | level : (old & 0x0f) | (level << 4);
      }
    }
  }
  return { values, scales };
}
