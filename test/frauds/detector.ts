import { checkOnChain } from '../../src/verifier/chain/checks.ts';
import type { ChainView } from '../../src/verifier/chain/view.ts';
import { audit } from '../../src/verifier/findings/audit.ts';
import type { Finding, FindingCode } from '../../src/verifier/findings/finding.ts';
import { isVerified } from '../../src/verifier/report.ts';
import { examined } from '../unit/verifier/bundles.ts';
import { type Documents, without } from './scenario.ts';

/** Who looks, with what. */
export interface Detector {
  readonly documents: Documents;
  readonly kept?: Documents;
  readonly account?: string;
  readonly epoch?: number;
  /** A chain, when one is asked. */
  readonly chain?: ChainView;
  /** Whether only the bundle says where the contracts are. */
  readonly unnamed?: true;
}

export interface Fraud {
  readonly name: string;
  readonly plant: () => Promise<Detector>;
  readonly code: FindingCode;
  readonly convinces: Finding['convinces'];
  /** Documents that the finding must name as its evidence. */
  readonly evidence: readonly string[];
  /** What the detector must hold: without any one of these, the fraud is not found. */
  readonly needs: readonly (string | readonly string[])[];
  /** Whether nothing at all is found without the first of them. */
  readonly silent?: true;
}

export async function findingsOf({
  documents,
  kept = {},
  account,
  epoch = 1,
  chain,
  unnamed,
}: Detector): Promise<readonly Finding[]> {
  const { sections, found } = await examined(documents, { kept });
  const all = [...sections];
  if (chain !== undefined) {
    const { epochs, claims } = found;
    const on = {
      epochs: epochs.epochs.values(),
      claims,
      chains: found.dossier.chains,
      anchor: unnamed ? null : `0x${'a0'.repeat(20)}`,
      distributor: unnamed ? null : `0x${'d1'.repeat(20)}`,
    };
    for await (const section of checkOnChain(on, chain)) all.push(section);
  }
  const wrong = all.filter(({ steps }) => !isVerified(steps));
  return audit(found, wrong, { epoch: BigInt(epoch), account: account ?? null }).findings;
}

/** The detector without a document, a kept head, the account or the chain. */
export function deprived(detector: Detector, what: string | readonly string[]): Detector {
  const names = typeof what === 'string' ? [what] : what;
  const { account, chain, ...rest } = detector;
  return {
    ...rest,
    documents: without(detector.documents, ...names),
    kept: names.includes('kept') ? {} : (detector.kept ?? {}),
    ...(account === undefined || names.includes('account') ? {} : { account }),
    ...(chain === undefined || names.includes('chain') ? {} : { chain }),
  };
}
