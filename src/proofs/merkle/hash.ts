import { hash } from 'node:crypto';

/** Length of every hash of a tree. */
export const HASH_BYTES = 32;

/** Entries and inner nodes are told apart by their first byte, so that no node can pass for an entry. */
const LEAF_PREFIX = 0x00;
const NODE_PREFIX = 0x01;

/** One hash at a time is made, so one buffer serves all: a tree of ten million leaves makes as many. */
const node = new Uint8Array(1 + 2 * HASH_BYTES);
node[0] = NODE_PREFIX;

/** The root of a tree without leaves. */
export const EMPTY_ROOT: Uint8Array = hash('sha256', '', 'buffer');

/** RFC 6962, section 2.1: the hash of an entry. */
export function leafHash(entry: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(1 + entry.length);
  bytes[0] = LEAF_PREFIX;
  bytes.set(entry, 1);
  return hash('sha256', bytes, 'buffer');
}

/** The hash of the node above two others. */
export function nodeHash(left: Uint8Array, right: Uint8Array): Uint8Array {
  node.set(left, 1);
  node.set(right, 1 + HASH_BYTES);
  return hash('sha256', node, 'buffer');
}

/** The hashes above neighbouring ones, which lie one after the other; one that is left over has none above it. */
export function rowAbove(row: Uint8Array): Uint8Array {
  const above = Buffer.alloc(Math.floor(row.length / (2 * HASH_BYTES)) * HASH_BYTES);
  for (let at = 0; at < above.length; at += HASH_BYTES) {
    node.set(row.subarray(2 * at, 2 * at + 2 * HASH_BYTES), 1);
    // As text, because a buffer for each hash takes twice the time of the hash.
    above.write(hash('sha256', node, 'binary'), at, 'binary');
  }
  return above;
}

/** The root of a perfect tree over hashes that lie one after the other, of which there must be a power of two. */
export function perfectRoot(hashes: Uint8Array): Uint8Array {
  let row = hashes;
  while (row.length > HASH_BYTES) row = rowAbove(row);
  return row;
}

/** The root of neighbouring subtrees that grow smaller to the right, as those do that a tree's size is made of. */
export function foldRight(roots: readonly Uint8Array[]): Uint8Array {
  if (roots.length === 0) return EMPTY_ROOT;
  return roots.reduceRight((right, left) => nodeHash(left, right));
}
