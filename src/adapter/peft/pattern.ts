import { compileRegex } from './regex.ts';

/** Decides which key of a `rank_pattern` or `alpha_pattern` applies to a module. */
export interface PatternKey {
  readonly key: string;
  /** Size of the matcher's automaton, so that many keys together can be bounded. */
  readonly states: number;
  /** PEFT's rule: `re.match(rf"(.*\.)?({key})$", moduleName)`. */
  matches(moduleName: string): boolean;
}

const PLAIN = /^[A-Za-z0-9_.]+$/;

/** Compiles one key; throws `RegexUnsupported` for a key that cannot be matched safely and exactly. */
export function compilePatternKey(key: string): PatternKey {
  // Tools write one full module name per key, hundreds of them; those need no automaton.
  if (PLAIN.test(key)) return { key, states: 1, matches: (name) => matchesPlain(key, name) };
  const regex = compileRegex(`(.*\\.)?(${key})$`);
  return { key, states: regex.states, matches: (name) => regex.matchStart(name) };
}

/** The same rule for a key without operators except `.`, which stands for any character. */
function matchesPlain(key: string, name: string): boolean {
  const start = name.length - key.length;
  if (start < 0 || (start > 0 && name[start - 1] !== '.')) return false;
  for (let i = 0; i < key.length; i++) {
    if (key[i] !== '.' && key[i] !== name[start + i]) return false;
  }
  return true;
}
