import { leafHash, nodeHash } from '../../../src/proofs/merkle/hash.ts';
import type { NodeReader } from '../../../src/proofs/merkle/prove.ts';

/** Entries that differ. */
export function entriesOf(many: number): readonly Uint8Array[] {
  return Array.from({ length: many }, (_, index) => Buffer.from(`entry ${index}`));
}

/** A tree in memory, row by row; `reads` says how many subtrees were asked for. */
export class LeafTree implements NodeReader {
  readonly leaves: readonly Uint8Array[];
  readonly #rows: readonly (readonly Uint8Array[])[];
  reads = 0;

  constructor(entries: readonly Uint8Array[]) {
    this.leaves = entries.map(leafHash);
    const rows = [this.leaves];
    for (let row = this.leaves; row.length > 1; ) {
      row = pairs(row);
      rows.push(row);
    }
    this.#rows = rows;
  }

  async read(subtrees: Parameters<NodeReader['read']>[0]): Promise<readonly Uint8Array[]> {
    this.reads += subtrees.length;
    return subtrees.map(({ level, index }) => {
      const root = this.#rows[level]?.[index];
      if (root === undefined) throw new Error('The tree has no such whole subtree.');
      return root;
    });
  }
}

function pairs(row: readonly Uint8Array[]): readonly Uint8Array[] {
  const above: Uint8Array[] = [];
  for (let at = 0; at + 1 < row.length; at += 2) {
    const [left, right] = row.slice(at, at + 2);
    if (left !== undefined && right !== undefined) above.push(nodeHash(left, right));
  }
  return above;
}
