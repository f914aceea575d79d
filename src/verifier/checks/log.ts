import { isConsistent, rootFromInclusion } from '../hashing/merkle.ts';
import { rootMessage } from '../hashing/signature.ts';
import type { Consistency, KeptHead, Receipt, SignedHead } from '../input/formats.ts';
import { short } from '../shown.ts';
import { fails, holds, judged, type Step, unchecked } from '../step.ts';
import { connectedWith, type Growth, headName } from './connections.ts';
import { checkSigner, type Trust } from './keys.ts';

/** Checks the path to the batch's root and the batch's signature. */
export function checkBatch({ log, batch }: Receipt, leaf: string, trust: Trust): readonly Step[] {
  const { size, index, path, signedAt, signature } = batch;
  const root = rootFromInclusion({ leaf, index: BigInt(index), size: BigInt(size), path });
  if (root === null) {
    const why = `a path of ${path.length} hashes does not belong to place ${index} of ${size}`;
    return [fails('batch', why), fails('batch.signature', 'there is no root that could be signed')];
  }
  return [
    holds('batch', `place ${index} of ${size} leads to the root ${root}`),
    checkSigner('batch.signature', trust, {
      message: rootMessage(log, 'ReceiptBatch', { root, size, signedAt }),
      signature,
    }),
  ];
}

/** Checks the path to the root of the head, and the head's signature. */
export function checkInclusion({ log, inclusion }: Receipt, leaf: string, trust: Trust): readonly Step[] {
  if (inclusion === null)
    return [unchecked('inclusion', 'the log did not have the receipt yet when it was handed out')];
  const { index, path, head } = inclusion;
  const root = rootFromInclusion({ leaf, index: BigInt(index), size: BigInt(head.size), path });
  return [
    root === head.root
      ? holds('inclusion', `place ${index} of ${head.size} leads to the root of the head, ${root}`)
      : fails(
          'inclusion',
          `place ${index} of ${head.size} leads to ${root ?? 'no root'}, but the head has ${head.root}`,
        ),
    checkHead('head', log, head, trust),
  ];
}

/** Checks the signature of a head. */
export function checkHead(step: string, log: string, head: SignedHead, trust: Trust): Step {
  return checkSigner(step, trust, { message: rootMessage(log, 'TreeHead', head), signature: head.signature });
}

/** What is wrong with the sizes and the path of a consistency proof. */
function growthFaults({ first, second, path, firstHead, secondHead }: Consistency): readonly string[] {
  const wrong: string[] = [];
  if (first !== firstHead.size || second !== secondHead.size) {
    wrong.push(
      `the proof is from ${first} to ${second}, but its heads have ${firstHead.size} and ${secondHead.size}`,
    );
  }
  const trees = {
    first: BigInt(first),
    second: BigInt(second),
    firstRoot: firstHead.root,
    secondRoot: secondHead.root,
  };
  if (!isConsistent({ ...trees, path })) {
    wrong.push(
      `the tree of ${first} with ${short(firstHead.root)} is no beginning of that of ${second} with ${short(secondHead.root)}`,
    );
  }
  return wrong;
}

/** Checks a consistency proof by itself: its sizes, its path and both heads' signatures. */
export function checkConsistency(step: string, proof: Consistency, trust: Trust): readonly Step[] {
  const { log, first, second, firstHead, secondHead } = proof;
  return [
    judged(step, growthFaults(proof), `the tree of ${first} is the beginning of that of ${second}`),
    checkHead(`${step}.first`, log, firstHead, trust),
    checkHead(`${step}.second`, log, secondHead, trust),
  ];
}

/** Checks that heads of one size have one root, and says which of them nothing connects with the receipt's. */
export function checkHeads(
  receipt: SignedHead | null,
  documents: readonly (KeptHead | Consistency)[],
): readonly Step[] {
  if (documents.length === 0) return [];
  const heads = [...(receipt === null ? [] : [receipt]), ...documents.flatMap(headsOf)];
  const roots = new Map<string, string>();
  const wrong: string[] = [];
  for (const { size, root } of heads) {
    const before = roots.get(size) ?? root;
    if (before !== root) {
      wrong.push(
        `two heads of ${size} have the roots ${before} and ${root}: the log was forked or rewritten`,
      );
    }
    roots.set(size, before);
  }
  const steps = [
    judged('heads', wrong, `${heads.length} heads, one root for each size: ${[...roots.keys()].join(', ')}`),
  ];
  if (receipt === null) return [...steps, unchecked('heads.connected', 'the receipt has no head yet')];
  const growths = documents.flatMap((document) => growthOf(document) ?? []);
  const reached = connectedWith(receipt, growths);
  const apart = [...new Set(heads.filter((head) => !reached.has(headName(head))).map(({ size }) => size))];
  if (apart.length === 0)
    return [...steps, holds('heads.connected', `all lead to the receipt's head of ${receipt.size}`)];
  const why = `no proof connects the receipt's head of ${receipt.size} with ${apart.join(', ')}`;
  return [...steps, unchecked('heads.connected', why)];
}

function headsOf(document: KeptHead | Consistency): readonly SignedHead[] {
  return document.format === 'patchbay-head/1' ? [document.head] : [document.firstHead, document.secondHead];
}

/** What a document proves of how the log grew, if it is a proof and verifies; signatures are looked at elsewhere. */
export function growthOf(document: KeptHead | Consistency): Growth | null {
  return document.format === 'patchbay-consistency/1' && growthFaults(document).length === 0
    ? { first: document.firstHead, second: document.secondHead }
    : null;
}
