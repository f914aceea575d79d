import { sha256 } from './bytes.ts';

/** What our documents are made of: no number, nothing that has two spellings. */
export type Plain = string | null | readonly Plain[] | { readonly [name: string]: Plain };

/** Canonical JSON of RFC 8785: members sorted by UTF-16 code units, no spaces. */
export function canonicalJson(value: Plain): string {
  if (typeof value === 'string' || value === null) return JSON.stringify(value);
  if (isList(value)) return `[${value.map(canonicalJson).join(',')}]`;
  const members = Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1));
  return `{${members.map(([name, member]) => `${JSON.stringify(name)}:${canonicalJson(member)}`).join(',')}}`;
}

/** The digest by which a document, or a signed member of one, is named. */
export function digestOf(document: Plain): string {
  return sha256(canonicalJson(document));
}

function isList(value: Plain): value is readonly Plain[] {
  return Array.isArray(value);
}
