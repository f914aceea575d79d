import { z } from 'zod';
import { path, signedHead } from './formats.ts';
import { amount, currency, decimal, hash, isDecimal, MAX_U64, signature, u64, uuid } from './texts.ts';

/** A document has at most 8 MiB, so that no list has more items than this. */
const MOST_ITEMS = 200_000;

const positive = decimal(MAX_U64, 1n);

const quarantined = z.strictObject({
  request: hash,
  leaf: hash.nullable(),
  reason: z.enum(['ENGINE_DIFFERS', 'CAPTURE_DIFFERS', 'LEAF_DIFFERS', 'RECORD_MISSING', 'LEAF_MISSING']),
});

const released = z.strictObject({ request: hash, leaf: hash.nullable(), epoch: positive });

export const epoch = z.strictObject({
  format: z.literal('patchbay-epoch/1'),
  log: hash,
  epoch: z.strictObject({
    number: positive,
    firstSize: u64,
    size: u64,
    root: hash,
    closedAt: u64,
    previous: hash,
    accounts: z.strictObject({ root: hash, size: u64 }),
    receipts: u64,
    quarantined: z.array(quarantined).max(MOST_ITEMS),
    released: z.array(released).max(MOST_ITEMS),
  }),
  head: signedHead,
  signedAt: u64,
  signature,
});

/** `13-19`, or `21` for a single one. */
const range = z
  .string()
  .max(41)
  .refine(isRange, 'must be a number from 1, or two of them, ascending, with a hyphen');

function isRange(text: string): boolean {
  const [first = '', last, ...more] = text.split('-');
  if (more.length > 0 || !isDecimal(first, MAX_U64, 1n)) return false;
  return last === undefined || (isDecimal(last, MAX_U64, 1n) && BigInt(first) < BigInt(last));
}

const lane = z.strictObject({
  lane: decimal(2n ** 32n - 1n),
  last: u64,
  numbers: z.array(range).max(MOST_ITEMS),
});

const counted = {
  subject: uuid,
  lanes: z.array(lane).max(MOST_ITEMS),
  receipts: u64,
  promptTokens: amount,
  cachedPromptTokens: amount,
  completionTokens: amount,
  documents: z.array(hash).max(MOST_ITEMS),
};

const tenantAccount = z.strictObject({
  kind: z.literal('tenant'),
  ...counted,
  charged: z.array(z.strictObject({ currency, amount })).max(MOST_ITEMS),
});

const versionAccount = z.strictObject({
  kind: z.literal('version'),
  ...counted,
  owner: uuid,
  royalties: z
    .array(
      z.strictObject({
        currency,
        royalty: amount,
        fee: amount,
        earned: z.array(z.strictObject({ tenant: uuid, amount })).max(MOST_ITEMS),
      }),
    )
    .max(MOST_ITEMS),
});

const neighbour = z.strictObject({ index: u64, key: hash, commitment: hash, path });

export const statement = z
  .strictObject({
    format: z.literal('patchbay-statement/1'),
    log: hash,
    epoch: positive,
    kind: z.enum(['tenant', 'version']),
    subject: uuid,
    present: z
      .strictObject({
        salt: hash,
        account: z.discriminatedUnion('kind', [tenantAccount, versionAccount]),
        index: u64,
        path,
      })
      .nullable(),
    absent: z.strictObject({ before: neighbour.nullable(), after: neighbour.nullable() }).nullable(),
  })
  .refine(
    ({ present, absent }) => (present === null) !== (absent === null),
    'must say either that the account is present or that it is absent',
  );

export type Epoch = z.infer<typeof epoch>;
export type Statement = z.infer<typeof statement>;
export type Account = z.infer<typeof tenantAccount> | z.infer<typeof versionAccount>;
export type VersionAccount = z.infer<typeof versionAccount>;
export type Neighbour = z.infer<typeof neighbour>;
