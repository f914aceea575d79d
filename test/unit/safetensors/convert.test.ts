import { describe, expect, it } from 'vitest';
import { allFinite, largestMagnitude, toFloat32 } from '../../../src/safetensors/convert.ts';

/** The value of a 16-bit float by its definition. */
function halfValue(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 0x1f;
  const fraction = bits & 0x3ff;
  if (exponent === 31) return fraction === 0 ? sign * Number.POSITIVE_INFINITY : Number.NaN;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

describe('toFloat32', () => {
  it('converts each of the 65,536 halves exactly', () => {
    const halves = Uint16Array.from({ length: 65_536 }, (_, bits) => bits);
    const out = toFloat32(new Uint8Array(halves.buffer), 'F16');
    for (let bits = 0; bits < 65_536; bits++) {
      if (!Object.is(out[bits], halfValue(bits))) expect([bits, out[bits]]).toEqual([bits, halfValue(bits)]);
    }
  });

  it('converts BF16 as the upper half of F32', () => {
    const wanted = Float32Array.of(1, -2.5, 0, -0, 3.389e38, Number.POSITIVE_INFINITY);
    const bits = new Uint32Array(wanted.buffer);
    for (let i = 0; i < bits.length; i++) bits[i] = ((bits[i] ?? 0) >>> 16) << 16;
    const halves = Uint16Array.from(bits, (word) => word >>> 16);
    expect(toFloat32(new Uint8Array(halves.buffer), 'BF16')).toEqual(wanted);
  });

  it('reads F32 from memory that is not aligned', () => {
    const values = Float32Array.of(1.5, -3.25);
    const shifted = new Uint8Array(9);
    shifted.set(new Uint8Array(values.buffer), 1);
    expect(toFloat32(shifted.subarray(1), 'F32')).toEqual(values);
  });

  it('refuses other types', () => {
    expect(() => toFloat32(new Uint8Array(8), 'F64')).toThrowError(
      expect.objectContaining({ code: 'SAFETENSORS_DTYPE' }),
    );
  });
});

describe('scans', () => {
  it('finds a single NaN or infinity anywhere', () => {
    for (const bad of [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY]) {
      for (const at of [0, 500, 999]) {
        const values = new Float32Array(1_000).fill(3.4e38);
        expect(allFinite(values)).toBe(true);
        values[at] = bad;
        expect(allFinite(values)).toBe(false);
      }
    }
  });

  it('tells zero from the smallest number', () => {
    expect(largestMagnitude(Float32Array.of(0, -0, 0))).toBe(0);
    expect(largestMagnitude(Float32Array.of(2, -3, 1))).toBe(3);
    expect(largestMagnitude(Float32Array.of(0, 1e-45))).toBeGreaterThan(0);
    for (const bad of [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY]) {
      expect(largestMagnitude(Float32Array.of(1, bad, 2))).toBeNaN();
    }
  });
});
