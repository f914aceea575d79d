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
