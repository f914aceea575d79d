import { z } from 'zod';
import { pricingDocument } from './documents.ts';
import { address, hash, signature, u64, uuid } from './texts.ts';

/** The indexes of fields and the number of fields have 16 bits. */
const MOST_FIELDS = 65_535;

/** A path has at most as many hashes as a size has bits; a consistency proof has up to one more. */
export const path = z.array(hash).max(65);

export const signedHead = z.strictObject({ root: hash, size: u64, signedAt: u64, signature });

const openedField = z.strictObject({
  index: z.number().int().min(0).max(MOST_FIELDS),
  name: z.string().max(40),
  salt: hash,
  value: z.string().max(1_000),
});

export const receipt = z.strictObject({
  format: z.literal('patchbay-receipt/1'),
  log: hash,
  id: uuid,
  commitments: z.array(hash).min(1).max(MOST_FIELDS),
  opened: z
    .array(openedField)
    .max(MOST_FIELDS)
    .refine(
      (fields) => fields.every(({ index }, at) => at === 0 || index > (fields[at - 1]?.index ?? index)),
      'must be ascending by index, each once',
    ),
  batch: z.strictObject({ size: u64, index: u64, path, signedAt: u64, signature }),
  inclusion: z.strictObject({ index: u64, path, head: signedHead }).nullable(),
  documents: z.array(pricingDocument).max(MOST_FIELDS),
});

export const keyList = z.strictObject({
  format: z.literal('patchbay-keys/1'),
  log: hash,
  keys: z
    .array(
      z.strictObject({
        address,
        validFrom: u64,
        validUntil: u64.nullable(),
        endorsement: signature.nullable(),
      }),
    )
    .min(1)
    .max(10_000),
});

export const keptHead = z.strictObject({
  format: z.literal('patchbay-head/1'),
  log: hash,
  head: signedHead,
});

export const consistency = z.strictObject({
  format: z.literal('patchbay-consistency/1'),
  log: hash,
  first: u64,
  second: u64,
  path,
  firstHead: signedHead,
  secondHead: signedHead,
});

export type SignedHead = z.infer<typeof signedHead>;
export type OpenedField = z.infer<typeof openedField>;
export type Receipt = z.infer<typeof receipt>;
export type KeyList = z.infer<typeof keyList>;
export type KeptHead = z.infer<typeof keptHead>;
export type Consistency = z.infer<typeof consistency>;
