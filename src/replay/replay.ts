import { type BackboneSource, readAdapters, withBackbone } from './model.ts';
import { type ReplayedRequest, type ReplayRun, type ReplaySettings, replayRequest } from './run.ts';

export type { Place } from './following-sampler.ts';
export type { ReplayRun } from './run.ts';

/** What a receipt names, where its weights are said to be, and what is to be run again. */
export interface ReplayOptions extends ReplaySettings, ReplayedRequest {
  /** Digest of the backbone as the receipt names it. */
  readonly backbone: string;
  readonly source: BackboneSource;
  /** As many folders as {@link ReplayedRequest.uses}, in any order. */
  readonly adapterDirs: readonly string[];
}

/** Digests of the files, and what the run came to. */
export interface Replay {
  readonly backbone: string;
  /** Of the adapter folders in their order; empty when the backbone is another. */
  readonly adapters: readonly string[];
  /** Null when the files are not those that the receipt names. */
  readonly run: ReplayRun | null;
}

/** Runs a request again on the weights that its receipt names, if the files hold those. */
export async function replay(options: ReplayOptions): Promise<Replay> {
  return withBackbone(options.source, async (backbone) => {
    const { digest, shape } = backbone.manifest;
    if (digest !== options.backbone) return { backbone: digest, adapters: [], run: null };
    const adapters = await readAdapters(options.adapterDirs, shape, digest);
    const digests = adapters.map((adapter) => adapter.digest);
    const missing = options.uses.some((use) => !digests.includes(use.digest));
    const run = missing ? null : await replayRequest(backbone, adapters, options, options);
    return { backbone: digest, adapters: digests, run };
  });
}
