import { PatchbayError } from '../kernel/errors.ts';

const NAME_CHARS_MAX = 200;

/** Throws BAD_INPUT unless the text can be the name of something: 1 to 200 characters that print. */
export function requireName(text: string, field: string): void {
  const length = [...text].length;
  if (text.trim() !== '' && length <= NAME_CHARS_MAX && !/\p{Cc}/u.test(text)) return;
  throw new PatchbayError(
    'BAD_INPUT',
    `The name must be 1 to ${NAME_CHARS_MAX} characters, none of them a control character.`,
    { field },
  );
}
