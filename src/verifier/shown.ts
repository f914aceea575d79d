const LONGEST = 100;

/**
 * A text of unknown origin as it can be printed: in quotes, cut, and everything but printable ASCII escaped, so that
 * it cannot command a terminal or turn a line around.
 */
export function shown(text: string): string {
  const cut = text.length > LONGEST ? `${text.slice(0, LONGEST)}…` : text;
  const quoted = JSON.stringify(cut).replaceAll(
    /[^ -~…]/g,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
  return quoted;
}

/** A number or a fraction that may have hundreds of digits, as it fits on a line. */
export function brief(text: string): string {
  return text.length > LONGEST ? `${text.slice(0, LONGEST / 2)}… (${text.length} digits)` : text;
}

/** The beginning of a hash, enough for a person to compare. */
export function short(hash: string): string {
  return `${hash.slice(0, 12)}…`;
}
