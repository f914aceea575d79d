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
