/** One thing that was compared, and how it came out. */
export interface Step {
  /** A stable word for programs. */
  readonly step: string;
  /** `unchecked`: what it needs is not open to this reader. */
  readonly result: 'true' | 'false' | 'unchecked';
  /** What was compared with what, or why it could not be. */
  readonly compared: string;
  /** Of a false step: a stable word for why, where the step can be false for reasons that mean different things. */
  readonly why?: 'KEY_NOT_VALID' | 'KEY_REPLACED';
}

export function holds(step: string, compared: string): Step {
  return { step, result: 'true', compared };
}

export function fails(step: string, compared: string, why?: Step['why']): Step {
  return { step, result: 'false', compared, ...(why === undefined ? {} : { why }) };
}

export function unchecked(step: string, why: string): Step {
  return { step, result: 'unchecked', compared: why };
}

/** A step that holds when nothing is wrong, and otherwise names the first of what is. */
export function judged(step: string, wrong: readonly string[], compared: string): Step {
  const [first, ...more] = wrong;
  if (first === undefined) return holds(step, compared);
  return fails(step, more.length === 0 ? first : `${first} (and ${more.length} more)`);
}

/** Whether a step is there and holds. */
export function holdsIn(steps: readonly Step[], name: string): boolean {
  return steps.some(({ step, result }) => step === name && result === 'true');
}
