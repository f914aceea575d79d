/**
 * Distinct items in the order of a comparator that ties none of them. Finding is a binary search; inserting and
 * deleting move the rest of an array, which for tens of thousands of items takes microseconds and beats a tree.
 * An item's order must not change while it is in the list.
 */
export class SortedList<T> implements Iterable<T> {
  readonly #compare: (a: T, b: T) => number;
  readonly #items: T[] = [];

  constructor(compare: (a: T, b: T) => number) {
    this.#compare = compare;
  }

  get size(): number {
    return this.#items.length;
  }

  get first(): T | undefined {
    return this.#items[0];
  }

  [Symbol.iterator](): Iterator<T> {
    return this.#items[Symbol.iterator]();
  }

  has(item: T): boolean {
    return this.#items[this.#position(item)] === item;
  }

  /** Adds an item that is not in the list. */
  add(item: T): void {
    this.#items.splice(this.#position(item), 0, item);
  }

  /** Takes an item out; false if it was not in the list. */
  delete(item: T): boolean {
    const position = this.#position(item);
    if (this.#items[position] !== item) return false;
    if (position === 0) this.#items.shift();
    else this.#items.splice(position, 1);
    return true;
  }

  clear(): void {
    this.#items.length = 0;
  }

  /** Index of the first item that does not come before the given one. */
  #position(item: T): number {
    let low = 0;
    let high = this.#items.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      const at = this.#items[middle];
      if (at !== undefined && this.#compare(at, item) < 0) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
