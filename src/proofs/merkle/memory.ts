import { HASH_BYTES, perfectRoot } from './hash.ts';
import type { NodeReader } from './prove.ts';
import type { Subtree } from './ranges.ts';

/** A small tree whose leaves are all at hand. */
export class LeafReader implements NodeReader {
  readonly #leaves: Buffer;

  constructor(leaves: readonly Uint8Array[]) {
    this.#leaves = Buffer.concat(leaves);
  }

  read(subtrees: readonly Subtree[]): Promise<readonly Uint8Array[]> {
    return Promise.resolve(
      subtrees.map(({ level, index }) => {
        const bytes = HASH_BYTES * 2 ** level;
        return perfectRoot(this.#leaves.subarray(index * bytes, (index + 1) * bytes));
      }),
    );
  }
}
