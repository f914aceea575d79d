import { createHash } from 'node:crypto';
import type { Clock } from '../kernel/clock.ts';
import { canonical, type ProofDocument } from './documents.ts';
import { hex } from './log/documents.ts';
import type { DigestSigner } from './log/types.ts';
import { claimDigest } from './typed.ts';

/** Signs what a claim on a chain consists of: `patchbay-claim/1`, which docs/reference/proofs.md specifies. */
export class ClaimDocuments {
  readonly #logId: Uint8Array;
  readonly #deps: { readonly signer: DigestSigner; readonly clock: Clock };

  constructor(
    options: { readonly logId: Uint8Array },
    deps: { readonly signer: DigestSigner; readonly clock: Clock },
  ) {
    this.#logId = options.logId;
    this.#deps = deps;
  }

  /** The document as text, around its member `claim`. */
  async sign(claim: ProofDocument): Promise<string> {
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
