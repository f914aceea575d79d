import type { ClaimMembers, PayoutClaim } from './claims.ts';

/** What a claim consists of, as the member `claim` of its document: docs/reference/proofs.md. */
export function claimMembers(
  told: Omit<PayoutClaim, 'document' | 'otherAccounts' | 'otherDistributors'>,
): ClaimMembers {
  return {
    tenant: told.tenantId,
    chainId: String(told.chainId),
    distributor: told.distributor,
    token: told.token,
    decimals: String(told.decimals),
    currency: told.currency,
    sequence: String(told.sequence),
    root: told.root,
    account: told.account,
    cumulative: String(told.cumulative),
    proof: told.proof,
    payouts: told.payouts.map(({ payoutId, amountNano, earnedBefore }) => ({
      payout: payoutId,
      amount: String(amountNano),
      earnedBefore: String(earnedBefore.getTime()),
    })),
    rest: String(told.restNano),
  };
}
