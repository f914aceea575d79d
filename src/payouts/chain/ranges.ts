import { PatchbayError } from '../../kernel/errors.ts';

/**
 * Reads a long row of blocks in ranges that the node answers: providers limit how many blocks, or how many events, one question
 * may be about. A range that is refused is halved, one that is answered may be twice as long the next time.
 */
export class BlockRanges {
  readonly #most: number;
  #span: number;

  constructor(options: { readonly blocksMax: number }) {
    this.#most = options.blocksMax;
    this.#span = options.blocksMax;
  }

  /**
   * Reads the next range, from a block to one at or before the last, and answers where it ends.
   * @throws what the node failed with: at once when it does not answer, otherwise when it refuses even a single block.
   */
  async next<T>(
    from: number,
    last: number,
    read: (from: number, to: number) => Promise<T>,
  ): Promise<{ readonly to: number; readonly value: T }> {
    for (;;) {
      const to = Math.min(from + this.#span - 1, last);
      try {
        const value = await read(from, to);
        this.#span = Math.min(this.#span * 2, this.#most);
        return { to, value };
      } catch (error) {
        const span = to - from + 1;
        this.#span = Math.max(1, Math.floor(span / 2));
        if (span === 1 || !isRefusal(error)) throw error;
      }
    }
  }
}

/** The node has answered, and did not want to. */
function isRefusal(error: unknown): boolean {
  return error instanceof PatchbayError && error.code === 'CHAIN_NODE_ERROR';
}
