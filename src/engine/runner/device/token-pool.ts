import { invariant } from '../../../kernel/errors.ts';

/** Places are given to rows in blocks of this many tokens. */
export const BLOCK_TOKENS = 16;
/** The pool grows by doubling from this many blocks. */
const FIRST_BLOCKS = 64;

interface Row {
  readonly blocks: number[];
  used: number;
}

/**
 * Which places of the device's pool belong to which row. Block 0 is nobody's and holds zeros: new places are made from
 * it. Blocks of a closed row are wiped by the next run and only then given to others, so that nothing of a tenant stays
 * behind.
 */
export class TokenPool {
  readonly #rows = new Map<number, Row>();
  readonly #free: number[] = [];
  #dirty: { readonly block: number; readonly tokens: number }[] = [];
  #blocks = 1;
  #capacity = 0;
  #nextId = 1;

  /** Places that the device must hold for the rows as they are. */
  get capacity(): number {
    return this.#capacity * BLOCK_TOKENS;
  }

  open(): number {
    const id = this.#nextId++;
    this.#rows.set(id, { blocks: [], used: 0 });
    return id;
  }

  close(id: number): void {
    const { blocks, used } = this.#row(id);
    blocks.forEach((block, index) => {
      this.#dirty.push({ block, tokens: Math.min(BLOCK_TOKENS, used - index * BLOCK_TOKENS) });
    });
    this.#rows.delete(id);
  }

  used(id: number): number {
    return this.#row(id).used;
  }

  /** Makes room for `tokens` tokens of a row in all. */
  reserve(id: number, tokens: number): void {
    const row = this.#row(id);
    while (row.blocks.length * BLOCK_TOKENS < tokens) row.blocks.push(this.#free.pop() ?? this.#blocks++);
    let capacity = Math.max(this.#capacity, FIRST_BLOCKS);
    while (capacity < this.#blocks) capacity *= 2;
    this.#capacity = capacity;
  }

  /** Place of a row's token; room for it must have been reserved. */
  place(id: number, token: number): number {
    const block = this.#row(id).blocks[Math.floor(token / BLOCK_TOKENS)];
    invariant(block !== undefined, `token ${token} of row ${id} has a place`);
    return block * BLOCK_TOKENS + (token % BLOCK_TOKENS);
  }

  /** Notes that a row's tokens up to `used` are written. */
  written(id: number, used: number): void {
    this.#row(id).used = used;
  }

  /** Places that the next run has to fill with zeros. */
  dirtyPlaces(): readonly number[] {
    return this.#dirty.flatMap(({ block, tokens }) =>
      Array.from({ length: Math.max(0, tokens) }, (_, token) => block * BLOCK_TOKENS + token),
    );
  }

  /** Notes that all of {@link dirtyPlaces} are wiped. */
  wiped(): void {
    this.#free.push(...this.#dirty.map(({ block }) => block));
    this.#dirty = [];
  }

  #row(id: number): Row {
    const row = this.#rows.get(id);
    invariant(row !== undefined, `cache row ${id} is open`);
    return row;
  }
}
