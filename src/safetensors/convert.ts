import { PatchbayError } from '../kernel/errors.ts';
import { type Dtype, dtypeBytes, isFloatDtype } from './dtype.ts';

/**
 * Little-endian float bytes as 32-bit floats, exactly. Memory that is already F32 and aligned is viewed, not copied,
 * so the result may share memory with `bytes`. (Node runs on little-endian machines only, as does the runtime.)
 */
export function toFloat32(bytes: Uint8Array, dtype: Dtype): Float32Array<ArrayBufferLike> {
  if (!isFloatDtype(dtype)) {
    throw new PatchbayError('SAFETENSORS_DTYPE', `The data type ${dtype} is not one of F32, F16 and BF16.`);
  }
  const elements = Math.floor(bytes.byteLength / dtypeBytes(dtype));
  const aligned = bytes.byteOffset % dtypeBytes(dtype) === 0 ? bytes : bytes.slice();
  if (dtype === 'F32') return new Float32Array(aligned.buffer, aligned.byteOffset, elements);
  const halves = new Uint16Array(aligned.buffer, aligned.byteOffset, elements);
  const bits = new Uint32Array(elements);
  if (dtype === 'BF16') {
    for (let i = 0; i < elements; i++) bits[i] = (halves[i] ?? 0) << 16;
  } else {
    const table = f16Table();
    for (let i = 0; i < elements; i++) bits[i] = table[halves[i] ?? 0] ?? 0;
  }
  return new Float32Array(bits.buffer);
}

/** Whether no value is NaN or infinite. */
export function allFinite(values: Float32Array): boolean {
  // x - x is 0 for finite x and NaN otherwise, and NaN survives the sum: one branch for the whole array.
  let sum = 0;
  for (let i = 0; i < values.length; i++) {
    const x = values[i] ?? 0;
    sum += x - x;
  }
  return sum === 0;
}

/** The largest absolute value, in one pass; NaN when some value is NaN or infinite. */
export function largestMagnitude(values: Float32Array): number {
  let sum = 0;
  let largest = 0;
  for (let i = 0; i < values.length; i++) {
    const x = values[i] ?? 0;
    sum += x - x;
    const magnitude = x < 0 ? -x : x;
    if (magnitude > largest) largest = magnitude;
  }
  return sum === 0 ? largest : Number.NaN;
}

let table: Uint32Array | undefined;

/** The 32-bit pattern of each 16-bit float (256 KB), made on first use. */
function f16Table(): Uint32Array {
  if (table === undefined) {
    table = new Uint32Array(65_536);
    for (let half = 0; half < 65_536; half++) table[half] = f16Bits(half);
  }
  return table;
}

function f16Bits(half: number): number {
  const sign = (half & 0x8000) << 16;
  const exponent = (half >> 10) & 0x1f;
  const fraction = half & 0x3ff;
  if (exponent === 0x1f) return (sign | 0x7f80_0000 | (fraction << 13)) >>> 0;
  if (exponent !== 0) return (sign | ((exponent + 112) << 23) | (fraction << 13)) >>> 0;
  if (fraction === 0) return sign >>> 0;
  // A subnormal half is a normal float: shift the fraction up until its leading bit becomes the implicit one.
  const shift = Math.clz32(fraction) - 21;
  return (sign | ((113 - shift) << 23) | (((fraction << shift) & 0x3ff) << 13)) >>> 0;
}
