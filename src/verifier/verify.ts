import { checkAmounts } from './checks/amounts.ts';
import { checkDocuments, type Documents } from './checks/documents.ts';
import { listedTrust, pinnedTrust, type Trust } from './checks/keys.ts';
import { checkBatch, checkConsistency, checkHead, checkHeads, checkInclusion } from './checks/log.ts';
import { checkOpened } from './checks/opened.ts';
import { checkShares } from './checks/shares.ts';
import { leafOf } from './hashing/body.ts';
import { InputError } from './input/errors.ts';
import type { Consistency, KeptHead, KeyList, Receipt } from './input/formats.ts';
import { fails, holds, type Step, unchecked } from './step.ts';
import type { View } from './view.ts';

/** Documents that are verified together. */
export interface Evidence {
  readonly receipt: Receipt;
  readonly keys: KeyList | null;
  /** Addresses that the reader trusts by themselves. */
  readonly pinned: readonly string[];
  /** Heads that the reader kept, and proofs between heads. */
  readonly heads: readonly (KeptHead | Consistency)[];
}

/** What is known of a receipt. */
export interface Examined {
  readonly view: View;
  readonly documents: Documents;
  readonly leaf: string;
  readonly steps: readonly Step[];
}

/** All steps, each on its own: one that fails does not hide another. */
export function verify({ receipt, keys, pinned, heads }: Evidence): readonly Step[] {
  const format = holds(
    'format',
    [receipt.format, keys?.format, ...heads.map((head) => head.format)]
      .filter((name) => name !== undefined)
      .join(', '),
  );
  const { trust, steps } = trustOf(keys, pinned);
  return [
    format,
    checkLog(receipt, keys, heads),
    ...steps,
    ...verifyReceipt(receipt, trust),
    ...heads.flatMap((head, index) => verifyHead(`heads.${index}`, head, trust)),
    ...checkHeads(receipt.inclusion?.head ?? null, heads),
  ];
}

/** Whom to trust, which somebody has to say: nothing follows from signatures of unknown keys. */
export function trustOf(
  keys: KeyList | null,
  pinned: readonly string[],
): { readonly trust: Trust; readonly steps: readonly Step[] } {
  if (keys !== null) return listedTrust(keys, pinned);
  if (pinned.length > 0) return pinnedTrust(pinned);
  throw new InputError(
    'PROOF_KEYS_MISSING',
    'Neither a key list nor an address says whose signatures count.',
    'Give --keys with the key list of the deployment, or --trust with the address of its key.',
  );
}

/** What a receipt says by itself, its signatures and its place in the log. */
export function verifyReceipt(receipt: Receipt, trust: Trust): readonly Step[] {
  return examineReceipt(receipt, trust).steps;
}

/** A receipt with its steps, and what they found to be known of it. */
export function examineReceipt(receipt: Receipt, trust: Trust): Examined {
  const { view, steps } = checkOpened(receipt);
  const { documents, steps: documentSteps } = checkDocuments(receipt.documents, view);
  const leaf = leafOf(receipt);
  const all = [
    ...steps,
    holds('leaf', `the body of receipt ${receipt.id} has the leaf ${leaf}`),
    ...checkBatch(receipt, leaf, trust),
    ...checkInclusion(receipt, leaf, trust),
    ...documentSteps,
    ...checkShares(view),
    ...checkAmounts(view, documents),
  ];
  return { view, documents, leaf, steps: all };
}

/** A head that was kept, or a proof between two heads. */
export function verifyHead(step: string, document: KeptHead | Consistency, trust: Trust): readonly Step[] {
  return document.format === 'patchbay-head/1'
    ? [checkHead(step, document.log, document.head, trust)]
    : checkConsistency(step, document, trust);
}

function checkLog({ log }: Receipt, keys: KeyList | null, heads: readonly { readonly log: string }[]): Step {
  const others = [...(keys === null ? [] : [keys]), ...heads];
  const stranger = others.find((other) => other.log !== log);
  if (stranger !== undefined)
    return fails('log', `the receipt is of ${log}, another document of ${stranger.log}`);
  if (others.length === 0) return unchecked('log', `${log}; nothing else is given that names a log`);
  return holds('log', `all documents are of ${log}`);
}
