import { digestOf } from '../hashing/canonical.ts';
import { EMPTY_ROOT } from '../hashing/merkle.ts';
import type { Epoch } from '../input/epochs.ts';
import { short } from '../shown.ts';
import { judged, type Step } from '../step.ts';
import { checkSigner, type Trust } from './keys.ts';
import { checkHead } from './log.ts';

/** What stands in the place of a digest where there is no epoch before. */
export const NO_EPOCH = '0'.repeat(64);

/** What an epoch is signed, anchored and followed by. */
export function epochDigest({ epoch }: Epoch): string {
  return digestOf(epoch);
}

/** Checks an epoch by itself: its signature, its head and what its numbers say of each other. */
export function checkEpoch(document: Epoch, trust: Trust): readonly Step[] {
  const { log, epoch, head, signedAt, signature } = document;
  const digest = epochDigest(document);
  const values = { number: epoch.number, digest: `0x${digest}`, signedAt };
  const headFaults: string[] = [];
  if (head.size !== epoch.size)
    headFaults.push(`its head is of ${head.size} leaves, but the epoch ends at ${epoch.size}`);
  if (head.root !== epoch.root)
    headFaults.push(`its head has the root ${head.root}, but the epoch ${epoch.root}`);
  return [
    checkSigner('epoch.signature', trust, { message: { log, type: 'Epoch', values }, signature }),
    judged('epoch.root', headFaults, `size ${epoch.size} and root ${epoch.root} are those of its head`),
    checkHead('epoch.head', log, head, trust),
    judged(
      'epoch.numbers',
      [...numberFaults(epoch), ...timeFaults(document)],
      `epoch ${epoch.number} with the digest ${short(digest)} has the leaves from ${epoch.firstSize} to ${epoch.size}: ` +
        `${epoch.receipts} receipts, ${epoch.quarantined.length} quarantined, ${epoch.released.length} released`,
    ),
  ];
}

function* numberFaults(epoch: Epoch['epoch']): Generator<string> {
  const { number, previous, accounts, quarantined, released } = epoch;
  const [first, size] = [BigInt(epoch.firstSize), BigInt(epoch.size)];
  if (first >= size) yield `it ends at ${size}, but begins at ${first}`;
  if (number === '1' && first !== 0n) yield `the first epoch begins at ${first}`;
  if ((number === '1') !== (previous === NO_EPOCH))
    yield `epoch ${number} names ${previous} as the one before`;
  if ((accounts.size === '0') !== (accounts.root === EMPTY_ROOT)) {
    yield `${accounts.size} accounts cannot have the root ${accounts.root}`;
  }
  if (!ascends(quarantined.map(({ request }) => request))) yield 'what is quarantined does not ascend';
  if (!ascends(released.map(({ request }) => request))) yield 'what is released does not ascend';
  const listed = new Set(quarantined.map(({ request }) => request));
  for (const { request, leaf, epoch: from } of released) {
    if (BigInt(from) >= BigInt(number)) yield `it releases ${short(request)} of epoch ${from}`;
    if (leaf !== null && listed.has(request)) yield `it quarantines and releases ${short(request)}`;
  }
  for (const { request, leaf, reason } of quarantined) {
    if ((leaf === null) !== (reason === 'LEAF_MISSING'))
      yield `${short(request)} is ${reason}, which does not go with its leaf`;
  }
  const leaves = BigInt(quarantined.filter(({ leaf }) => leaf !== null).length);
  const due = size - first - leaves + BigInt(released.filter(({ leaf }) => leaf !== null).length);
  if (BigInt(epoch.receipts) !== due)
    yield `it counts ${epoch.receipts} receipts, but its leaves and lists give ${due}`;
}

/** An epoch is signed as it closes, and cannot end at a head that did not exist yet. */
function* timeFaults({ epoch, head, signedAt }: Epoch): Generator<string> {
  if (epoch.closedAt !== signedAt) yield `it closed at ${epoch.closedAt}, but was signed at ${signedAt}`;
  if (BigInt(head.signedAt) > BigInt(epoch.closedAt))
    yield `it closed at ${epoch.closedAt}, but its head was signed at ${head.signedAt}`;
}

/** Whether texts of one length are in order, each once. */
export function ascends(texts: readonly string[]): boolean {
  return texts.every((text, index) => index === 0 || text > (texts[index - 1] ?? text));
}
