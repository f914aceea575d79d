import type { ModelShape } from '../kernel/model.ts';

/**
 * Inverse frequencies of the rotary embedding, one per pair of dimensions, in float64.
 * The llama3 scaling is that of transformers' `_compute_llama3_parameters`: wavelengths beyond
 * `original / lowFreqFactor` are stretched by `factor`, those under `original / highFreqFactor` stay, and those
 * between are interpolated.
 */
export function inverseFrequencies(shape: ModelShape): Float64Array {
  const half = shape.headDim / 2;
  const frequencies = new Float64Array(half);
  for (let i = 0; i < half; i++) {
    const frequency = shape.ropeTheta ** ((-2 * i) / shape.headDim);
    frequencies[i] = shape.ropeScaling === null ? frequency : scaled(frequency, shape.ropeScaling);
  }
  return frequencies;
}

function scaled(frequency: number, scaling: NonNullable<ModelShape['ropeScaling']>): number {
  const wavelength = (2 * Math.PI) / frequency;
  const { factor, lowFreqFactor, highFreqFactor, originalMaxPositions } = scaling;
  if (wavelength > originalMaxPositions / lowFreqFactor) return frequency / factor;
  if (wavelength < originalMaxPositions / highFreqFactor) return frequency;
  const smooth = (originalMaxPositions / wavelength - lowFreqFactor) / (highFreqFactor - lowFreqFactor);
  return ((1 - smooth) * frequency) / factor + smooth * frequency;
}

/**
 * Cosines and sines for positions `from` to `to - 1`, row-major `[positions, headDim / 2]`, each times `headDim ** -0.25`.
 * Queries and keys both pass through the table, so their products come out times `headDim ** -0.5`, which is the
 * scale of attention, and the graph needs no other.
 */
export function rotaryTable(
  frequencies: Float64Array,
  from: number,
  to: number,
): { readonly cos: Float32Array; readonly sin: Float32Array } {
  const half = frequencies.length;
  const scale = (2 * half) ** -0.25;
  const cos = new Float32Array((to - from) * half);
  const sin = new Float32Array((to - from) * half);
  for (let position = from; position < to; position++) {
    for (let i = 0; i < half; i++) {
      const angle = position * (frequencies[i] ?? 0);
      const at = (position - from) * half + i;
      cos[at] = Math.cos(angle) * scale;
      sin[at] = Math.sin(angle) * scale;
    }
  }
  return { cos, sin };
}
