import { PatchbayError } from '../kernel/errors.ts';
import type { Checkpoint } from '../safetensors/checkpoint.ts';
import { allFinite, toFloat32 } from '../safetensors/convert.ts';
import { dtypeBytes } from '../safetensors/dtype.ts';
import { bytesOf, type DataFile, type DigestBuilder } from './data-file.ts';
import { QUANT_BLOCK, WEIGHTS, type WeightBits } from './onnx/stored.ts';
import { blocksOf, quantizeBlocks, quantizePerRow } from './quantize.ts';
import type { SourceTensor, StoredWeight } from './weights.ts';

/** Float32 bytes in memory at a time, about; the bound of an import's memory beyond the runtime itself. */
const CHUNK_BYTES = 8 * 1024 * 1024;

/**
 * Streams every weight from the checkpoint into the data file, quantized where `bits` asks for it, and into the digest
 * as float32.
 * @returns the number of parameters, shared ones once
 */
export async function writeWeights(
  checkpoint: Checkpoint,
  weights: readonly StoredWeight[],
  bits: WeightBits,
  data: DataFile,
  digest: DigestBuilder,
  onProgress?: (doneBytes: number, totalBytes: number) => void,
): Promise<number> {
  const sizeOf = (weight: StoredWeight): number => weight.dims.reduce((product, size) => product * size, 4);
  const totalBytes = weights.reduce((sum, weight) => sum + sizeOf(weight), 0);
  const seen = new Set<string>();
  let doneBytes = 0;
  let parameters = 0;
  for (const weight of weights) {
    const rows = floatRows(checkpoint, weight, (source, values) => {
      // A tied head is the embedding again; it counts and is hashed once.
      if (seen.has(source.name)) return;
      digest.bytes(bytesOf(values));
      parameters += values.length;
    });
    for (const { name } of weight.sources) if (!seen.has(name)) digest.text(name);
    if (bits === 32 || !weight.quantizable)
      await data.append(weight.name, 'float32', weight.dims, asBytes(rows));
    else if (bits === 8) await appendPerRow(weight, rows, data);
    else await appendBlocks(weight, rows, data);
    for (const { name } of weight.sources) seen.add(name);
    doneBytes += sizeOf(weight);
    onProgress?.(doneBytes, totalBytes);
  }
  return parameters;
}

/** Yields a weight's values in chunks of whole rows. */
async function* floatRows(
  checkpoint: Checkpoint,
  weight: StoredWeight,
  onChunk: (source: SourceTensor, values: Float32Array) => void,
): AsyncGenerator<Float32Array> {
  for (const source of weight.sources) {
    const info = checkpoint.tensors.get(source.name);
    if (info === undefined)
      throw new PatchbayError('BACKBONE_INVALID', `The tensor ${source.name} is missing.`);
    const rowElements = source.dims.slice(1).reduce((product, size) => product * size, 1);
    const rowBytes = rowElements * dtypeBytes(info.dtype);
    const rowsPerChunk = Math.max(1, Math.floor(CHUNK_BYTES / (rowElements * 4)));
    const rows = source.dims[0] ?? 0;
    for (let row = 0; row < rows; row += rowsPerChunk) {
      const count = Math.min(rowsPerChunk, rows - row);
      const bytes = await checkpoint.readRange(source.name, row * rowBytes, count * rowBytes);
      const values = toFloat32(bytes, info.dtype);
      if (!allFinite(values)) {
        throw new PatchbayError('BACKBONE_INVALID', `The tensor ${source.name} contains NaN or Inf.`, {
          field: source.name,
        });
      }
      onChunk(source, values);
      yield values;
    }
  }
}

async function* asBytes(chunks: AsyncIterable<Float32Array>): AsyncGenerator<Uint8Array> {
  for await (const chunk of chunks) yield bytesOf(chunk);
}

/** Stores a matrix as `MatMulIntegerToFloat` reads it: int8 `[in, out]` with a scale for each output. */
async function appendPerRow(
  weight: StoredWeight,
  rows: AsyncIterable<Float32Array>,
  data: DataFile,
): Promise<void> {
  const [total = 0, columns = 0] = weight.dims;
  const scales = new Float32Array(total);
  let row = 0;
  async function* values(): AsyncGenerator<Int8Array> {
    for await (const chunk of rows) {
      const quantized = quantizePerRow(chunk, chunk.length / columns, columns);
      scales.set(quantized.scales, row);
      row += quantized.scales.length;
      yield quantized.values;
    }
  }
  await data.appendTransposed(WEIGHTS.quantized(weight.name), [columns, total], values());
  await appendScales(weight, scales, data);
}

/** Stores a matrix as `MatMulNBits` reads it: blocks of 4 bits with a scale each. */
async function appendBlocks(
  weight: StoredWeight,
  rows: AsyncIterable<Float32Array>,
  data: DataFile,
): Promise<void> {
  const [total = 0, columns = 0] = weight.dims;
  const blocks = blocksOf(columns);
  // Scales are a sixteenth of the float weights at most; they wait in memory until the values are written.
  const scales = new Float32Array(total * blocks);
  let row = 0;
  async function* values(): AsyncGenerator<Uint8Array> {
    for await (const chunk of rows) {
      const count = chunk.length / columns;
      const quantized = quantizeBlocks(chunk, count, columns);
      scales.set(quantized.scales, row * blocks);
      row += count;
      yield quantized.values;
    }
  }
  const dims = [total, blocks, QUANT_BLOCK / 2];
  await data.append(WEIGHTS.quantized(weight.name), 'uint8', dims, values());
  await appendScales(weight, scales, data);
}

async function appendScales(weight: StoredWeight, scales: Float32Array, data: DataFile): Promise<void> {
  async function* bytes(): AsyncGenerator<Uint8Array> {
    yield bytesOf(scales);
  }
  await data.append(WEIGHTS.scales(weight.name), 'float32', [scales.length], bytes());
}
