import { z } from 'zod';
import { type NamedBytes, read } from './read.ts';
import { hash, uuid } from './texts.ts';

/** More than any context has; a file of this many ids is near the largest that is read. */
const MOST_TOKENS = 1_000_000;

const tokenId = z
  .number()
  .int()
  .min(0)
  .max(2 ** 32 - 1);
const tokens = z.array(tokenId).max(MOST_TOKENS);

const disclosure = z.strictObject({
  format: z.literal('patchbay-disclosure/1'),
  id: uuid,
  salt: hash,
  prompt: tokens,
  output: tokens,
  sampling: z.strictObject({
    temperature: z.number().min(0).max(2),
    repetitionPenalty: z.number().positive().max(100),
  }),
  stop: z.strictObject({
    maxTokens: z.number().int().min(1).max(MOST_TOKENS),
    strings: z.array(z.string().min(1).max(256)).max(16),
    tokenIds: z.array(tokenId).max(128),
    ignoreEos: z.boolean(),
  }),
});

/** What a tenant shows of a request: its tokens, and what decided which they are. */
export type Disclosure = z.infer<typeof disclosure>;

export const readDisclosure = (source: NamedBytes): Disclosure => read(source, disclosure);
