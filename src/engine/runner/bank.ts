import { invariant } from '../../kernel/errors.ts';
import { type BankTensor, pageLayout } from '../../kernel/graph.ts';
import type { ModelShape } from '../../kernel/model.ts';
import type { PackedAdapter } from '../runner.ts';

/** The slot whose matrices are all zero: what a token reads where it has fewer pages than its neighbours. */
export const ZERO_SLOT = 0;

/** Slots grow by doubling from this many, so an idle engine does not hold the memory of a full bank. */
const FIRST_SLOTS = 4;

interface Slot {
  readonly digest: string;
  readonly page: number;
}

/**
 * The active bank: adapter pages side by side, one array per graph input, so that a contiguous range of slots is a
 * zero-copy tensor `[G, …]`. The graph reads every page of the range, so the bank keeps the pages that a step needs
 * next to each other.
 */
export class AdapterBank {
  readonly tensors: readonly BankTensor[];
  readonly #maxPages: number;
  readonly #slots: (Slot | null)[] = [null];
  readonly #slotOf = new Map<string, number>();
  readonly #arrays: Float32Array[];
  #capacity = 0;
  #generation = 0;

  /** @param maxPages most pages that may be active at once; the zero slot comes on top */
  constructor(shape: ModelShape, pageRank: number, maxPages: number) {
    this.tensors = pageLayout(shape, pageRank).tensors;
    this.#maxPages = maxPages;
    this.#arrays = this.tensors.map(() => new Float32Array(0));
    this.#grow(1 + Math.min(FIRST_SLOTS, maxPages));
  }

  /** Changes whenever a page or an array does, so that what was derived from them can be kept until then. */
  get generation(): number {
    return this.#generation;
  }

  /** The array behind a bank tensor; slot `s` starts at `s * rows * columns`. */
  array(index: number): Float32Array {
    const array = this.#arrays[index];
    invariant(array !== undefined, 'bank tensor exists');
    return array;
  }

  /** Slot of an adapter's page; it must have been made resident by {@link AdapterBank.activate}. */
  slot(digest: string, page: number): number {
    const slot = this.#slotOf.get(key(digest, page));
    invariant(slot !== undefined, `page ${page} of ${digest} is in the bank`);
    return slot;
  }

  /**
   * Makes all pages of these adapters resident, in slots `1 … n` when they are scattered: holes cost a step as much as
   * pages in use, since the graph reads the whole range. Pages of other adapters stay where they are not in the way.
   */
  activate(adapters: readonly PackedAdapter[]): void {
    const needed = adapters.flatMap((adapter) =>
      adapter.pages.map((data, page) => ({ adapter, page, data })),
    );
    invariant(needed.length <= this.#maxPages, 'a step needs no more pages than the bank holds');
    if (needed.length + 1 > this.#capacity) this.#grow(needed.length + 1);
    const keys = new Set(needed.map(({ adapter, page }) => key(adapter.digest, page)));
    // A slot beyond the compact range is kept only while the range stays dense enough.
    const limit = needed.length + Math.floor(needed.length / 4);
    const free = this.#freeSlots(keys, needed.length);
    for (const { adapter, page, data } of needed) {
      const current = this.#slotOf.get(key(adapter.digest, page));
      if (current !== undefined && current <= limit) continue;
      const target = free.shift();
      invariant(target !== undefined, 'the compact range has a free slot for every missing page');
      this.#load(target, { digest: adapter.digest, page }, data);
    }
  }

  /** How many pages of each adapter are in the bank, by digest. */
  heldPages(): ReadonlyMap<string, number> {
    const held = new Map<string, number>();
    for (const slot of this.#slots) {
      if (slot != null) held.set(slot.digest, (held.get(slot.digest) ?? 0) + 1);
    }
    return held;
  }

  /** Slots `1 … needed` whose page this step does not need, lowest first. */
  #freeSlots(needed: ReadonlySet<string>, count: number): number[] {
    const free: number[] = [];
    for (let slot = 1; slot < this.#capacity && free.length < count; slot++) {
      const held = this.#slots[slot] ?? null;
      if (held === null || !needed.has(key(held.digest, held.page))) free.push(slot);
    }
    return free;
  }

  #load(slot: number, page: Slot, data: Float32Array): void {
    this.#generation += 1;
    const evicted = this.#slots[slot] ?? null;
    if (evicted !== null) this.#slotOf.delete(key(evicted.digest, evicted.page));
    const before = this.#slotOf.get(key(page.digest, page.page));
    if (before !== undefined) this.#slots[before] = null;
    this.tensors.forEach((tensor, index) => {
      const size = tensor.rows * tensor.columns;
      this.array(index).set(data.subarray(tensor.offset, tensor.offset + size), slot * size);
    });
    this.#slots[slot] = page;
    this.#slotOf.set(key(page.digest, page.page), slot);
  }

  #grow(atLeast: number): void {
    this.#generation += 1;
    const capacity = Math.min(this.#maxPages + 1, Math.max(atLeast, this.#capacity * 2));
    this.tensors.forEach((tensor, index) => {
      const grown = new Float32Array(capacity * tensor.rows * tensor.columns);
      grown.set(this.array(index));
      this.#arrays[index] = grown;
    });
    this.#capacity = capacity;
  }
}

function key(digest: string, page: number): string {
  return `${digest}/${page}`;
}
