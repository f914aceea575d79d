import type { Section } from './bundle/sections.ts';
import type { Audit } from './findings/finding.ts';
import type { Step } from './step.ts';

const MARKS = { true: '✓', false: '✗', unchecked: '–' } as const;

/** Whether nothing is false. What could not be checked is not false. */
export function isVerified(steps: readonly Step[]): boolean {
  return steps.every(({ result }) => result !== 'false');
}

/** Each step on a line, and what follows from them. */
export function reportText(steps: readonly Step[]): string {
  const width = Math.max(...steps.map(({ step }) => step.length));
  const lines = steps.map(
    ({ step, result, compared }) => `${MARKS[result]} ${step.padEnd(width)}  ${compared}`,
  );
  const count = (wanted: Step['result']): number => steps.filter(({ result }) => result === wanted).length;
  const rest = `${count('true')} of ${steps.length} steps hold, ${count('unchecked')} could not be checked`;
  const verdict = isVerified(steps)
    ? `Verified: ${rest}.`
    : `Not verified: ${count('false')} false, ${rest}.`;
  return `${lines.join('\n')}\n\n${verdict}\n`;
}

/** The same for programs. */
export function reportDocument(steps: readonly Step[]): object {
  return { format: 'patchbay-verification/1', verified: isVerified(steps), steps };
}

/** Counts of what was told, for the last line. */
export interface Tally {
  documents: number;
  true: number;
  false: number;
  unchecked: number;
}

export function emptyTally(): Tally {
  return { documents: 0, true: 0, false: 0, unchecked: 0 };
}

/** Adds a section to what was counted. */
export function count(tally: Tally, { document, steps }: Section): void {
  if (document !== null) tally.documents += 1;
  for (const { result } of steps) tally[result] += 1;
}

/** A section of a bundle: a line when it holds, and otherwise what is false; all of it when that is asked for. */
export function sectionText({ document, about, steps }: Section, verbose: boolean): string {
  const of = (wanted: Step['result']): number => steps.filter(({ result }) => result === wanted).length;
  const verdict = of('false') > 0 ? '✗' : of('true') > 0 ? '✓' : '–';
  const open = of('unchecked') === 0 ? '' : `, ${of('unchecked')} could not be checked`;
  const name = document === null ? about : `${document}, ${about}`;
  const head = `${verdict} ${name}: ${of('true')} of ${steps.length} steps hold${open}\n`;
  const shown = steps.filter(({ result }) => verbose || document === null || result === 'false');
  return (
    head + shown.map(({ step, result, compared }) => `    ${MARKS[result]} ${step}  ${compared}\n`).join('')
  );
}

export function verdictText(tally: Tally): string {
  const { documents, true: held, false: wrong, unchecked } = tally;
  const rest = `${held} of ${held + wrong + unchecked} steps hold in ${documents} documents, ${unchecked} could not be checked`;
  return wrong === 0 ? `\nVerified: ${rest}.\n` : `\nNot verified: ${wrong} false, ${rest}.\n`;
}

/** What an audit found, for people. */
export function auditText(epoch: bigint, { findings, notes }: Audit): string {
  const blocks = findings.map(({ code, message, evidence, convinces }) => {
    const who = convinces === 'anyone' ? 'anyone who is shown the evidence' : 'the holder';
    return `✗ ${code}  ${message}\n    convinces  ${who}\n    evidence   ${evidence.length === 0 ? 'none but this' : listed(evidence)}\n`;
  });
  const asides = notes.map((note) => `– ${note}\n`);
  const verdict =
    findings.length === 0
      ? `Nothing found in epoch ${epoch}.\n`
      : `Findings in epoch ${epoch}: ${findings.length}.\n`;
  const parts = [...blocks, ...asides];
  return `${parts.join('')}${parts.length === 0 ? '' : '\n'}${verdict}`;
}

const MOST_LISTED = 6;

function listed(evidence: readonly string[]): string {
  const more = evidence.length > MOST_LISTED ? ` and ${evidence.length - MOST_LISTED} more` : '';
  return evidence.slice(0, MOST_LISTED).join(', ') + more;
}

/** The same for programs. */
export function auditDocument(epoch: bigint, { findings, notes }: Audit): object {
  return { format: 'patchbay-audit/1', epoch: String(epoch), clean: findings.length === 0, findings, notes };
}
