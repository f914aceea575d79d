import { unsupported } from './files.ts';

/**
 * Refuses regular expressions whose Oniguruma meaning the library drops without a word: `\G` is skipped, and atomic
 * groups and possessive quantifiers become ordinary ones that backtrack. Everything else that it cannot translate
 * makes it throw. One difference cannot be detected usefully: `(?i:…)` folds ASCII letters only, so `ſ` does not
 * match `s`; Llama 3 and Qwen use it for English contractions, where that letter does not occur.
 */
export function checkOniguruma(source: string, field: string): void {
  for (const { at, token } of atoms(source)) {
    if (token === '\\G') throw unsupported(field, 'the anchor \\G cannot be reproduced');
    if (token === '\\K') throw unsupported(field, 'the directive \\K cannot be reproduced');
    if (token !== '(' && token !== '*' && token !== '+' && token !== '?') continue;
    if (token === '(' && source.startsWith('(?>', at)) {
      throw unsupported(field, 'atomic groups cannot be reproduced');
    }
    // `(?` opens a group; only a quantifier that follows an atom can be made possessive.
    const opensGroup = token === '?' && source[at - 1] === '(';
    if (token !== '(' && !opensGroup && source[at + 1] === '+') {
      throw unsupported(field, 'possessive quantifiers cannot be reproduced');
    }
  }
}

/** Whether a pattern has a group that captures; `String.split` would return its text as a piece. */
export function hasCapturingGroup(source: string): boolean {
  for (const { at, token } of atoms(source)) {
    if (token === '(' && (source[at + 1] !== '?' || /^\(\?<[A-Za-z_]/.test(source.slice(at, at + 4)))) {
      return true;
    }
  }
  return false;
}

/** The characters and escapes of a pattern outside of character classes, where operators have their meaning. */
function* atoms(source: string): Generator<{ readonly at: number; readonly token: string }> {
  let depth = 0;
  for (let at = 0; at < source.length; at += 1) {
    const char = source.charAt(at);
    const token = char === '\\' ? source.slice(at, at + 2) : char;
    if (char === '[') depth += 1;
    else if (char === ']' && depth > 0) depth -= 1;
    else if (depth === 0) yield { at, token };
    at += token.length - 1;
  }
}
