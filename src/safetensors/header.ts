import { PatchbayError } from '../kernel/errors.ts';
import { type Dtype, dtypeBytes, isDtype } from './dtype.ts';
import {
  clip,
  isJsonArray,
  isJsonObject,
  type JsonObject,
  type JsonValue,
  parseStrictJson,
  StrictJsonError,
} from './json.ts';

/** Bounds on what a header may hold, checked before anything of its size is allocated. */
export interface SafetensorsLimits {
  readonly maxHeaderBytes: number;
  readonly maxTensors: number;
}

/** For checkpoints that an operator chose. */
export const BACKBONE_HEADER_LIMITS: SafetensorsLimits = { maxHeaderBytes: 100_000_000, maxTensors: 262_144 };
/** For files that tenants upload: 80 layers of seven projections take 200 KB. */
export const ADAPTER_HEADER_LIMITS: SafetensorsLimits = { maxHeaderBytes: 1_000_000, maxTensors: 16_384 };

/** Bytes of the little-endian length that precedes the header. */
export const LENGTH_PREFIX_BYTES = 8;
const MAX_DIMENSIONS = 16;
const MAX_NAME_CHARS = 1_024;

/** One tensor of a file. */
export interface TensorInfo {
  readonly name: string;
  readonly dtype: Dtype;
  readonly shape: readonly number[];
  /** Product of the shape. */
  readonly elements: number;
  /** Position in the file of the first byte. */
  readonly start: number;
  readonly bytes: number;
}

/** What a valid header says. */
export interface SafetensorsHeader {
  /** In the order of the data. */
  readonly tensors: ReadonlyMap<string, TensorInfo>;
  readonly metadata: ReadonlyMap<string, string>;
}

function headerError(message: string, meta: Record<string, string | number> = {}): PatchbayError {
  return new PatchbayError('SAFETENSORS_HEADER', `The safetensors header is malformed: ${message}.`, {
    meta,
  });
}

function layoutError(message: string, meta: Record<string, string | number> = {}): PatchbayError {
  return new PatchbayError('SAFETENSORS_LAYOUT', `The safetensors layout is invalid: ${message}.`, { meta });
}

/** Reads the header's length from the first eight bytes and bounds it by the limits and the file's size. */
export function parseHeaderLength(
  prefix: Uint8Array,
  { fileSize, limits }: { readonly fileSize: number; readonly limits: SafetensorsLimits },
): number {
  if (fileSize < LENGTH_PREFIX_BYTES || prefix.byteLength < LENGTH_PREFIX_BYTES) {
    throw headerError('the file is shorter than its length prefix');
  }
  const length = new DataView(prefix.buffer, prefix.byteOffset).getBigUint64(0, true);
  if (length > BigInt(limits.maxHeaderBytes)) {
    throw headerError(`its length ${length} exceeds ${limits.maxHeaderBytes} bytes`, {
      limitBytes: limits.maxHeaderBytes,
    });
  }
  if (Number(length) > fileSize - LENGTH_PREFIX_BYTES) throw headerError('it runs past the end of the file');
  return Number(length);
}

/**
 * Parses and checks a header (without its length prefix). Afterwards the tensors tile the data section exactly: no
 * overlap, no gap, no byte left over, every extent equal to its shape times its type's size.
 */
export function parseHeader(
  headerBytes: Uint8Array,
  { fileSize, limits }: { readonly fileSize: number; readonly limits: SafetensorsLimits },
): SafetensorsHeader {
  if (headerBytes.byteLength > limits.maxHeaderBytes) throw headerError('it is too long');
  const dataStart = LENGTH_PREFIX_BYTES + headerBytes.byteLength;
  // The format demands the brace as the very first byte; anything else is padding that another reader may skip.
  if (headerBytes[0] !== 0x7b) throw headerError('it does not begin with "{"');
  const root = parseRoot(headerBytes);
  let metadata: ReadonlyMap<string, string> = new Map();
  const infos: TensorInfo[] = [];
  for (const [name, value] of root) {
    if (name === '__metadata__') metadata = parseMetadata(value);
    else infos.push(parseTensor(name, value, dataStart));
    if (infos.length > limits.maxTensors)
      throw headerError(`it lists more than ${limits.maxTensors} tensors`);
  }
  return { metadata, tensors: checkTiling(infos, dataStart, fileSize) };
}

function parseRoot(headerBytes: Uint8Array): JsonObject {
  let root: JsonValue;
  try {
    root = parseStrictJson(headerBytes, { maxDepth: 3, integersOnly: true });
  } catch (error) {
    if (!(error instanceof StrictJsonError)) throw error;
    throw headerError(
      error.message,
      error.duplicateKey === undefined ? {} : { duplicateKey: error.duplicateKey, depth: error.depth },
    );
  }
  if (!isJsonObject(root)) throw headerError('it is not an object');
  return root;
}

function parseMetadata(value: JsonValue): ReadonlyMap<string, string> {
  if (!isJsonObject(value)) throw headerError('__metadata__ is not an object');
  const metadata = new Map<string, string>();
  for (const [key, text] of value) {
    if (typeof text !== 'string') throw headerError(`__metadata__ "${clip(key)}" is not a string`);
    metadata.set(key, text);
  }
  return metadata;
}

function parseTensor(name: string, value: JsonValue, dataStart: number): TensorInfo {
  const shown = clip(name);
  if (name.length === 0 || name.length > MAX_NAME_CHARS)
    throw headerError(`the name "${shown}" is empty or too long`);
  if (!isJsonObject(value)) throw headerError(`the entry of "${shown}" is not an object`);
  for (const key of value.keys()) {
    if (key !== 'dtype' && key !== 'shape' && key !== 'data_offsets') {
      throw headerError(`the entry of "${shown}" has the unknown key "${clip(key)}"`);
    }
  }
  const dtype = value.get('dtype');
  if (typeof dtype !== 'string') throw headerError(`"${shown}" has no dtype`);
  if (!isDtype(dtype)) {
    throw new PatchbayError(
      'SAFETENSORS_DTYPE',
      `The tensor "${shown}" has the unknown data type "${clip(dtype)}".`,
      {
        meta: { tensor: shown },
      },
    );
  }
  const shape = naturals(value.get('shape'));
  if (shape === null) throw headerError(`the shape of "${shown}" is not a list of natural numbers`);
  if (shape.length > MAX_DIMENSIONS)
    throw headerError(`"${shown}" has more than ${MAX_DIMENSIONS} dimensions`);
  const [begin, end, ...rest] = naturals(value.get('data_offsets')) ?? [];
  if (begin === undefined || end === undefined || rest.length > 0) {
    throw headerError(`the data_offsets of "${shown}" are not two natural numbers`);
  }
  if (end < begin) throw layoutError(`"${shown}" ends before it begins`, { tensor: shown });
  const elements = product(shape);
  const bytes = elements === null ? null : elements * dtypeBytes(dtype);
  if (elements === null || bytes === null || !Number.isSafeInteger(bytes)) {
    throw layoutError(`the size of "${shown}" overflows`, { tensor: shown });
  }
  if (bytes !== end - begin) {
    throw layoutError(`"${shown}" needs ${bytes} bytes by its shape and has ${end - begin}`, {
      tensor: shown,
    });
  }
  if (!Number.isSafeInteger(dataStart + end))
    throw layoutError(`"${shown}" lies too far out`, { tensor: shown });
  return { name, dtype, shape, elements, start: dataStart + begin, bytes };
}

function naturals(value: JsonValue | undefined): readonly number[] | null {
  if (!isJsonArray(value)) return null;
  const out: number[] = [];
  for (const item of value) {
    // Object.is tells -0 apart: JSON may say "-0", and no writer does.
    if (typeof item !== 'number' || !Number.isSafeInteger(item) || item < 0 || Object.is(item, -0))
      return null;
    out.push(item);
  }
  return out;
}

/** Product of the dimensions, or null when a partial product leaves the safe integers, even if a zero follows. */
function product(shape: readonly number[]): number | null {
  let out = 1;
  let nonZero = 1;
  for (const size of shape) {
    out *= size;
    nonZero *= Math.max(size, 1);
    if (!Number.isSafeInteger(nonZero)) return null;
  }
  return out;
}

function checkTiling(
  infos: readonly TensorInfo[],
  dataStart: number,
  fileSize: number,
): ReadonlyMap<string, TensorInfo> {
  // Empty tensors share a position with their neighbour and must come first there, or the chain would break.
  const sorted = [...infos].sort((x, y) => x.start - y.start || x.bytes - y.bytes);
  const tensors = new Map<string, TensorInfo>();
  let next = dataStart;
  for (const info of sorted) {
    const shown = clip(info.name);
    if (info.start < next) throw layoutError(`"${shown}" overlaps another tensor`, { tensor: shown });
    if (info.start > next)
      throw layoutError(`bytes before "${shown}" belong to no tensor`, { tensor: shown });
    next = info.start + info.bytes;
    if (next > fileSize) throw layoutError(`"${shown}" runs past the end of the file`, { tensor: shown });
    tensors.set(info.name, info);
  }
  if (next !== fileSize) throw layoutError('bytes at the end of the file belong to no tensor');
  return tensors;
}
