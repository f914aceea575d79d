import type { PublicError } from '../kernel/errors.ts';
import type { Uuid } from '../kernel/ids.ts';
import type { ModelShape } from '../kernel/model.ts';
import type { AdapterFileName } from './limits.ts';

/** Where a version is in its life. UPLOADING is the state of an upload that is not finalised. */
export type VersionState = 'UPLOADING' | 'VALIDATING' | 'READY' | 'REJECTED' | 'RETIRED';

/** Who may invoke an adapter. */
export type AdapterVisibility = 'PRIVATE' | 'PUBLIC';

/** A backbone of the registry. */
export interface BackboneModel {
  readonly id: Uuid;
  readonly name: string;
  readonly digest: string;
  readonly shape: ModelShape;
  readonly state: 'ACTIVE' | 'RETIRED';
}

/** An adapter as its viewer sees it. */
export interface AdapterModel {
  readonly id: Uuid;
  readonly tenantId: Uuid;
  readonly name: string;
  /** Slug of the owning tenant. */
  readonly owner: string;
  readonly visibility: AdapterVisibility;
  readonly createdAt: Date;
}

/** A version as its viewer sees it. Facts are null until validation knows them. */
export interface AdapterVersionModel {
  readonly id: Uuid;
  readonly tenantId: Uuid;
  readonly adapterId: Uuid;
  readonly number: number;
  readonly state: Exclude<VersionState, 'UPLOADING'>;
  readonly digest: string | null;
  readonly backboneDigest: string;
  readonly rank: number | null;
  readonly modules: number | null;
  readonly targets: readonly string[];
  readonly parameters: bigint | null;
  readonly bytes: bigint | null;
  readonly rejection: PublicError | null;
  readonly createdAt: Date;
  readonly readyAt: Date | null;
  readonly retiredAt: Date | null;
}

/** One file of an upload and how far it is. */
interface UploadFileModel {
  readonly id: Uuid;
  readonly name: AdapterFileName;
  readonly size: bigint;
  readonly sha256: string;
  readonly received: bigint;
  readonly complete: boolean;
}

/** An upload as its owner sees it. */
export interface AdapterUploadModel {
  readonly id: Uuid;
  readonly adapterId: Uuid;
  readonly state: VersionState;
  readonly files: readonly UploadFileModel[];
  readonly expiresAt: Date;
  readonly versionId: Uuid | null;
}

/** Where one file of an upload is sent. */
export interface UploadTarget {
  readonly name: AdapterFileName;
  readonly url: string;
  /** For `Authorization: Bearer`. */
  readonly token: string;
}

/** A file that a client declares before it sends it. */
export interface DeclaredFile {
  readonly name: string;
  readonly size: bigint;
  readonly sha256: string;
}

/** How a request names an adapter. */
export type AdapterRef =
  | { readonly kind: 'adapter'; readonly id: Uuid; readonly version: number | null }
  | { readonly kind: 'version'; readonly id: Uuid }
  | {
      readonly kind: 'name';
      /** Slug of the owner; null for the caller's own. */
      readonly owner: string | null;
      readonly name: string;
      readonly version: number | null;
    };

/** A version that the caller may run. */
export interface ResolvedAdapter {
  readonly versionId: Uuid;
  readonly adapterId: Uuid;
  readonly ownerTenantId: Uuid;
  readonly digest: string;
  readonly weight: number;
}

/** The outcome of running a canary prompt with and without an adapter. */
export interface EffectProbe {
  probe(
    digest: string,
    promptIds: readonly number[],
  ): Promise<{ readonly finite: boolean; readonly maxAbsDifference: number }>;
}
