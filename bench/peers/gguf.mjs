// Writes GGUF files, version 3: a header of typed metadata, then tensors. Enough of the format for llama.cpp to load a
// Llama-family model and its LoRA adapters.
import { open } from 'node:fs/promises';

const ALIGNMENT = 32;
const TYPE = { uint32: 4, float32: 6, bool: 7, string: 8, array: 9 };
/** ggml's numbers of the tensor types, and bytes per block of elements. */
export const GGML = {
  F32: { id: 0, blockElements: 1, blockBytes: 4 },
  Q8_0: { id: 8, blockElements: 32, blockBytes: 34 },
};

/** Typed metadata values. */
export const meta = {
  uint32: (value) => ({ type: TYPE.uint32, bytes: uint32(value) }),
  float32: (value) => ({ type: TYPE.float32, bytes: float32(value) }),
  bool: (value) => ({ type: TYPE.bool, bytes: Buffer.from([value ? 1 : 0]) }),
  string: (value) => ({ type: TYPE.string, bytes: string(value) }),
  strings: (values) => array(TYPE.string, values.map(string)),
  float32s: (values) => array(TYPE.float32, values.map(float32)),
  int32s: (values) => array(5, values.map(uint32)),
};

function uint32(value) {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
}

function uint64(value) {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(value));
  return bytes;
}

function float32(value) {
  const bytes = Buffer.alloc(4);
  bytes.writeFloatLE(value);
  return bytes;
}

function string(value) {
  const text = Buffer.from(value, 'utf8');
  return Buffer.concat([uint64(text.length), text]);
}

function array(type, items) {
  return { type: TYPE.array, bytes: Buffer.concat([uint32(type), uint64(items.length), ...items]) };
}

const padding = (length) => (ALIGNMENT - (length % ALIGNMENT)) % ALIGNMENT;

/** Bytes of a tensor of a type. */
function byteLength({ type, dims }) {
  const { blockElements, blockBytes } = GGML[type];
  return (dims.reduce((product, size) => product * size, 1) / blockElements) * blockBytes;
}

/**
 * Writes a file.
 * @param {Record<string, { type: number, bytes: Buffer }>} metadata values of {@link meta} by key
 * @param {{ name: string, dims: number[], type: string, values: () => Float32Array | Promise<Float32Array> }[]} tensors
 *   `dims` in row-major order, the innermost last; the file states them the other way round
 */
export async function writeGguf(path, metadata, tensors) {
  const pairs = Object.entries({ 'general.alignment': meta.uint32(ALIGNMENT), ...metadata });
  const head = [Buffer.from('GGUF'), uint32(3), uint64(tensors.length), uint64(pairs.length)];
  for (const [key, { type, bytes }] of pairs) head.push(string(key), uint32(type), bytes);
  let offset = 0;
  for (const tensor of tensors) {
    head.push(string(tensor.name), uint32(tensor.dims.length), ...tensor.dims.toReversed().map(uint64));
    head.push(uint32(GGML[tensor.type].id), uint64(offset));
    const bytes = byteLength(tensor);
    offset += bytes + padding(bytes);
  }
  const header = Buffer.concat(head);
  const file = await open(path, 'w');
  try {
    await file.writeFile(Buffer.concat([header, Buffer.alloc(padding(header.length))]));
    for (const tensor of tensors) {
      const values = await tensor.values();
      const bytes =
        tensor.type === 'Q8_0'
          ? q8(values)
          : Buffer.from(values.buffer, values.byteOffset, values.byteLength);
      if (bytes.length !== byteLength(tensor)) throw new Error(`${tensor.name} has ${bytes.length} bytes`);
      await file.writeFile(Buffer.concat([bytes, Buffer.alloc(padding(bytes.length))]));
    }
  } finally {
    await file.close();
  }
}

/** Quantizes as ggml's `quantize_row_q8_0` does: 32 values share a scale in half precision. */
function q8(values) {
  const bytes = Buffer.alloc((values.length / 32) * 34);
  for (let block = 0; block * 32 < values.length; block++) {
    const slice = values.subarray(block * 32, block * 32 + 32);
    let largest = 0;
    for (const value of slice) largest = Math.max(largest, Math.abs(value));
    const scale = Math.fround(largest / 127);
    const inverse = scale === 0 ? 0 : 1 / scale;
    bytes.writeUInt16LE(half(scale), block * 34);
    for (let i = 0; i < 32; i++) bytes.writeInt8(Math.round(slice[i] * inverse), block * 34 + 2 + i);
  }
  return bytes;
}

const floatView = new Float32Array(1);
const bitsView = new Uint32Array(floatView.buffer);

/** The bits of a small positive number in half precision, rounded to the nearest. */
function half(value) {
  floatView[0] = value;
  const bits = bitsView[0];
  const exponent = (bits >>> 23) - 127 + 15;
  if (exponent <= 0) return Math.round(value * 2 ** 24);
  return (exponent << 10) + (((bits & 0x7fffff) + 0x1000) >>> 13);
}
