import { createHash } from 'node:crypto';
import type { Clock } from '../kernel/clock.ts';
import type { ClaimSigner, PayoutClaim } from '../payouts/chain/claims.ts';
import { canonical, type ProofDocument } from './documents.ts';
import { hex } from './log/documents.ts';
import type { DigestSigner } from './log/types.ts';
import { claimDigest } from './typed.ts';

/** Says, signed, what a claim on a chain consists of: `patchbay-claim/1`, which docs/reference/proofs.md specifies. */
export class ClaimDocuments implements ClaimSigner {
  readonly #logId: Uint8Array;
  readonly #deps: { readonly signer: DigestSigner; readonly clock: Clock };

  constructor(
    options: { readonly logId: Uint8Array },
    deps: { readonly signer: DigestSigner; readonly clock: Clock },
  ) {
    this.#logId = options.logId;
    this.#deps = deps;
  }

  async sign(told: Parameters<ClaimSigner['sign']>[0]): Promise<string> {
    const claim = claimMembers(told);
    const signedAt = this.#deps.clock.nowMs();
    const digest = createHash('sha256').update(canonical(claim), 'utf8').digest();
    const signature = await this.#deps.signer.sign(claimDigest(this.#logId, { digest, signedAt }));
    return canonical({
      format: 'patchbay-claim/1',
      log: hex(this.#logId),
      claim,
      signedAt: String(signedAt),
      signature,
    });
  }
}

function claimMembers(told: Omit<PayoutClaim, 'document' | 'otherAccounts'>): ProofDocument {
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
