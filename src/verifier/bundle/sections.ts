import { checkAgainstChain, checkClaim } from '../checks/claim.ts';
import { checkEpoch } from '../checks/epoch.ts';
import type { Trust } from '../checks/keys.ts';
import { checkStatement } from '../checks/statement.ts';
import type { Epoch } from '../input/epochs.ts';
import { holdsIn, type Step } from '../step.ts';
import { verifyHead } from '../verify.ts';
import type { Dossier } from './dossier.ts';

/** The steps of one document, or, without a name, those of all documents together. */
export interface Section {
  readonly document: string | null;
  /** What the document is, for people. */
  readonly about: string;
  readonly steps: readonly Step[];
}

/** The steps of each document that is no receipt. */
export function* sectionsOf(dossier: Dossier, trust: Trust): Generator<Section> {
  for (const { name, document } of dossier.heads) {
    const isHead = document.format === 'patchbay-head/1';
    const about = isHead
      ? `head of ${document.head.size}`
      : `growth from ${document.first} to ${document.second}`;
    yield { document: name, about, steps: verifyHead('heads', document, trust) };
  }
  const byNumber = new Map<string, Epoch>();
  const signed = new Set<string>();
  for (const { name, document } of dossier.epochs) {
    const { number } = document.epoch;
    const steps = checkEpoch(document, trust);
    // Of two with one number, the one that is signed is what a statement is of.
    const isSigned = holdsIn(steps, 'epoch.signature');
    if (!byNumber.has(number) || (isSigned && !signed.has(number))) byNumber.set(number, document);
    if (isSigned) signed.add(number);
    yield { document: name, about: `epoch ${number}`, steps };
  }
  for (const { name, document } of dossier.statements) {
    const { epoch, kind, subject } = document;
    const steps = checkStatement(document, byNumber.get(epoch) ?? null);
    yield { document: name, about: `epoch ${epoch} of ${kind} ${subject}`, steps };
  }
  for (const { name, document } of dossier.claims) {
    const places = dossier.chains.map((chain) => checkAgainstChain(document, chain.document));
    const { sequence, tenant } = document.claim;
    const about = `claim of tenant ${tenant} in tree ${sequence}`;
    yield { document: name, about, steps: [...checkClaim(document, trust), ...places] };
  }
}
