/**
 * The `k` largest values' indices, largest first, equal values by index. A bounded heap of the best so far: one
 * pass over the values and O(log k) only where a value enters, so a vocabulary is never sorted.
 */
export function largest(values: Float32Array, k: number): number[] {
  const size = Math.min(k, values.length);
  if (size <= 0) return [];
  const heap = new Int32Array(size);
  /** Whether index `a` ranks below index `b`. */
  const below = (a: number, b: number): boolean => {
    const x = values[a] ?? 0;
    const y = values[b] ?? 0;
    return x < y || (x === y && a > b);
  };
  const sink = (from: number, end: number): void => {
    let parent = from;
    const moving = heap[parent] ?? 0;
    for (;;) {
      let child = 2 * parent + 1;
      if (child >= end) break;
      if (child + 1 < end && below(heap[child + 1] ?? 0, heap[child] ?? 0)) child++;
      const candidate = heap[child] ?? 0;
      if (!below(candidate, moving)) break;
      heap[parent] = candidate;
      parent = child;
    }
    heap[parent] = moving;
  };
  for (let i = 0; i < size; i++) heap[i] = i;
  for (let i = (size >> 1) - 1; i >= 0; i--) sink(i, size);
  // Indices rise, so a later equal value ranks below the heap's root and only a larger one enters.
  let root = values[heap[0] ?? 0] ?? 0;
  for (let i = size; i < values.length; i++) {
    if ((values[i] ?? 0) <= root) continue;
    heap[0] = i;
    sink(0, size);
    root = values[heap[0] ?? 0] ?? 0;
  }
  return Array.from(heap).sort((a, b) => (below(a, b) ? 1 : -1));
}
