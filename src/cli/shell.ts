/** A text as one word for a POSIX shell, whatever is in it. */
export function singleQuote(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}

/** {@link singleQuote} where the shell would otherwise see more than plain characters. */
export function shellWord(text: string): string {
  return /^[\w./:@-]+$/.test(text) ? text : singleQuote(text);
}
