import { invariant } from '../../../kernel/errors.ts';
import type { PackedAdapter } from '../../runner.ts';

/** The place of the bank whose matrices are all zero: what a token without further pages reads. */
export const ZERO_SLOT = 0;
/** The bank grows by doubling from this many pages. */
const FIRST_PAGES = 4;

/** A page that must be written to the device. */
export interface PageWrite {
  readonly slot: number;
  readonly data: Float32Array;
}

/** How the bank on the device has to change before a step. */
export interface BankChange {
  /** Pages that the bank holds afterwards, the zero slot included. */
  readonly capacity: number;
  readonly writes: readonly PageWrite[];
}

interface Held {
  readonly slot: number;
  readonly digest: string;
}

/** Which adapter pages are on the device, and where. The page that was used longest ago makes room. */
export class PageSlots {
  readonly #maxPages: number;
  /** By adapter and page, least recently used first. */
  readonly #held = new Map<string, Held>();
  readonly #free: number[] = [];
  #capacity = 1;
  #generation = 0;

  /** @param maxPages most pages that may be active at once; the zero slot comes on top */
  constructor(maxPages: number) {
    this.#maxPages = maxPages;
  }

  /** Changes whenever a page comes or goes. */
  get generation(): number {
    return this.#generation;
  }

  slot(digest: string, page: number): number {
    const held = this.#held.get(key(digest, page));
    invariant(held !== undefined, `page ${page} of ${digest} is in the bank`);
    return held.slot;
  }

  /** How many pages of each adapter are on the device, by digest. */
  heldPages(): ReadonlyMap<string, number> {
    const held = new Map<string, number>();
    for (const { digest } of this.#held.values()) held.set(digest, (held.get(digest) ?? 0) + 1);
    return held;
  }

  /** Gives every page of these adapters a slot; what is not on the device yet is in the writes. */
  activate(adapters: readonly PackedAdapter[]): BankChange {
    const needed = adapters.flatMap((adapter) =>
      adapter.pages.map((data, page) => ({ id: key(adapter.digest, page), digest: adapter.digest, data })),
    );
    invariant(needed.length <= this.#maxPages, 'a step needs no more pages than the bank holds');
    const missing = needed.filter(({ id, digest }) => {
      const held = this.#held.get(id);
      if (held === undefined) return true;
      // Used now, so last in line to make room.
      this.#held.delete(id);
      this.#held.set(id, { slot: held.slot, digest });
      return false;
    });
    const keep = new Set(needed.map(({ id }) => id));
    if (missing.length > 0) this.#generation += 1;
    const writes = missing.map(({ id, digest, data }) => {
      const slot = this.#take(keep);
      this.#held.set(id, { slot, digest });
      return { slot, data };
    });
    return { capacity: this.#capacity, writes };
  }

  /** Forgets pages whose write failed. */
  forget(writes: readonly PageWrite[]): void {
    this.#generation += 1;
    const slots = new Set(writes.map(({ slot }) => slot));
    for (const [id, { slot }] of this.#held) {
      if (slots.has(slot)) this.#held.delete(id);
    }
    this.#free.push(...slots);
  }

  #take(keep: ReadonlySet<string>): number {
    const free = this.#free.pop();
    if (free !== undefined) return free;
    if (this.#capacity <= this.#maxPages) {
      const grown = Math.min(this.#maxPages + 1, Math.max(FIRST_PAGES + 1, 2 * this.#capacity));
      for (let slot = grown - 1; slot > this.#capacity; slot--) this.#free.push(slot);
      const first = this.#capacity;
      this.#capacity = grown;
      return first;
    }
    const [id, held] = [...this.#held].find(([candidate]) => !keep.has(candidate)) ?? [];
    invariant(id !== undefined && held !== undefined, 'some page is not needed by this step');
    this.#held.delete(id);
    return held.slot;
  }
}

function key(digest: string, page: number): string {
  return `${digest}/${page}`;
}
