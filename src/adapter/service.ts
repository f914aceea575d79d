import type { Database, Tx } from '../db/client.ts';
import { badCursor, type Page, type PageRequest, requirePageSize, toPage } from '../db/page.ts';
import type { Clock } from '../kernel/clock.ts';
import { PatchbayError } from '../kernel/errors.ts';
import type { Uuid } from '../kernel/ids.ts';
import { findBackbones, listBackbones } from './backbones.ts';
import type { AdapterStateFeed } from './feed.ts';
import { resolveForInference } from './resolve.ts';
import {
  adapterNotFound,
  findAdapter,
  findAdapterNamed,
  findAdapters,
  findLatestVersions,
  findUpload,
  findVersion,
  findVersions,
  requireVersion,
  toAdapters,
  toVersions,
} from './rows.ts';
import type {
  AdapterModel,
  AdapterRef,
  AdapterUploadModel,
  AdapterVersionModel,
  AdapterVisibility,
  BackboneModel,
  ResolvedAdapter,
  UploadTarget,
  VersionState,
} from './types.ts';
import {
  finaliseUpload,
  type OpenUploadInput,
  openUpload,
  type UploadOptions,
  uploadTargets,
} from './uploads.ts';

// Only what a lost notification costs; the feed normally wakes watchers at once.
const WATCH_POLL_MS = 5_000;

/** What the service needs. */
interface AdapterServiceDependencies {
  readonly database: Database;
  readonly clock: Clock;
  readonly feed: AdapterStateFeed;
  /** Told that a version waits for validation, after the transaction that says so is committed. */
  readonly onVersionWaiting: () => void;
}

/** One state of a version, or of the upload that it comes from. */
interface VersionStateEvent {
  readonly state: VersionState;
  readonly version: AdapterVersionModel | null;
}

/**
 * The registry of adapters as a tenant uses it. Permissions, idempotency and audit are the caller's: every writing
 * method takes the caller's transaction of that tenant, so that all of it commits or none.
 */
export class AdapterService {
  readonly #options: UploadOptions;
  readonly #deps: AdapterServiceDependencies;

  constructor(options: UploadOptions, dependencies: AdapterServiceDependencies) {
    this.#options = options;
    this.#deps = dependencies;
  }

  // Reading -------------------------------------------------------------------------------------------------------

  /** An adapter that the tenant may see. */
  get(tenantId: Uuid, id: Uuid): Promise<AdapterModel | null> {
    return this.#read(tenantId, (tx) => findAdapter(tx, id));
  }

  /** Those of the adapters that the tenant may see, in no order. */
  getMany(tenantId: Uuid, ids: readonly Uuid[]): Promise<readonly AdapterModel[]> {
    return this.#read(tenantId, (tx) => findAdapters(tx, ids));
  }

  /** An adapter by name; no owner means the tenant's own. */
  getByName(tenantId: Uuid, owner: string | null, name: string): Promise<AdapterModel | null> {
    return this.#read(tenantId, (tx) => findAdapterNamed(tx, owner, name));
  }

  /** The tenant's adapters, and the public ones of others if asked for, by name. */
  list(tenantId: Uuid, includePublic: boolean, page: PageRequest): Promise<Page<AdapterModel>> {
    requirePageSize(page.first);
    return this.#read(tenantId, async (tx) => {
      const after = page.after === null ? null : await findAdapter(tx, page.after);
      if (page.after !== null && after === null) throw badCursor();
      const rows = toAdapters(
        await tx.$queryRaw`
          SELECT * FROM patchbay.list_adapters(
            ${includePublic}::boolean, ${after?.name ?? null}::text, ${after?.id ?? null}::uuid, ${page.first + 1}::integer)`,
      );
      return toPage(rows, page, (row) => row);
    });
  }

  /** A version that the tenant may see. */
  getVersion(tenantId: Uuid, id: Uuid): Promise<AdapterVersionModel | null> {
    return this.#read(tenantId, (tx) => findVersion(tx, id));
  }

  /** Those of the versions that the tenant may see, in no order. */
  getVersions(tenantId: Uuid, ids: readonly Uuid[]): Promise<readonly AdapterVersionModel[]> {
    return this.#read(tenantId, (tx) => findVersions(tx, ids));
  }

  /** The newest version of an adapter that is ready, on any backbone. */
  async latestVersion(tenantId: Uuid, adapterId: Uuid): Promise<AdapterVersionModel | null> {
    const [found] = await this.latestVersions(tenantId, [adapterId]);
    return found ?? null;
  }

  /** {@link latestVersion} of each adapter that has one to see, in no order. */
  latestVersions(tenantId: Uuid, adapterIds: readonly Uuid[]): Promise<readonly AdapterVersionModel[]> {
    return this.#read(tenantId, (tx) => findLatestVersions(tx, adapterIds));
  }

  /** Versions of an adapter, newest first. */
  listVersions(tenantId: Uuid, adapterId: Uuid, page: PageRequest): Promise<Page<AdapterVersionModel>> {
    requirePageSize(page.first);
    return this.#read(tenantId, async (tx) => {
      const after = page.after === null ? null : await findVersion(tx, page.after);
      if (page.after !== null && after?.adapterId !== adapterId) throw badCursor();
      const rows = toVersions(
        await tx.$queryRaw`
          SELECT * FROM patchbay.list_versions(
            ${adapterId}::uuid, ${after?.number ?? null}::integer, ${page.first + 1}::integer)`,
      );
      return toPage(rows, page, (row) => row);
    });
  }

  /** An upload of the tenant. */
  getUpload(tenantId: Uuid, id: Uuid): Promise<AdapterUploadModel | null> {
    return this.#read(tenantId, (tx) => findUpload(tx, id));
  }

  /** The registry's active backbones, oldest first. */
  backbones(tenantId: Uuid, page: PageRequest): Promise<Page<BackboneModel>> {
    return this.#read(tenantId, (tx) => listBackbones(tx, page));
  }

  /** The active ones of the backbones with these digests, in no order. */
  backbonesOf(tenantId: Uuid, digests: readonly string[]): Promise<readonly BackboneModel[]> {
    return this.#read(tenantId, (tx) => findBackbones(tx, digests));
  }

  /** The versions that a request runs; see `resolveForInference` in resolve.ts. */
  resolveForInference(
    tenantId: Uuid,
    refs: readonly { readonly ref: AdapterRef; readonly weight: number }[],
    backboneDigest: string,
  ): Promise<readonly ResolvedAdapter[]> {
    return this.#read(tenantId, (tx) => resolveForInference(tx, refs, backboneDigest));
  }

  // Writing -------------------------------------------------------------------------------------------------------

  /** Opens an upload; {@link targets} says where its files go. */
  openUpload(tx: Tx, tenantId: Uuid, input: OpenUploadInput): Promise<AdapterUploadModel> {
    return openUpload(tx, { clock: this.#deps.clock, options: this.#options }, tenantId, input);
  }

  /** Where the files of an upload are sent: the same answer each time. */
  targets(upload: AdapterUploadModel): readonly UploadTarget[] {
    return uploadTargets(upload, this.#options);
  }

  /** Closes a complete upload. Call {@link validateSoon} once the transaction is committed. */
  finaliseUpload(tx: Tx, tenantId: Uuid, uploadId: Uuid): Promise<AdapterVersionModel> {
    return finaliseUpload(tx, this.#deps, tenantId, uploadId);
  }

  /** Wakes the validation of this process; without it the next poll or notification does. */
  validateSoon(): void {
    this.#deps.onVersionWaiting();
  }

  /** Makes an own adapter private or public. */
  async setVisibility(
    tx: Tx,
    tenantId: Uuid,
    id: Uuid,
    visibility: AdapterVisibility,
  ): Promise<AdapterModel> {
    const { count } = await tx.adapter.updateMany({ where: { id, tenantId }, data: { visibility } });
    const adapter = count === 0 ? null : await findAdapter(tx, id);
    if (adapter === null) throw adapterNotFound();
    return adapter;
  }

  /** Withdraws an own version that is ready; withdrawing it again changes nothing. */
  async retireVersion(tx: Tx, tenantId: Uuid, id: Uuid): Promise<AdapterVersionModel> {
    const retiredAt = new Date(this.#deps.clock.nowMs());
    await tx.adapterVersion.updateMany({
      where: { id, tenantId, state: 'READY' },
      data: { state: 'RETIRED', retiredAt },
    });
    const version = await requireVersion(tx, id);
    if (version.tenantId !== tenantId) throw adapterNotFound();
    if (version.state !== 'RETIRED') {
      throw new PatchbayError(
        'ADAPTER_NOT_READY',
        `The version is ${version.state}; only a READY one can be retired.`,
      );
    }
    return version;
  }

  // Watching ------------------------------------------------------------------------------------------------------

  /** States of a version from now on, beginning with the present one and ending after a final one. */
  watchVersion(
    tenantId: Uuid,
    target: { readonly uploadId: Uuid } | { readonly versionId: Uuid },
  ): AsyncIterableIterator<VersionStateEvent> {
    const subscription = this.#deps.feed.subscribe(tenantId);
    const states = this.#states(tenantId, target, subscription);
    return {
      [Symbol.asyncIterator]() {
        return this;
      },
      next: () => states.next(),
      // Closing first wakes a pending next, so that a client that leaves is not waited for.
      return: async () => {
        subscription.close();
        await states.return(undefined);
        return { done: true, value: undefined };
      },
    };
  }

  async *#states(
    tenantId: Uuid,
    target: { readonly uploadId: Uuid } | { readonly versionId: Uuid },
    subscription: ReturnType<AdapterStateFeed['subscribe']>,
  ): AsyncGenerator<VersionStateEvent, undefined> {
    let last: VersionState | undefined;
    try {
      while (!subscription.closed) {
        const event = await this.#read(tenantId, (tx) => readState(tx, target));
        if (event.state !== last) yield event;
        last = event.state;
        if (event.state === 'READY' || event.state === 'REJECTED' || event.state === 'RETIRED') return;
        await subscription.wait(WATCH_POLL_MS);
      }
    } finally {
      subscription.close();
    }
  }

  #read<T>(tenantId: Uuid, work: (tx: Tx) => Promise<T>): Promise<T> {
    return this.#deps.database.withTenant(tenantId, work);
  }
}

async function readState(
  tx: Tx,
  target: { readonly uploadId: Uuid } | { readonly versionId: Uuid },
): Promise<VersionStateEvent> {
  let versionId: Uuid;
  if ('uploadId' in target) {
    const upload = await findUpload(tx, target.uploadId);
    if (upload === null) throw new PatchbayError('UPLOAD_NOT_FOUND', 'There is no such upload.');
    if (upload.versionId === null) return { state: 'UPLOADING', version: null };
    versionId = upload.versionId;
  } else {
    versionId = target.versionId;
  }
  const version = await requireVersion(tx, versionId);
  return { state: version.state, version };
}
