import { weightOf } from './fields.ts';
import { everyPart, type View } from './view.ts';

/** What a receipt says that the engine executed. */
export interface Executed {
  /** Digest of the backbone. */
  readonly backbone: string;
  /** Digests and weights of the adapter versions in the order of the parts; none for the plain backbone. */
  readonly adapters: readonly { readonly digest: string; readonly weight: number }[];
  /** How it ended; null when that is not open. */
  readonly finish: string | null;
}

/** Reads it off the open fields, or says which of them is missing. */
export function executedOf(view: View): Executed | string {
  const backbone = view.request('backbone');
  if (backbone === undefined) return 'backbone is not open';
  const versions = everyPart(view, 'version');
  const digests = everyPart(view, 'digest');
  const weights = everyPart(view, 'weight');
  if (versions === undefined || digests === undefined || weights === undefined) {
    return 'version, digest and weight of every part are not open';
  }
  const finish = view.request('finish') ?? null;
  if (versions.every((version) => version === '')) return { backbone, adapters: [], finish };
  const adapters = digests.map((digest, part) => ({ digest, weight: weightOf(weights[part] ?? '') }));
  const idle = adapters.findIndex(({ digest, weight }) => digest === '' || weight === 0);
  return idle === -1 ? { backbone, adapters, finish } : `the engine did not execute part ${idle}`;
}
