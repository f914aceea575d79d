import { checkAgainstChain, checkClaim } from '../checks/claim.ts';
import { checkEpoch } from '../checks/epoch.ts';
import type { Trust } from '../checks/keys.ts';
import { checkStatement } from '../checks/statement.ts';
import type { Epoch } from '../input/epochs.ts';
import type { Step } from '../step.ts';
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
  for (const { name, document } of dossier.epochs) {
    const { number } = document.epoch;
    if (!byNumber.has(number)) byNumber.set(number, document);
    yield { document: name, about: `epoch ${number}`, steps: checkEpoch(document, trust) };
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
