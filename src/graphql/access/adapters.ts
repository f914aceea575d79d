import { z } from 'zod';
import type { AdapterService } from '../../adapter/service.ts';
import type {
  AdapterModel,
  AdapterUploadModel,
  AdapterVersionModel,
  AdapterVisibility,
  DeclaredFile,
  UploadTarget,
} from '../../adapter/types.ts';
import { type Principal, requireScope, type Scope } from '../../auth/principal.ts';
import type { Database, Tx } from '../../db/client.ts';
import { hashRequest, type Json, runIdempotent } from '../../db/idempotency.ts';
import type { Page, PageRequest } from '../../db/page.ts';
import type { Clock } from '../../kernel/clock.ts';
import { PatchbayError } from '../../kernel/errors.ts';
import type { Uuid } from '../../kernel/ids.ts';
import { type AuditEntry, auditDenied, type RequestContext, recordAudit } from '../../tenant/audit.ts';

/** An upload as a caller asks for it. */
interface OpenUploadRequest {
  readonly idempotencyKey: string;
  readonly name: string;
  /** Null for the backbone that this server serves. */
  readonly backboneDigest: string | null;
  readonly files: readonly DeclaredFile[];
}

/** What {@link AdapterAccess} works with. */
interface AdapterAccessDependencies {
  readonly adapters: AdapterService;
  readonly database: Database;
  readonly clock: Clock;
  readonly servedBackboneDigest: string;
}

/** What is written, for the audit log. */
interface Change {
  readonly action: string;
  readonly targetType: 'adapter' | 'adapterVersion' | 'upload';
  readonly targetId: Uuid | null;
}

const answerOfOpen = z.object({ uploadId: z.string() });
const answerOfFinalize = z.object({ versionId: z.string() });

/**
 * Adapters as a principal may use them. The registry below knows tenants and transactions; permission, idempotency
 * and audit are added here, in the transaction of the change.
 */
export class AdapterAccess {
  readonly #deps: AdapterAccessDependencies;

  constructor(dependencies: AdapterAccessDependencies) {
    this.#deps = dependencies;
  }

  getMany(principal: Principal, ids: readonly Uuid[]): Promise<readonly AdapterModel[]> {
    return this.#reader(principal).getMany(principal.tenantId, ids);
  }

  getByName(principal: Principal, owner: string | null, name: string): Promise<AdapterModel | null> {
    return this.#reader(principal).getByName(principal.tenantId, owner, name);
  }

  list(principal: Principal, includePublic: boolean, page: PageRequest): Promise<Page<AdapterModel>> {
    return this.#reader(principal).list(principal.tenantId, includePublic, page);
  }

  getVersions(principal: Principal, ids: readonly Uuid[]): Promise<readonly AdapterVersionModel[]> {
    return this.#reader(principal).getVersions(principal.tenantId, ids);
  }

  latestVersions(principal: Principal, adapterIds: readonly Uuid[]): Promise<readonly AdapterVersionModel[]> {
    return this.#reader(principal).latestVersions(principal.tenantId, adapterIds);
  }

  listVersions(principal: Principal, adapterId: Uuid, page: PageRequest): Promise<Page<AdapterVersionModel>> {
    return this.#reader(principal).listVersions(principal.tenantId, adapterId, page);
  }

  getUpload(principal: Principal, id: Uuid): Promise<AdapterUploadModel | null> {
    return this.#reader(principal).getUpload(principal.tenantId, id);
  }

  watchVersion(
    principal: Principal,
    target: { readonly uploadId: Uuid } | { readonly versionId: Uuid },
  ): ReturnType<AdapterService['watchVersion']> {
    return this.#reader(principal).watchVersion(principal.tenantId, target);
  }

  /** Opens an upload. A retry with the same key gets the same upload and the same addresses. */
  async openUpload(
    principal: Principal,
    input: OpenUploadRequest,
    context: RequestContext = {},
  ): Promise<{ readonly upload: AdapterUploadModel; readonly targets: readonly UploadTarget[] }> {
    const { adapters } = this.#deps;
    const { tenantId } = principal;
    const { name, files } = input;
    const backboneDigest = input.backboneDigest ?? this.#deps.servedBackboneDigest;
    const change: Change = { action: 'upload.open', targetType: 'upload', targetId: null };
    await this.#assertMay(principal, 'adapters:write', change, context);
    const declared = files.map((file) => ({ ...file, size: file.size.toString() }));
    const args = { name, backboneDigest: input.backboneDigest, files: declared };
    const { uploadId } = await this.#deps.database.withTenant(tenantId, (tx) =>
      this.#once(tx, principal, 'openAdapterUpload', input.idempotencyKey, args, answerOfOpen, async () => {
        const upload = await adapters.openUpload(tx, tenantId, { name, backboneDigest, files });
        await this.#audit(
          tx,
          principal,
          { ...change, targetId: upload.id },
          { after: { name, files: declared } },
          context,
        );
        return { uploadId: upload.id };
      }),
    );
    const upload = await adapters.getUpload(tenantId, uploadId);
    if (!upload)
      throw new PatchbayError('UPLOAD_NOT_FOUND', 'The upload of this idempotency key has expired.');
    return { upload, targets: adapters.targets(upload) };
  }

  /** Closes an upload and starts validation. */
  async finalizeUpload(
    principal: Principal,
    input: { readonly idempotencyKey: string; readonly uploadId: Uuid },
    context: RequestContext = {},
  ): Promise<AdapterVersionModel> {
    const { adapters } = this.#deps;
    const { tenantId } = principal;
    const { uploadId } = input;
    const change: Change = { action: 'upload.finalize', targetType: 'upload', targetId: uploadId };
    await this.#assertMay(principal, 'adapters:write', change, context);
    const { versionId } = await this.#deps.database.withTenant(tenantId, (tx) =>
      this.#once(
        tx,
        principal,
        'finalizeAdapterUpload',
        input.idempotencyKey,
        { uploadId },
        answerOfFinalize,
        async () => {
          const version = await adapters.finaliseUpload(tx, tenantId, uploadId);
          const states = { before: { versionId: null }, after: { versionId: version.id } };
          await this.#audit(tx, principal, change, states, context);
          return { versionId: version.id };
        },
      ),
    );
    adapters.validateSoon();
    const version = await adapters.getVersion(tenantId, versionId);
    if (!version) throw new PatchbayError('NOT_FOUND', 'The version no longer exists.');
    return version;
  }

  async setVisibility(
    principal: Principal,
    id: Uuid,
    visibility: AdapterVisibility,
    context: RequestContext = {},
  ): Promise<AdapterModel> {
    const { tenantId } = principal;
    const change: Change = { action: 'adapter.setVisibility', targetType: 'adapter', targetId: id };
    await this.#assertMay(principal, 'adapters:write', change, context);
    return this.#deps.database.withTenant(tenantId, async (tx) => {
      const before = await tx.adapter.findFirst({ where: { id, tenantId }, select: { visibility: true } });
      const adapter = await this.#deps.adapters.setVisibility(tx, tenantId, id, visibility);
      if (before !== null && before.visibility !== visibility) {
        await this.#audit(tx, principal, change, { before, after: { visibility } }, context);
      }
      return adapter;
    });
  }

  async retireVersion(
    principal: Principal,
    id: Uuid,
    context: RequestContext = {},
  ): Promise<AdapterVersionModel> {
    const { tenantId } = principal;
    const change: Change = { action: 'adapterVersion.retire', targetType: 'adapterVersion', targetId: id };
    await this.#assertMay(principal, 'adapters:write', change, context);
    return this.#deps.database.withTenant(tenantId, async (tx) => {
      const before = await tx.adapterVersion.findFirst({ where: { id, tenantId }, select: { state: true } });
      const version = await this.#deps.adapters.retireVersion(tx, tenantId, id);
      if (before !== null && before.state !== 'RETIRED') {
        await this.#audit(tx, principal, change, { before, after: { state: 'RETIRED' } }, context);
      }
      return version;
    });
  }

  #reader(principal: Principal): AdapterService {
    requireScope(principal, 'adapters:read');
    return this.#deps.adapters;
  }

  #assertMay(principal: Principal, scope: Scope, change: Change, context: RequestContext): Promise<void> {
    return auditDenied(this.#deps, { ...change, actor: principal, context }, () =>
      requireScope(principal, scope),
    );
  }

  #audit(
    tx: Tx,
    actor: Principal,
    change: Change,
    states: Pick<AuditEntry, 'before' | 'after'>,
    context: RequestContext,
  ): Promise<void> {
    const { tenantId } = actor;
    return recordAudit(tx, this.#deps.clock, { ...change, ...states, tenantId, actor, context });
  }

  async #once<T extends Json>(
    tx: Tx,
    principal: Principal,
    operation: string,
    key: string,
    args: Json,
    codec: z.ZodType<T>,
    work: () => Promise<T>,
  ): Promise<T> {
    const request = {
      scope: { tenantId: principal.tenantId, actor: principal.kind },
      operation,
      key,
      requestHash: hashRequest(args),
    };
    const { value } = await runIdempotent(request, tx, { codec, clock: this.#deps.clock }, work);
    return value;
  }
}
