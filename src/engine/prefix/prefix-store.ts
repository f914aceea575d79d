import { invariant } from '../../kernel/errors.ts';
import type { AdapterUse, PrefixUse } from '../port.ts';
import type { KvSnapshots } from '../runner.ts';
import { type BlockKeys, PrefixIndex, type PrefixOwner } from './prefix-index.ts';

/** What a block takes besides its keys and values: its tokens as a key, and its places in the index. */
const BOOKKEEPING_BYTES = 1024;

export interface PrefixOptions {
  /** Bound on all that is kept; 0 keeps nothing. */
  readonly prefixBytes: number;
  /** Tokens of a block: prefixes are shared by whole blocks. */
  readonly prefixBlockTokens: number;
}

/** The beginning of a sequence that need not be computed. To be restored before anything else is kept. */
export interface PrefixHit {
  readonly tokens: number;
  readonly blocks: readonly Float32Array[];
}

/**
 * Who may share a prefix with whom: the same tenant, on the same backbone, with the same adapters at the same weights
 * in any order. Names play no part, so an adapter that is replaced under its name shares nothing with its predecessor.
 */
export function prefixOwner(
  tenantId: string,
  backboneDigest: string,
  uses: readonly AdapterUse[],
): PrefixOwner {
  const adapters = uses.map(({ digest, weight }) => [digest, weight] as const);
  adapters.sort(([a], [b]) => (a < b ? -1 : 1));
  return { tenantId, root: JSON.stringify([backboneDigest, adapters]) };
}

/** Keys and values of prompts that were read, in host memory, for later prompts that begin alike. */
export class PrefixStore {
  readonly #snapshots: KvSnapshots | undefined;
  readonly #index: PrefixIndex;
  readonly #blockTokens: number;
  readonly #blockBytes: number;
  readonly #budget: number;
  /** By slot of the index; made when first needed and reused from then on. */
  readonly #buffers: Float32Array[] = [];
  #hits = 0;
  #tokens = 0;

  /** @param snapshots the runner's; without them nothing is kept */
  constructor({ prefixBytes, prefixBlockTokens }: PrefixOptions, snapshots: KvSnapshots | undefined) {
    const floats = (snapshots?.floatsPerToken ?? 0) * prefixBlockTokens;
    this.#snapshots = snapshots;
    this.#blockTokens = prefixBlockTokens;
    this.#blockBytes = floats * Float32Array.BYTES_PER_ELEMENT + BOOKKEEPING_BYTES;
    this.#budget = snapshots === undefined ? 0 : prefixBytes;
    this.#index = new PrefixIndex(Math.floor(this.#budget / this.#blockBytes));
  }

  /** Tokens that a sequence would not have to compute if it started now; for predictions, so it counts as no use. */
  expected(owner: PrefixOwner, tokens: readonly number[]): number {
    return this.#index.peek(owner, this.#keys(tokens, tokens.length - 1)) * this.#blockTokens;
  }

  /** The longest beginning that is kept; it leaves out the last token, whose logits are wanted. */
  find(owner: PrefixOwner, tokens: readonly number[]): PrefixHit | null {
    const slots = this.#index.use(owner, this.#keys(tokens, tokens.length - 1));
    if (slots.length === 0) return null;
    return { tokens: slots.length * this.#blockTokens, blocks: slots.map((slot) => this.#buffer(slot)) };
  }

  /** Puts the found keys and values into an empty row. */
  restore(row: number, hit: PrefixHit): void {
    invariant(this.#snapshots !== undefined, 'only what was kept is restored');
    this.#snapshots.restore(row, hit.blocks);
    this.#hits += 1;
    this.#tokens += hit.tokens;
  }

  /** Keeps the whole blocks among the first `count` tokens of a sequence, which its row has computed. */
  keep(owner: PrefixOwner, tokens: readonly number[], count: number, row: number): void {
    this.#index.extend(owner, this.#keys(tokens, count), {
      fill: (slot, index) => this.#snapshots?.save(row, index * this.#blockTokens, this.#buffer(slot)),
      wipe: (slot) => this.#buffer(slot).fill(0),
    });
  }

  use(): PrefixUse {
    return {
      bytesUsed: this.#index.size * this.#blockBytes,
      bytesBudget: this.#budget,
      hits: this.#hits,
      tokens: this.#tokens,
    };
  }

  #buffer(slot: number): Float32Array {
    const floats = (this.#snapshots?.floatsPerToken ?? 0) * this.#blockTokens;
    const buffer = this.#buffers[slot] ?? new Float32Array(floats);
    this.#buffers[slot] = buffer;
    return buffer;
  }

  #keys(tokens: readonly number[], most: number): BlockKeys {
    const size = this.#blockTokens;
    return {
      count: Math.max(0, Math.floor(most / size)),
      key: (index) => {
        const ids = Uint32Array.from(tokens.slice(index * size, (index + 1) * size));
        return Buffer.from(ids.buffer).toString('latin1');
      },
    };
  }
}
