import { z } from 'zod';
import { ERROR_CODES } from '../../kernel/codes.ts';
import type { OpenTransaction } from './types.ts';

/** Columns of a transaction that is not at its end, for {@link toOpen}; a join of its nonce as `n` follows. */
export const OPEN_COLUMNS = `
SELECT t.id, t.purpose, t.recipient, '0x' || encode(t.data, 'hex') AS data, t.value_wei::text, t.state, t.block_number::text,
       t.block_hash, t.succeeded, t.problem_code, t.problem, n.nonce::text, n.gas::text,
       coalesce((SELECT json_agg(json_build_object(
           'hash', a.hash, 'number', a.number, 'raw', '0x' || encode(a.signed, 'hex'), 'maxFee', a.max_fee_wei::text,
           'priorityFee', a.priority_fee_wei::text, 'signedAtMs', round(extract(epoch FROM a.signed_at) * 1000))
           ORDER BY a.number)
         FROM chain_attempt a WHERE a.chain_id = n.chain_id AND a.account = n.account AND a.nonce = n.nonce), '[]') AS attempts
FROM chain_transaction t`;

/** A row of {@link OPEN_COLUMNS}. */
export type OpenRow = Readonly<Record<string, unknown>>;

const whole = z
  .string()
  .regex(/^\d+$/)
  .transform(Number)
  .refine((value) => Number.isSafeInteger(value));
const amount = z.string().regex(/^\d+$/).transform(BigInt);
const isCode = (text: string): text is keyof typeof ERROR_CODES => Object.hasOwn(ERROR_CODES, text);

const stored = {
  id: z.string(),
  purpose: z.string(),
  recipient: z.string(),
  data: z.string(),
  value_wei: amount,
  problem_code: z.string().refine(isCode).nullable(),
  problem: z.string().nullable(),
};
const attempt = z
  .object({
    hash: z.string(),
    number: z.int(),
    raw: z.string(),
    maxFee: amount,
    priorityFee: amount.nullable(),
    signedAtMs: z.int(),
  })
  .transform(({ maxFee, priorityFee, ...rest }) => ({ ...rest, fees: { maxFee, priorityFee } }));
const given = { nonce: whole, gas: amount, attempts: z.array(attempt).min(1) };

const openRow = z.discriminatedUnion('state', [
  z.object({ state: z.literal('QUEUED'), ...stored }),
  z.object({ state: z.literal('SIGNED'), ...stored, ...given }),
  z.object({
    state: z.literal('INCLUDED'),
    ...stored,
    ...given,
    block_number: whole,
    block_hash: z.string(),
    succeeded: z.boolean(),
  }),
]);

/** A transaction that is not at its end, as it is stored. */
export function toOpen(row: OpenRow): OpenTransaction {
  const parsed = openRow.parse(row);
  const { id, purpose, recipient: to, data, value_wei: value, problem_code: code, problem: message } = parsed;
  const problem = code === null || message === null ? null : { code, message };
  const common = { id, purpose, call: { to, data }, value, problem };
  if (parsed.state === 'QUEUED') return { state: parsed.state, ...common };
  const { nonce, gas, attempts } = parsed;
  if (parsed.state === 'SIGNED') return { state: parsed.state, ...common, nonce, gas, attempts };
  const { succeeded, block_number: number, block_hash: hash } = parsed;
  return { state: parsed.state, ...common, nonce, gas, attempts, block: { number, hash }, succeeded };
}
