import { z } from 'zod';
import { PatchbayError } from '../kernel/errors.ts';

const adapterSchema = z.strictObject({
  /** Folder of a PEFT adapter, relative to the input file's folder. */
  path: z.string().min(1),
  weight: z.number().default(1),
});

const lineSchema = z
  .strictObject({
    custom_id: z.string(),
    prompt: z.string().optional(),
    prompt_ids: z.array(z.number().int().nonnegative()).optional(),
    adapters: z.array(adapterSchema).default([]),
    max_tokens: z.number().int().positive().default(16),
    temperature: z.number().default(0),
    top_p: z.number().default(1),
    top_k: z.number().int().default(0),
    min_p: z.number().default(0),
    repetition_penalty: z.number().default(1),
    seed: z.number().int().nonnegative().default(0),
    stop: z.array(z.string()).default([]),
    ignore_eos: z.boolean().default(false),
  })
  .refine(({ prompt, prompt_ids }) => (prompt === undefined) !== (prompt_ids === undefined), {
    message: 'exactly one of prompt and prompt_ids is needed',
    path: ['prompt'],
  });

/** One request of a batch file. */
export type BatchLine = z.infer<typeof lineSchema>;

/** What is known of a line even when it is refused. */
export interface ParsedLine {
  readonly customId: string | null;
  readonly line: BatchLine | PatchbayError;
}

/** Parses a line of a batch file; a bad one becomes an error with the field to blame, never an exception. */
export function parseLine(text: string): ParsedLine {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    return { customId: null, line: new PatchbayError('BAD_INPUT', 'The line is not valid JSON.', { cause }) };
  }
  const parsed = lineSchema.safeParse(value);
  if (parsed.success) return { customId: parsed.data.custom_id, line: parsed.data };
  const issue = parsed.error.issues[0];
  const unknownKey = issue?.code === 'unrecognized_keys' ? issue.keys[0] : undefined;
  const field = unknownKey ?? issue?.path.join('.') ?? '';
  const message = `The line is malformed: ${field === '' ? '' : `${field}: `}${issue?.message ?? 'not an object'}.`;
  return {
    customId: idOf(value),
    line: new PatchbayError('BAD_INPUT', message, field === '' ? {} : { field }),
  };
}

function idOf(value: unknown): string | null {
  if (typeof value !== 'object' || value === null || !('custom_id' in value)) return null;
  return typeof value.custom_id === 'string' ? value.custom_id : null;
}
