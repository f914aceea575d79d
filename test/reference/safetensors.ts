import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { isJsonObject, numberArray, parseJsonObject, readJsonObject, stringMember } from './json.ts';

export interface Tensor {
  readonly dtype: string;
  readonly shape: readonly number[];
  /** Row-major values, widened exactly: every F32, F16 and BF16 value is a float64 value. */
  readonly data: Float64Array;
}

/** Value of an IEEE 754 binary16 bit pattern. */
export function halfToNumber(bits: number): number {
  const sign = (bits & 0x8000) === 0 ? 1 : -1;
  const exponent = (bits >> 10) & 0x1f;
  const fraction = bits & 0x3ff;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 0x1f) return fraction === 0 ? sign * Infinity : NaN;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

function decode(dtype: string, bytes: DataView, count: number): Float64Array {
  const out = new Float64Array(count);
  if (dtype === 'F32') {
    for (let i = 0; i < count; i++) out[i] = bytes.getFloat32(4 * i, true);
    return out;
  }
  if (dtype === 'F16') {
    for (let i = 0; i < count; i++) out[i] = halfToNumber(bytes.getUint16(2 * i, true));
    return out;
  }
  if (dtype === 'BF16') {
    // A bfloat16 is the upper half of a float32, so padding it with zero bits is exact.
    const scratch = new DataView(new ArrayBuffer(4));
    for (let i = 0; i < count; i++) {
      scratch.setUint32(0, bytes.getUint16(2 * i, true) * 0x10000, true);
      out[i] = scratch.getFloat32(0, true);
    }
    return out;
  }
  throw new Error(`unsupported dtype ${dtype}`);
}

/**
 * Reads one file and trusts it: the reference only ever sees fixtures this
 * repository wrote, and rejecting hostile files is the engine's business.
 */
export function readSafetensors(path: string): Map<string, Tensor> {
  const file = readFileSync(path);
  const headerLength = Number(file.readBigUInt64LE(0));
  const header = parseJsonObject(file.toString('utf8', 8, 8 + headerLength), path);
  const dataStart = file.byteOffset + 8 + headerLength;
  const tensors = new Map<string, Tensor>();
  for (const [name, entry] of Object.entries(header)) {
    if (name === '__metadata__') continue;
    if (!isJsonObject(entry)) throw new Error(`${path}: ${name} has no description`);
    const shape = numberArray(entry.shape, `${name}.shape`);
    const [begin, end] = numberArray(entry.data_offsets, `${name}.data_offsets`);
    if (begin === undefined || end === undefined) throw new Error(`${path}: ${name} has no offsets`);
    const dtype = stringMember(entry, 'dtype');
    const count = shape.reduce((product, size) => product * size, 1);
    const bytes = new DataView(file.buffer, dataStart + begin, end - begin);
    tensors.set(name, { dtype, shape, data: decode(dtype, bytes, count) });
  }
  return tensors;
}

/** All tensors of a checkpoint folder, from its single file or from the shards its index names. */
export function readCheckpoint(folder: string): Map<string, Tensor> {
  const index = join(folder, 'model.safetensors.index.json');
  if (!existsSync(index)) return readSafetensors(join(folder, 'model.safetensors'));
  const weightMap = readJsonObject(index).weight_map;
  if (!isJsonObject(weightMap)) throw new Error(`${index}: no weight_map`);
  const shards = new Map<string, Map<string, Tensor>>();
  const tensors = new Map<string, Tensor>();
  for (const name of Object.keys(weightMap)) {
    const file = stringMember(weightMap, name);
    let shard = shards.get(file);
    if (shard === undefined) {
      shard = readSafetensors(join(folder, file));
      shards.set(file, shard);
    }
    const tensor = shard.get(name);
    if (tensor === undefined) throw new Error(`${file} does not contain ${name}`);
    tensors.set(name, tensor);
  }
  return tensors;
}
