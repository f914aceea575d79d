import { type CharTest, parseRegex, type RegexNode, RegexUnsupported } from './regex-parse.ts';

/**
 * A regular-expression matcher whose time is linear in the text. Keys of `rank_pattern` and `alpha_pattern` are
 * regular expressions from a hostile file: a backtracking engine can be made to run for hours by thirty characters.
 *
 * The subset is what such keys use: literals, `.`, classes, `\d \w \s` and their opposites, groups (capturing and
 * not), alternation, greedy and lazy quantifiers, `^` and `$`. Everything else (look-around, back-references, flags,
 * `\b`) throws {@link RegexUnsupported}; nothing is ever matched differently from Python's `re`.
 */
interface LinearRegex {
  /** Whether the text's beginning matches (Python's `re.match`). The text must not contain line breaks. */
  matchStart(text: string): boolean;
  /** Size of the automaton; one match costs at most this times the text's length. */
  readonly states: number;
}

const MAX_STATES = 2_048;
// Repetitions of nothing add no state, so the work of compiling needs a bound of its own.
const MAX_COMPILE_STEPS = 4 * MAX_STATES;

/** Compiles a pattern, or throws {@link RegexUnsupported}. */
export function compileRegex(pattern: string): LinearRegex {
  const program = emit(parseRegex(pattern));
  return { states: program.length, matchStart: (text) => run(program, text) };
}

type Instruction =
  | { readonly op: 'char'; readonly test: CharTest }
  | { readonly op: 'split'; to: number[] }
  | { readonly op: 'start' }
  | { readonly op: 'end' }
  | { readonly op: 'match' };

function emit(root: RegexNode): readonly Instruction[] {
  const program: Instruction[] = [];
  const push = (instruction: Instruction): void => {
    if (program.length >= MAX_STATES) throw new RegexUnsupported('it is too large');
    program.push(instruction);
  };
  let steps = 0;
  const node = (n: RegexNode): void => {
    if (++steps > MAX_COMPILE_STEPS) throw new RegexUnsupported('it is too large');
    if (n.kind === 'sequence') for (const item of n.items) node(item);
    else if (n.kind === 'either') either(n.items);
    else if (n.kind === 'repeat') repeat(n.item, n.min, n.max);
    else push(n.kind === 'char' ? { op: 'char', test: n.test } : { op: n.kind });
  };
  const either = (items: readonly RegexNode[]): void => {
    const exits: { op: 'split'; to: number[] }[] = [];
    const fork: { op: 'split'; to: number[] } = { op: 'split', to: [] };
    push(fork);
    for (const item of items) {
      fork.to.push(program.length);
      node(item);
      const exit: { op: 'split'; to: number[] } = { op: 'split', to: [] };
      push(exit);
      exits.push(exit);
    }
    for (const exit of exits) exit.to.push(program.length);
  };
  const repeat = (item: RegexNode, min: number, max: number): void => {
    for (let i = 0; i < min; i++) node(item);
    if (max === Number.POSITIVE_INFINITY) {
      const top = program.length;
      const loop: { op: 'split'; to: number[] } = { op: 'split', to: [top + 1] };
      push(loop);
      node(item);
      push({ op: 'split', to: [top] });
      loop.to.push(program.length);
      return;
    }
    const skips: { op: 'split'; to: number[] }[] = [];
    for (let i = min; i < max; i++) {
      const skip: { op: 'split'; to: number[] } = { op: 'split', to: [program.length + 1] };
      push(skip);
      skips.push(skip);
      node(item);
    }
    for (const skip of skips) skip.to.push(program.length);
  };
  node(root);
  push({ op: 'match' });
  return program;
}

/** Follows all states at once; each is visited at most once per character. */
function run(program: readonly Instruction[], text: string): boolean {
  const seen = new Int32Array(program.length).fill(-1);
  const close = (from: readonly number[], at: number): { chars: number[]; matched: boolean } => {
    const chars: number[] = [];
    let matched = false;
    const stack = [...from];
    for (let state = stack.pop(); state !== undefined; state = stack.pop()) {
      const instruction = program[state];
      if (instruction === undefined || seen[state] === at) continue;
      seen[state] = at;
      if (instruction.op === 'char') chars.push(state);
      else if (instruction.op === 'split') stack.push(...instruction.to);
      else if (instruction.op === 'match') matched = true;
      else if (instruction.op === 'start' ? at === 0 : at === text.length) stack.push(state + 1);
    }
    return { chars, matched };
  };
  let states = close([0], 0);
  for (let at = 0; at < text.length && !states.matched; at++) {
    const code = text.charCodeAt(at);
    const next: number[] = [];
    for (const state of states.chars) {
      const instruction = program[state];
      if (instruction?.op === 'char' && instruction.test(code)) next.push(state + 1);
    }
    if (next.length === 0) return false;
    states = close(next, at + 1);
  }
  return states.matched;
}
