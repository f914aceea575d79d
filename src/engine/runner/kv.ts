import { invariant } from '../../kernel/errors.ts';
import type { ModelShape } from '../../kernel/model.ts';

/** Capacities grow by this factor: attention reads a row's whole capacity, and a run serves a few classes at once. */
const CLASS_FACTOR = 2;
const FIRST_CAPACITY = 128;
/** Rows are added to a class this many at a time, or fewer when that would exceed {@link GROW_BYTES_MAX}. */
const GROW_ROWS = 4;
/** Most bytes by which a class grows at once: what it may hold beyond the rows that are booked, twice at most. */
const GROW_BYTES_MAX = 32 * 1024 * 1024;

/** Where a row's keys and values are. */
export interface RowPlace {
  readonly kvClass: KvClass;
  readonly slot: number;
}

interface Row {
  kvClass: KvClass;
  slot: number;
  used: number;
}

/** Rows of one capacity, packed without holes: slots `0 … rows - 1` are all in use. */
export class KvClass {
  readonly capacity: number;
  /** Row ids by slot. */
  readonly slots: number[] = [];
  /** Keys and values by turns, layer by layer: `[rows, kvHeads, 1, capacity, headDim]`. */
  readonly arrays: Float32Array[];
  /** Elements of one row in one array. */
  readonly stride: number;
  /** Rows by which the class grows. */
  readonly #quantum: number;
  #allocated = 0;
  #generation = 0;

  constructor(shape: ModelShape, capacity: number) {
    this.capacity = capacity;
    this.stride = shape.kvHeads * capacity * shape.headDim;
    this.arrays = Array.from({ length: 2 * shape.layers }, () => new Float32Array(0));
    this.#quantum = Math.max(1, Math.min(GROW_ROWS, Math.floor(GROW_BYTES_MAX / this.rowBytes)));
  }

  /** Bytes of one row over all layers. */
  get rowBytes(): number {
    return this.arrays.length * this.stride * Float32Array.BYTES_PER_ELEMENT;
  }

  /** Changes whenever rows or arrays do, so that what was derived from them can be kept until then. */
  get generation(): number {
    return this.#generation;
  }

  append(id: number): number {
    this.#generation += 1;
    const slot = this.slots.push(id) - 1;
    if (slot >= this.#allocated) this.#resize(slot + this.#quantum);
    return slot;
  }

  /** Takes the last row out and gives memory back that a burst has left. */
  pop(): void {
    this.#generation += 1;
    this.slots.pop();
    const rows = this.slots.length;
    if (rows === 0) this.#resize(0);
    else if (rows <= this.#allocated - 2 * this.#quantum) this.#resize(rows + this.#quantum);
  }

  /** Array by array, so that old and new stand side by side for one of them only. */
  #resize(rows: number): void {
    this.arrays.forEach((array, index) => {
      const resized = new Float32Array(rows * this.stride);
      resized.set(array.subarray(0, Math.min(array.length, resized.length)));
      this.arrays[index] = resized;
    });
    this.#allocated = rows;
  }
}

/** All cache rows of a runner, in capacity classes; a row moves up when it outgrows its class. */
export class KvCache {
  readonly #shape: ModelShape;
  readonly #classes: readonly KvClass[];
  readonly #rows = new Map<number, Row>();
  #nextId = 1;

  constructor(shape: ModelShape, maxContext: number) {
    this.#shape = shape;
    this.#classes = capacities(maxContext).map((capacity) => new KvClass(shape, capacity));
  }

  /** Bytes of a row that may grow to this many tokens. */
  bytes(tokens: number): number {
    return this.#classFor(tokens).rowBytes;
  }

  open(): number {
    const id = this.#nextId++;
    const kvClass = this.#classFor(1);
    this.#rows.set(id, { kvClass, slot: kvClass.append(id), used: 0 });
    return id;
  }

  close(id: number): void {
    const row = this.#row(id);
    this.#remove(row);
    this.#rows.delete(id);
  }

  /** Makes room for `tokens` tokens in all and says where the row is now. Places are valid until the next change. */
  reserve(id: number, tokens: number): void {
    const row = this.#row(id);
    const target = this.#classFor(tokens);
    if (target.capacity <= row.kvClass.capacity) return;
    const slot = target.append(id);
    this.#copy(row, target, slot);
    this.#remove(row);
    row.kvClass = target;
    row.slot = slot;
  }

  place(id: number): RowPlace {
    return this.#row(id);
  }

  /**
   * Writes new keys and values behind those that a row has.
   * @param block `[2 * layers * rows, kvHeads, width, headDim]`, as the graph returns it
   * @param lane which of the block's `rows` this row is, and how many of its `width` tokens count
   */
  write(
    id: number,
    block: Float32Array,
    lane: { readonly index: number; readonly rows: number; readonly width: number; readonly tokens: number },
  ): void {
    const row = this.#row(id);
    const { kvHeads, headDim } = this.#shape;
    const { capacity, stride, arrays } = row.kvClass;
    invariant(row.used + lane.tokens <= capacity, 'a row has room for its new tokens');
    arrays.forEach((array, kind) => {
      for (let head = 0; head < kvHeads; head++) {
        const from = ((kind * lane.rows + lane.index) * kvHeads + head) * lane.width * headDim;
        const to = row.slot * stride + (head * capacity + row.used) * headDim;
        copyFloats(block, from, array, to, lane.tokens * headDim);
      }
    });
    row.used += lane.tokens;
  }

  /** Numbers that the keys and values of one token take. */
  get floatsPerToken(): number {
    const { layers, kvHeads, headDim } = this.#shape;
    return 2 * layers * kvHeads * headDim;
  }

  /** Copies tokens of a row, array by array and head by head, until `into` is full. */
  save(id: number, fromToken: number, into: Float32Array): void {
    const row = this.#row(id);
    const tokens = into.length / this.floatsPerToken;
    invariant(fromToken + tokens <= row.used, 'only computed tokens are saved');
    this.#pieces(row, fromToken, tokens, (array, from, at, size) => {
      into.set(array.subarray(from, from + size), at);
    });
  }

  /** Appends saved blocks to an empty row. */
  restore(id: number, blocks: readonly Float32Array[]): void {
    const row = this.#row(id);
    invariant(row.used === 0, 'only an empty row begins with saved tokens');
    const all = blocks.reduce((sum, block) => sum + block.length, 0) / this.floatsPerToken;
    // A token follows in any case: room for it now saves a move at the edge of a capacity class.
    this.reserve(id, all + 1);
    for (const block of blocks) {
      const tokens = block.length / this.floatsPerToken;
      this.#pieces(row, row.used, tokens, (array, from, at, size) => {
        array.set(block.subarray(at, at + size), from);
      });
      row.used += tokens;
    }
  }

  /** Visits what belongs to some tokens of a row: `size` numbers at `from` in an array, at `at` in a saved block. */
  #pieces(
    { kvClass, slot }: Row,
    fromToken: number,
    tokens: number,
    visit: (array: Float32Array, from: number, at: number, size: number) => void,
  ): void {
    const { kvHeads, headDim } = this.#shape;
    const size = tokens * headDim;
    kvClass.arrays.forEach((array, kind) => {
      for (let head = 0; head < kvHeads; head++) {
        const from = slot * kvClass.stride + (head * kvClass.capacity + fromToken) * headDim;
        visit(array, from, (kind * kvHeads + head) * size, size);
      }
    });
  }

  used(id: number): number {
    return this.#row(id).used;
  }

  /** Fills the hole with the class's last row and wipes what that one left, so nothing of a tenant stays behind. */
  #remove(row: Row): void {
    const { kvClass, slot } = row;
    const lastSlot = kvClass.slots.length - 1;
    const lastId = kvClass.slots[lastSlot];
    invariant(lastId !== undefined, 'a class with a row has a last row');
    let wiped = row.used;
    if (lastSlot !== slot) {
      const last = this.#row(lastId);
      this.#wipe(kvClass, slot, row.used);
      this.#copy(last, kvClass, slot);
      wiped = last.used;
      last.slot = slot;
      kvClass.slots[slot] = lastId;
    }
    this.#wipe(kvClass, lastSlot, wiped);
    kvClass.pop();
  }

  #copy(row: Row, target: KvClass, slot: number): void {
    const { kvHeads, headDim } = this.#shape;
    const source = row.kvClass;
    target.arrays.forEach((array, index) => {
      const from = source.arrays[index];
      invariant(from !== undefined, 'classes have the same arrays');
      for (let head = 0; head < kvHeads; head++) {
        const start = row.slot * source.stride + head * source.capacity * headDim;
        const view = from.subarray(start, start + row.used * headDim);
        array.set(view, slot * target.stride + head * target.capacity * headDim);
      }
    });
  }

  #wipe(kvClass: KvClass, slot: number, used: number): void {
    const { kvHeads, headDim } = this.#shape;
    for (const array of kvClass.arrays) {
      for (let head = 0; head < kvHeads; head++) {
        const start = slot * kvClass.stride + head * kvClass.capacity * headDim;
        array.fill(0, start, start + used * headDim);
      }
    }
  }

  #classFor(tokens: number): KvClass {
    const kvClass = this.#classes.find((candidate) => candidate.capacity >= tokens);
    invariant(kvClass !== undefined, `${tokens} tokens fit the largest capacity class`);
    return kvClass;
  }

  #row(id: number): Row {
    const row = this.#rows.get(id);
    invariant(row !== undefined, `cache row ${id} is open`);
    return row;
  }
}

/** One token's vector is copied element by element: making a view of it would take longer than the copy. */
function copyFloats(
  source: Float32Array,
  from: number,
  target: Float32Array,
  to: number,
  count: number,
): void {
  if (count > 256) target.set(source.subarray(from, from + count), to);
  else for (let i = 0; i < count; i++) target[to + i] = source[from + i] ?? 0;
}

/** Capacity classes up to a context length; the last is the context itself. */
function capacities(maxContext: number): readonly number[] {
  const classes: number[] = [];
  for (let capacity = FIRST_CAPACITY; capacity < maxContext; capacity *= CLASS_FACTOR) classes.push(capacity);
  return [...classes, maxContext];
}
