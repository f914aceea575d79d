import type { AdapterLimits } from '../adapter/limits.ts';
import type { Config } from '../config/index.ts';
import type { PackedAdapter } from '../engine/runner.ts';
import type { PublicError } from '../kernel/errors.ts';
import type { ModelShape } from '../kernel/model.ts';

/** What a loader thread is started with. */
export interface LoaderWorkerData {
  /** Root of the blob store on disk. */
  readonly storeRoot: string;
  readonly shape: ModelShape;
  readonly backboneDigest: string;
  readonly limits: AdapterLimits;
  readonly pageRank: number;
  readonly log: Config['log'];
}

export interface LoadRequest {
  readonly id: number;
  readonly digest: string;
}

export type LoadReply =
  | { readonly id: number; readonly adapter: PackedAdapter }
  | { readonly id: number; readonly error: PublicError };
