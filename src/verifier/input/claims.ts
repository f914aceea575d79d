import { z } from 'zod';
import {
  amount,
  currency,
  decimal,
  hash,
  MAX_U64,
  signature,
  u64,
  uuid,
  word,
  writtenAddress,
} from './texts.ts';

const MAX_U256 = 2n ** 256n - 1n;
const chainId = decimal(MAX_U256, 1n);
/** What a token says of itself has eight bits. */
const decimals = decimal(255n);

export const claim = z.strictObject({
  format: z.literal('patchbay-claim/1'),
  log: hash,
  claim: z.strictObject({
    tenant: uuid,
    chainId,
    distributor: writtenAddress,
    token: writtenAddress,
    decimals,
    currency,
    sequence: decimal(MAX_U64, 1n),
    root: word,
    account: writtenAddress,
    cumulative: decimal(MAX_U256),
    proof: z.array(word).max(256),
    payouts: z.array(z.strictObject({ payout: uuid, amount, earnedBefore: u64 })).max(100_000),
    rest: amount,
  }),
  signedAt: u64,
  signature,
});

export const chain = z.strictObject({
  format: z.literal('patchbay-chain/1'),
  log: hash,
  chainId: chainId.nullable(),
  anchor: writtenAddress.nullable(),
  distributor: writtenAddress.nullable(),
  token: writtenAddress.nullable(),
  decimals: decimals.nullable(),
});

export type Claim = z.infer<typeof claim>;
export type Chain = z.infer<typeof chain>;
