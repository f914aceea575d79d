import { shown } from '../shown.ts';
import { InputError } from './errors.ts';

/** No document of ours nests deeper than this by far. */
const DEEPEST = 16;

/**
 * Reads JSON as strictly as a proof needs it: UTF-8 without errors and without a byte order mark, a bounded depth, and no
 * member twice, because two readers could then see two documents in one text.
 */
export function parseJson(bytes: Uint8Array, name: string): unknown {
  let text: string;
  try {
    text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw notJson(name, 'it is not UTF-8');
  }
  refuseAmbiguous(text, name);
  try {
    return JSON.parse(text);
  } catch {
    throw notJson(name, 'it cannot be parsed');
  }
}

/** Walks over the text once. What it makes of a text that is not JSON does not matter: the parser refuses that. */
function refuseAmbiguous(text: string, name: string): void {
  const open: Set<string>[] = [];
  for (let at = 0; at < text.length; at++) {
    const character = text[at];
    if (character === '{' || character === '[') {
      open.push(new Set());
      if (open.length > DEEPEST) throw notJson(name, `it nests deeper than ${DEEPEST}`);
    } else if (character === '}' || character === ']') {
      open.pop();
    } else if (character === '"') {
      const end = endOfString(text, at);
      if (isName(text, end)) noteMember(open.at(-1), text.slice(at, end + 1), name);
      at = end;
    }
  }
}

/** Whether a colon follows the string that ends there. */
function isName(text: string, end: number): boolean {
  const colon = /[ \t\r\n]*:/y;
  colon.lastIndex = end + 1;
  return colon.test(text);
}

function noteMember(members: Set<string> | undefined, token: string, name: string): void {
  let member: unknown;
  try {
    member = JSON.parse(token);
  } catch {
    throw notJson(name, 'it cannot be parsed');
  }
  if (members === undefined || typeof member !== 'string') throw notJson(name, 'it cannot be parsed');
  if (members.has(member)) throw notJson(name, `it has the member ${shown(member)} twice`);
  members.add(member);
}

/** Where the closing quotation mark is; the end of the text when there is none. */
function endOfString(text: string, start: number): number {
  for (let at = start + 1; at < text.length; at++) {
    if (text[at] === '\\') at++;
    else if (text[at] === '"') return at;
  }
  return text.length;
}

function notJson(name: string, why: string): InputError {
  return new InputError(
    'PROOF_UNREADABLE',
    `${name} is not JSON that can be relied on: ${why}.`,
    'Give the file as it was handed out.',
  );
}
