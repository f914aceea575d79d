import { getAddress } from 'ethers';
import { digestOf } from '../hashing/canonical.ts';
import { payoutLeaf, payoutRoot } from '../hashing/payouts.ts';
import type { Chain, Claim } from '../input/claims.ts';
import { sum } from '../pricing/arithmetic.ts';
import { judged, type Step } from '../step.ts';
import { checkSigner, type Trust } from './keys.ts';

/** Nano-units have nine decimals. */
const NANO_DECIMALS = 9n;

/** Checks a claim by itself: its signature, its leaf and its sums. */
export function checkClaim({ log, claim, signedAt, signature }: Claim, trust: Trust): readonly Step[] {
  const values = { digest: `0x${digestOf(claim)}`, signedAt };
  const root = payoutRoot(payoutLeaf(claim), claim.proof);
  const treeFaults = root === claim.root ? [] : [`its leaf leads to ${root}, but the root is ${claim.root}`];
  return [
    checkSigner('claim.signature', trust, { message: { log, type: 'PayoutClaim', values }, signature }),
    judged(
      'claim.tree',
      treeFaults,
      `account ${claim.account} with ${claim.cumulative} in all leads to the root ${claim.root} of tree ${claim.sequence}`,
    ),
    checkPayouts(claim),
  ];
}

function checkPayouts({ payouts, decimals, cumulative, rest, currency }: Claim['claim']): Step {
  const total = sum(payouts.map(({ amount }) => BigInt(amount)));
  const { units, left } = inUnits(total, BigInt(decimals));
  const wrong: string[] = [];
  if (new Set(payouts.map(({ payout }) => payout)).size < payouts.length)
    wrong.push('a payout is listed twice');
  if (rest !== String(left)) wrong.push(`rounding ${total} down leaves ${left}, not ${rest}`);
  if (BigInt(cumulative) < units)
    wrong.push(`the payouts are ${units} in the token's units, but only ${cumulative} can be claimed`);
  const others = BigInt(cumulative) - units;
  const more = others > 0n ? `, and ${others} of others with the same account` : '';
  return judged(
    'claim.payouts',
    wrong,
    `${payouts.length} payouts of ${currency} ${total} are ${units} in the token's units, ${left} carried${more}`,
  );
}

/** Nano-units in a token's smallest unit, rounded down, and what is left. */
export function inUnits(nano: bigint, decimals: bigint): { readonly units: bigint; readonly left: bigint } {
  if (decimals >= NANO_DECIMALS) return { units: nano * 10n ** (decimals - NANO_DECIMALS), left: 0n };
  const unit = 10n ** (NANO_DECIMALS - decimals);
  return { units: nano / unit, left: nano % unit };
}

/** Compares a claim with where the contracts are said to be. */
export function checkAgainstChain({ claim }: Claim, chain: Chain): Step {
  const wrong: string[] = [];
  if (chain.chainId !== null && chain.chainId !== claim.chainId)
    wrong.push(`it is for chain ${claim.chainId}, not ${chain.chainId}`);
  if (chain.decimals !== null && chain.decimals !== claim.decimals) {
    wrong.push(`it counts with ${claim.decimals} decimals, not ${chain.decimals}`);
  }
  for (const name of ['distributor', 'token'] as const) {
    const named = chain[name];
    if (named !== null && !sameAddress(named, claim[name]))
      wrong.push(`its ${name} is ${claim[name]}, not ${named}`);
  }
  return judged(
    'claim.chain',
    wrong,
    `chain ${claim.chainId}, distributor and token are those of the chain's document`,
  );
}

export function sameAddress(one: string, other: string): boolean {
  return getAddress(one.toLowerCase()) === getAddress(other.toLowerCase());
}
