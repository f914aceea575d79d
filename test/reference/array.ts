/**
 * Bounds-checked element access. An index past the end would otherwise turn
 * into NaN and look like a numerical difference instead of an indexing mistake.
 */
export function at(values: ArrayLike<number>, index: number): number {
  const value = values[index];
  if (value === undefined) throw new RangeError(`index ${index} is outside 0..${values.length - 1}`);
  return value;
}

/** The same guarantee for arrays of objects. */
export function itemAt<T>(values: readonly T[], index: number): T {
  const value = values[index];
  if (value === undefined) throw new RangeError(`index ${index} is outside 0..${values.length - 1}`);
  return value;
}

/** Sum of products of all of `x` with as many elements of `values` from `start` on. */
export function dot(values: Float64Array, start: number, x: Float64Array): number {
  let sum = 0;
  for (let i = 0; i < x.length; i++) sum += at(values, start + i) * at(x, i);
  return sum;
}

/** y = matrix x, where the row-major matrix has `rows` rows as long as x. */
export function multiply(matrix: Float64Array, rows: number, x: Float64Array): Float64Array {
  const y = new Float64Array(rows);
  for (let row = 0; row < rows; row++) y[row] = dot(matrix, row * x.length, x);
  return y;
}

export function addScaled(target: Float64Array, source: Float64Array, factor: number): void {
  for (let i = 0; i < target.length; i++) target[i] = at(target, i) + factor * at(source, i);
}
