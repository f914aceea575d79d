import type { Trust } from '../checks/keys.ts';
import { type Subject, viewAccounts } from '../findings/accounts.ts';
import { claimContradictions, signedClaims } from '../findings/claims.ts';
import { type EpochView, viewEpochs } from '../findings/epochs.ts';
import type { Finding } from '../findings/finding.ts';
import { type LogView, viewLog } from '../findings/log.ts';
import { ReceiptIndex } from '../findings/receipts.ts';
import type { Claim } from '../input/claims.ts';
import { readReceipt } from '../input/read.ts';
import { holds, judged, type Step, unchecked } from '../step.ts';
import { examineReceipt, trustOf } from '../verify.ts';
import { type Dossier, logsOf, type Named } from './dossier.ts';
import { type ReceiptRecord, recordOf } from './record.ts';
import { type Section, sectionsOf } from './sections.ts';

/** What is known when all documents were looked at. */
export interface Examination {
  readonly dossier: Dossier;
  readonly trust: Trust;
  readonly records: readonly ReceiptRecord[];
  readonly log: LogView;
  readonly epochs: EpochView;
  readonly subjects: readonly Subject[];
  /** What could not be compared for want of epochs or statements. */
  readonly gaps: readonly string[];
  readonly claims: readonly Named<Claim>[];
  /** Documents that contradict each other. */
  readonly contradictions: readonly Finding[];
}

/**
 * Verifies each document, and all of them against each other. Sections are told as they come, so that thousands of receipts need
 * no place; what is kept of a receipt is what it says.
 */
export async function examine(
  dossier: Dossier,
  pinned: readonly string[],
  tell: (section: Section) => void,
): Promise<Examination> {
  const { trust, steps } = trustOf(dossier.keys?.document ?? null, pinned);
  const word =
    pinned.length === 0 && dossier.keysFound
      ? [
          unchecked(
            'keys.trust',
            "the list is the bundle's own; give --trust with the address of a key that you know",
          ),
        ]
      : [];
  tell({ document: dossier.keys?.name ?? null, about: 'keys', steps: [...steps, ...word] });
  for (const section of sectionsOf(dossier, trust)) tell(section);
  const logs = new Map<string, string>();
  for (const { name, document } of logsOf(dossier)) if (!logs.has(document.log)) logs.set(document.log, name);
  const index = new ReceiptIndex();
  for (const file of dossier.receipts) {
    const receipt = readReceipt(await file.read());
    const examined = examineReceipt(receipt, trust);
    if (!logs.has(receipt.log)) logs.set(receipt.log, file.name);
    tell({ document: file.name, about: `receipt of request ${receipt.id}`, steps: examined.steps });
    index.add(recordOf(file.name, receipt, examined));
  }
  const records = index.all();
  const log = viewLog(dossier, records, trust);
  const epochs = viewEpochs(dossier.epochs, trust);
  const accounts = viewAccounts(dossier.statements, epochs.epochs);
  const claims = signedClaims(dossier.claims, trust);
  const [ofReceipts, ofClaims] = [index.findings(), [...claimContradictions(claims)]];
  tell({
    document: null,
    about: 'all documents',
    steps: [
      oneLog(logs),
      ...headSteps(log),
      agreeing(
        'epochs',
        epochs.epochs.size,
        epochs.findings,
        'epochs: each follows the one before it, as far as that is given',
      ),
      complete('epochs.complete', epochs.epochs.size, epochs, 'none is left out before the last'),
      agreeing(
        'accounts',
        accounts.subjects.length,
        accounts.findings,
        'tenants and versions: no number is counted twice',
      ),
      complete(
        'accounts.complete',
        accounts.subjects.length,
        accounts,
        'every number that is due is in an epoch',
      ),
      agreeing('receipts', records.length, ofReceipts, 'receipts: one for each request, and for each number'),
      agreeing('claims', claims.length, ofClaims, 'claims do not contradict each other'),
    ].filter((step) => step !== null),
  });
  return {
    ...{ dossier, trust, records, log, epochs, subjects: accounts.subjects, claims },
    gaps: [...epochs.gaps, ...accounts.gaps],
    contradictions: [...log.findings, ...epochs.findings, ...accounts.findings, ...ofReceipts, ...ofClaims],
  };
}

/** Logs with the first document that names each. */
function oneLog(logs: ReadonlyMap<string, string>): Step {
  const [[log, first] = ['', ''], ...others] = logs;
  const wrong = others.map(([other, name]) => `${first} is of ${log}, but ${name} of ${other}`);
  return judged('log', wrong, `all documents are of ${log}`);
}

/** A step for documents of one kind, or none when there is nothing to compare. */
function agreeing(step: string, number: number, findings: readonly Finding[], what: string): Step | null {
  if (number === 0 && findings.length === 0) return null;
  return judged(
    step,
    findings.map(({ message }) => message),
    `${number} ${what}`,
  );
}

/** Whether nothing is left out; where something is not given, nobody can say so. */
function complete(
  step: string,
  number: number,
  { findings, gaps }: { readonly findings: readonly Finding[]; readonly gaps: readonly string[] },
  what: string,
): Step | null {
  const [first, ...more] = gaps;
  if (first !== undefined)
    return unchecked(step, more.length === 0 ? first : `${first} (and ${more.length} more)`);
  return number > 0 && findings.length === 0 ? holds(step, what) : null;
}

const MOST_LISTED = 8;

function headSteps({ heads, newest, connected, findings }: LogView): readonly (Step | null)[] {
  const agree = agreeing('heads', heads.length, findings, 'heads: one root for each size');
  if (newest === null || heads.length < 2) return [agree];
  const apart = heads.filter(({ head }) => !connected(newest.head, head)).map(({ size }) => size);
  if (apart.length === 0) return [agree, holds('heads.connected', `all grow into that of ${newest.size}`)];
  const list = apart.slice(0, MOST_LISTED).join(', ') + (apart.length > MOST_LISTED ? ' …' : '');
  return [agree, unchecked('heads.connected', `no proof connects the head of ${newest.size} with ${list}`)];
}
