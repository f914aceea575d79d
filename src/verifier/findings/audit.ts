import type { Examination } from '../bundle/examine.ts';
import type { Section } from '../bundle/sections.ts';
import { InputError } from '../input/errors.ts';
import { holdsIn, type Step } from '../step.ts';
import { underpaidClaims, unexpectedAccounts } from './claims.ts';
import { type Audit, type Finding, type FindingCode, knownBy, shownBy } from './finding.ts';
import { auditAccount, bySubject, gaps, quarantines } from './holder.ts';
import { unconnected } from './log.ts';

/** What the holder says beside the documents. */
export interface AuditOptions {
  readonly epoch: bigint;
  /** The account on the chain that the holder expects to be paid. */
  readonly account: string | null;
}

/** Looks for all that is not as it should be in one epoch, and in what the other documents say of it. */
export function audit(examination: Examination, sections: readonly Section[], options: AuditOptions): Audit {
  const { records, epochs, subjects, claims, log, dossier } = examination;
  const epoch = epochs.epochs.get(options.epoch);
  if (epoch === undefined) return withoutEpoch(examination, sections, options);
  const held = bySubject(records);
  const holding = { records, epochs: epochs.epochs, log };
  const findings: Finding[] = [
    ...sections.flatMap((section) => [...falseSteps(section)]),
    ...examination.contradictions,
    ...unconnected(dossier, log, epochs.epochs.values()),
    ...quarantines(epoch, holding),
    ...(options.account === null ? [] : unexpectedAccounts(claims, options.account)),
  ];
  const notes: string[] = [...examination.gaps];
  const take = (part: Audit): void => {
    findings.push(...part.findings);
    notes.push(...part.notes);
  };
  take(underpaidClaims(claims, records));
  const audited = new Set<string>();
  for (const subject of subjects) {
    const name = `${subject.kind} ${subject.subject}`;
    const own = held.get(name) ?? [];
    take(gaps(name, own, [...subject.statements.values()]));
    const statement = subject.statements.get(options.epoch);
    if (statement === undefined) continue;
    audited.add(name);
    take(auditAccount(subject, statement, own, holding));
    if (own.length === 0) notes.push(`no receipt of ${name} is given`);
  }
  for (const [name, own] of held) {
    if (!subjects.some(({ kind, subject }) => `${kind} ${subject}` === name)) take(gaps(name, own, []));
    if (!audited.has(name))
      notes.push(
        `no statement of ${name} for epoch ${options.epoch} is given, so that its account was not compared`,
      );
  }
  const apart = records.filter(
    ({ place }) => place === null || !log.connected(epoch.document.head, place.head),
  );
  if (apart.length > 0) {
    notes.push(
      `of ${apart.length} receipts nothing shows where they are in the log of epoch ${options.epoch}`,
    );
  }
  return { findings, notes };
}

/** Of an epoch whose signature does not count, that is the finding, and nothing else can be said of it. */
function withoutEpoch(
  examination: Examination,
  sections: readonly Section[],
  { epoch }: AuditOptions,
): Audit {
  const { dossier, epochs, log, contradictions, gaps: missing } = examination;
  if (!dossier.epochs.some(({ document }) => document.epoch.number === String(epoch))) {
    throw new InputError(
      'PROOF_EPOCH_MISSING',
      `No epoch ${epoch} is given.`,
      'Put the epoch into the bundle: `patchbay bundle` does, and /log/v1/epoch?number=… has it.',
    );
  }
  return {
    findings: [
      ...sections.flatMap((section) => [...falseSteps(section)]),
      ...contradictions,
      ...unconnected(dossier, log, epochs.epochs.values()),
    ],
    notes: [
      ...missing,
      `epoch ${epoch} is not signed by a key that counts, so that nothing was compared with it`,
    ],
  };
}

/** What a false step of a document means. The first that fits counts. */
const MEANINGS: readonly (readonly [RegExp, FindingCode, 'anyone' | 'holder'])[] = [
  [/^(?:keys|chain\.(?:id|contract|distributor))$/, 'DOCUMENT_FALSE', 'holder'],
  [/(?:^|\.)(?:signature|head|first|second)$/, 'NOT_SIGNED', 'holder'],
  [/^heads$/, 'DOCUMENT_FALSE', 'holder'],
  [/^epoch\./, 'EPOCH_FALSE', 'anyone'],
  [/^statement\.account/, 'STATEMENT_FALSE', 'anyone'],
  [/^statement\./, 'STATEMENT_FALSE', 'holder'],
  [/^claim\.chain$/, 'DOCUMENT_FALSE', 'holder'],
  [/^claim\./, 'CLAIM_FALSE', 'anyone'],
  [/^chain\.decimals$/, 'CLAIM_FALSE', 'anyone'],
  [/^chain\.anchored$/, 'ANCHOR_MISSING', 'anyone'],
  [/^chain\.anchor$/, 'ANCHOR_DIFFERS', 'anyone'],
  [/^chain\./, 'CLAIM_NOT_PUBLISHED', 'anyone'],
  [/^(?:fields|opened|leaf|batch|inclusion|log|documents)$/, 'DOCUMENT_FALSE', 'holder'],
  [/./, 'RECEIPT_FALSE', 'anyone'],
];

/** Steps of all documents together, of which each difference is a finding of its own. */
const TOGETHER = new Set(['heads', 'epochs', 'accounts', 'receipts', 'claims']);

function isFindingAlready(document: string | null, { step }: Step, steps: readonly Step[]): boolean {
  if (document === null) return TOGETHER.has(step);
  return step === 'heads' && holdsIn(steps, 'heads.first') && holdsIn(steps, 'heads.second');
}

/** What an account says is signed by the epoch to whose root it leads, and by nobody when it does not. */
function isUnsignedStatement({ step }: Step, steps: readonly Step[]): boolean {
  return step === 'statement.account' && !holdsIn(steps, 'statement.path');
}

function* falseSteps({ document, about, steps }: Section): Generator<Finding> {
  // What a signature does not cover, anybody can have changed.
  const signed = !steps.some(({ step, result }) => result === 'false' && /(?:^|\.)signature$/.test(step));
  for (const step of steps) {
    if (step.result !== 'false' || isFindingAlready(document, step, steps)) continue;
    const isSure = signed && !isUnsignedStatement(step, steps) && !isElsewhere(step, steps);
    yield findingOf(step, document, about, isSure);
  }
}

/** What a contract has is evidence for others only when it is the right one, which an address that nobody signed does not say. */
function isElsewhere({ step }: Step, steps: readonly Step[]): boolean {
  return step.startsWith('chain.') && steps.some((one) => /^chain\.[a-z]+\.address$/.test(one.step));
}

function findingOf(step: Step, document: string | null, about: string, signed: boolean): Finding {
  const [, code, convinces] = MEANINGS.find(([form]) => form.test(step.step)) ?? [
    null,
    'DOCUMENT_FALSE',
    'holder',
  ];
  const message = `${about}: ${step.step}: ${step.compared}`;
  const evidence = document === null ? [] : [document];
  if (step.why !== undefined) {
    const by = step.why === 'KEY_REPLACED' ? shownBy : knownBy;
    return by(evidence, 'KEY_NOT_VALID', message);
  }
  return convinces === 'anyone' && signed
    ? shownBy(evidence, code, message)
    : knownBy(evidence, code, message);
}
