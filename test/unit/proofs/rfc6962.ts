import { hash } from 'node:crypto';

const sha256 = (...parts: readonly Uint8Array[]): Buffer => hash('sha256', Buffer.concat(parts), 'buffer');

/** The largest power of two smaller than n. */
function split(n: number): number {
  let k = 1;
  while (k << 1 < n) k <<= 1;
  return k;
}

/**
 * RFC 6962, sections 2.1 to 2.1.2, word for word: recursive, on D[from:to] of a list of entries, and without anything of the
 * program. What was computed is remembered, which changes nothing but the time.
 */
export class Definition {
  readonly #entries: readonly Uint8Array[];
  readonly #known = new Map<string, Buffer>();

  constructor(entries: readonly Uint8Array[]) {
    this.#entries = entries;
  }

  /** MTH(D[from:to]). */
  mth(to: number, from = 0): Buffer {
    const key = `${from}:${to}`;
    const known = this.#known.get(key) ?? this.#hash(from, to);
    this.#known.set(key, known);
    return known;
  }

  #hash(from: number, to: number): Buffer {
    const n = to - from;
    if (n === 0) return sha256();
    if (n === 1) return sha256(Buffer.of(0), this.#entries[from] ?? Buffer.of());
    const k = split(n);
    return sha256(Buffer.of(1), this.mth(from + k, from), this.mth(to, from + k));
  }

  /** PATH(m, D[from:to]). */
  path(m: number, to: number, from = 0): readonly Buffer[] {
    const n = to - from;
    if (n === 1) return [];
    const k = split(n);
    return m < k
      ? [...this.path(m, from + k, from), this.mth(to, from + k)]
      : [...this.path(m - k, to, from + k), this.mth(from + k, from)];
  }

  /** PROOF(m, D[n]). */
  proof(m: number, n: number): readonly Buffer[] {
    return this.#subproof(m, 0, n, true);
  }

  #subproof(m: number, from: number, to: number, whole: boolean): readonly Buffer[] {
    const n = to - from;
    if (m === n) return whole ? [] : [this.mth(to, from)];
    const k = split(n);
    return m <= k
      ? [...this.#subproof(m, from, from + k, whole), this.mth(to, from + k)]
      : [...this.#subproof(m - k, from + k, to, false), this.mth(from + k, from)];
  }
}
