import type { StopRules } from './port.ts';

/** What may be delivered of a text, and whether a stop string has ended it. */
export interface ScanResult {
  readonly text: string;
  readonly stopped: boolean;
}

/** Passes text on up to the first stop string; holds back what may still become one. */
export interface StopScanner {
  /** Text that is safe to deliver after this piece. After a stop, further text is dropped. */
  push(piece: string): ScanResult;
  /** Text still held back, at the end of the sequence. */
  flush(): string;
}

/** A stop string with its Knuth-Morris-Pratt failure table and how much of it the text ends with now. */
interface Pattern {
  readonly text: string;
  readonly failure: readonly number[];
  matched: number;
}

/**
 * Makes a scanner for a sequence's stop strings. Characters are looked at one by one and the string that is
 * complete first wins (of several complete at once, the longest), so the outcome does not depend on how the text was
 * cut into pieces. Cost is proportional to text length times number of strings, whatever they contain.
 *
 * Strings are compared by UTF-16 code unit; they must be well-formed, so a match never cuts a character in half.
 */
export function createStopScanner(strings: readonly string[]): StopScanner {
  const patterns: Pattern[] = strings.map((text) => ({ text, failure: failureTable(text), matched: 0 }));
  let held = '';
  let stopped = false;
  return {
    push(piece) {
      if (stopped) return { text: '', stopped };
      const from = held.length;
      held += piece;
      for (let i = from; i < held.length; i++) {
        const complete = advanceAll(patterns, held.charCodeAt(i));
        if (complete === 0) continue;
        const text = held.slice(0, i + 1 - complete);
        held = '';
        stopped = true;
        return { text, stopped };
      }
      const keep = patterns.reduce((most, pattern) => Math.max(most, pattern.matched), 0);
      const text = held.slice(0, held.length - keep);
      held = held.slice(held.length - keep);
      return { text, stopped };
    },
    flush() {
      const text = held;
      held = '';
      return text;
    },
  };
}

/** Moves every pattern over one code unit; returns the length of the longest one that is complete, or 0. */
function advanceAll(patterns: readonly Pattern[], unit: number): number {
  let complete = 0;
  for (const pattern of patterns) {
    while (pattern.matched > 0 && pattern.text.charCodeAt(pattern.matched) !== unit) {
      pattern.matched = pattern.failure[pattern.matched - 1] ?? 0;
    }
    if (pattern.text.charCodeAt(pattern.matched) === unit) pattern.matched++;
    if (pattern.matched === pattern.text.length) {
      complete = Math.max(complete, pattern.matched);
    }
  }
  return complete;
}

/** For each prefix, the length of its longest proper prefix that is also its suffix (Knuth, Morris, Pratt 1977). */
function failureTable(text: string): number[] {
  const table = [0];
  let length = 0;
  for (let i = 1; i < text.length; i++) {
    while (length > 0 && text.charCodeAt(i) !== text.charCodeAt(length)) length = table[length - 1] ?? 0;
    if (text.charCodeAt(i) === text.charCodeAt(length)) length++;
    table.push(length);
  }
  return table;
}

/** Token ids that end a sequence under its rules. */
export function stopTokenIds(rules: StopRules, eosTokenIds: readonly number[]): ReadonlySet<number> {
  return new Set(rules.ignoreEos ? rules.tokenIds : [...rules.tokenIds, ...eosTokenIds]);
}

/** Whether a sequence has used up what it may generate or what its context holds. */
export function atLength(counts: {
  readonly promptTokens: number;
  readonly completionTokens: number;
  readonly maxTokens: number;
  readonly maxContext: number;
}): boolean {
  return (
    counts.completionTokens >= counts.maxTokens ||
    counts.promptTokens + counts.completionTokens >= counts.maxContext
  );
}
