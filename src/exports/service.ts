import { z } from 'zod';
import { type Actor, reaches, requireScope } from '../auth/principal.ts';
import type { Database, Tx } from '../db/client.ts';
import { hashRequest, runIdempotent } from '../db/idempotency.ts';
import { keyset, type Page, type PageRequest, toPage } from '../db/page.ts';
import { PLATFORM_TENANT_ID } from '../db/platform.ts';
import type { Clock } from '../kernel/clock.ts';
import { PatchbayError } from '../kernel/errors.ts';
import { isUuid, newId, type Uuid } from '../kernel/ids.ts';
import { auditDenied, type RequestContext, recordAudit } from '../tenant/audit.ts';
import { requireFormat } from './format.ts';
import { closeRange } from './range.ts';
import { type ExportModel, toExport } from './rows.ts';
import { requireSource, SOURCE_NAMES, SOURCES, type SourceName } from './sources.ts';
import { signedUrl } from './url.ts';

/** What is to be exported. */
export interface CreateExportInput {
  readonly idempotencyKey: string;
  readonly source: string;
  readonly format: string;
  readonly from: Date;
  readonly to: Date;
  /** Null for the actor's own tenant; for an operator, all tenants. */
  readonly tenantId: Uuid | null;
}

/** How exports are offered. */
export interface ExportOptions {
  /** Exports of a tenant that may wait or run, and whose files may be kept, at the same time. */
  readonly activeMax: number;
  readonly keptMax: number;
  /** How long an address opens a file. */
  readonly urlTtlMs: number;
  /** See range.ts; for tests. */
  readonly settleMs?: number;
  /** The secret that addresses are signed with. */
  readonly secret: string;
  /** Base of addresses; known once the server listens. */
  readonly baseUrl: () => string;
}

interface ExportDependencies {
  readonly database: Database;
  readonly clock: Clock;
  /** Called when there is something new to write. */
  readonly onCreated?: () => void;
}

const answer = z.object({ exportId: z.string() });

/** Exports as principals ask for them. The files are written by {@link ExportQueue}. */
export class ExportService {
  readonly #options: ExportOptions;
  readonly #deps: ExportDependencies;

  constructor(options: ExportOptions, dependencies: ExportDependencies) {
    this.#options = options;
    this.#deps = dependencies;
  }

  /** Asks for an export. Its range ends where it is still open. */
  async create(actor: Actor, input: CreateExportInput, context: RequestContext = {}): Promise<ExportModel> {
    const { clock, database, onCreated } = this.#deps;
    const { name, source } = requireSource(input.source);
    const format = requireFormat(input.format);
    const action = { actor, action: 'export.create', targetType: 'export', targetId: null, context };
    await auditDenied(this.#deps, action, () => requireScope(actor, source.scope));
    const ofTenantId = input.tenantId ?? (actor.kind === 'TENANT' ? actor.tenantId : null);
    if (ofTenantId !== null && !reaches(actor, ofTenantId)) throw noTenant();
    const range = await closeRange(database, input, this.#options.settleMs);
    const request = {
      scope: { tenantId: actor.tenantId, actor: actor.kind },
      operation: 'createExport',
      key: input.idempotencyKey,
      requestHash: hashRequest({
        source: name,
        format,
        from: input.from.toISOString(),
        to: input.to.toISOString(),
        tenantId: ofTenantId,
      }),
    };
    const created = await this.#as(actor, async (tx) => {
      const { value } = await runIdempotent(request, tx, { codec: answer, clock }, async () => {
        if (ofTenantId !== null && (await tx.tenant.count({ where: { id: ofTenantId } })) === 0)
          throw noTenant();
        await this.#requireRoom(tx, actor.tenantId);
        const id = newId(clock);
        await tx.dataExport.create({
          data: {
            id,
            tenantId: actor.tenantId,
            ofTenantId,
            source: name,
            format,
            rangeFrom: range.from,
            rangeUntil: range.until,
            createdAt: new Date(clock.nowMs()),
          },
        });
        const after = {
          source: name,
          format,
          from: range.from.toISOString(),
          until: range.until.toISOString(),
          ofTenantId,
        };
        const tenantId = ofTenantId ?? PLATFORM_TENANT_ID;
        await recordAudit(tx, clock, { ...action, tenantId, targetId: id, after });
        return { exportId: id };
      });
      return tx.dataExport.findUnique({ where: { id: value.exportId } });
    });
    if (created === null) throw new PatchbayError('NOT_FOUND', 'The export of this key is gone.');
    onCreated?.();
    return toExport(created);
  }

  /** An export of the actor's tenant, if the key may have what is in it. */
  async get(actor: Actor, id: Uuid, context: RequestContext = {}): Promise<ExportModel | null> {
    const readable = await this.#readable(actor, { action: 'export.read', targetId: id, context });
    if (!isUuid(id)) return null;
    const where = { id, tenantId: actor.tenantId, source: { in: [...readable] } };
    const row = await this.#as(actor, (tx) => tx.dataExport.findFirst({ where }));
    return row && toExport(row);
  }

  /** The exports of the actor's tenant that the key may have, oldest first. */
  async list(actor: Actor, page: PageRequest, context: RequestContext = {}): Promise<Page<ExportModel>> {
    const readable = await this.#readable(actor, { action: 'export.list', targetId: null, context });
    const { where, ...order } = keyset(page);
    const mine = { ...where, tenantId: actor.tenantId, source: { in: [...readable] } };
    const rows = await this.#as(actor, (tx) => tx.dataExport.findMany({ where: mine, ...order }));
    return toPage(rows, page, toExport);
  }

  /** Ends an export, whatever its state, and lets its file go. */
  async delete(actor: Actor, id: Uuid, context: RequestContext = {}): Promise<ExportModel> {
    const action = { action: 'export.delete', targetId: id, context };
    const readable = await this.#readable(actor, action);
    return this.#as(actor, async (tx) => {
      // Held, so that what is recorded as the state before is.
      await tx.$queryRaw`SELECT FROM data_export WHERE id = ${id}::uuid FOR UPDATE`;
      const where = { id, tenantId: actor.tenantId, source: { in: [...readable] } };
      const found = await tx.dataExport.findFirst({ where });
      if (found === null)
        throw new PatchbayError('NOT_FOUND', 'No such export is visible to you.', { field: 'id' });
      // One that failed has no file to let go, and keeps why.
      if (found.state === 'DELETED' || found.state === 'FAILED') return toExport(found);
      const changed = await tx.dataExport.update({ where: { id }, data: { state: 'DELETED' } });
      await recordAudit(tx, this.#deps.clock, {
        ...action,
        actor,
        targetType: 'export',
        tenantId: found.ofTenantId ?? PLATFORM_TENANT_ID,
        before: { state: found.state },
        after: { state: changed.state },
      });
      return toExport(changed);
    });
  }

  /** Where the file of an export is, for a while; null while there is none. */
  link({ id, state, expiresAt }: ExportModel): { readonly url: string; readonly expiresAt: Date } | null {
    const nowMs = this.#deps.clock.nowMs();
    if (state !== 'READY' || expiresAt === null || expiresAt.getTime() <= nowMs) return null;
    const { secret, urlTtlMs, baseUrl } = this.#options;
    const expires = Math.floor(Math.min(nowMs + urlTtlMs, expiresAt.getTime()) / 1_000);
    const grant = { exportId: id, expires };
    return { url: signedUrl(secret, baseUrl(), grant), expiresAt: new Date(expires * 1_000) };
  }

  /** The sources that the actor may read, or `FORBIDDEN` when there is none. */
  async #readable(
    actor: Actor,
    attempt: { readonly action: string; readonly targetId: Uuid | null; readonly context: RequestContext },
  ): Promise<readonly SourceName[]> {
    const readable = SOURCE_NAMES.filter((name) => actor.scopes.includes(SOURCES[name].scope));
    await auditDenied(this.#deps, { ...attempt, actor, targetType: 'export' }, () => {
      if (readable.length === 0) requireScope(actor, 'usage:read');
    });
    return readable;
  }

  /** Operators act as the system role, because what they export is of others; everybody else as their tenant. */
  #as<T>(actor: Actor, work: (tx: Tx) => Promise<T>): Promise<T> {
    const { database } = this.#deps;
    return actor.kind === 'TENANT' ? database.withTenant(actor.tenantId, work) : database.withSystem(work);
  }

  /** Creations of a tenant queue here, so that what is counted is still so at the commit. */
  async #requireRoom(tx: Tx, tenantId: Uuid): Promise<void> {
    await tx.$executeRaw`SELECT pg_advisory_xact_lock(hashtextextended('patchbay.exports:' || ${tenantId}, 0))`;
    const { activeMax, keptMax } = this.#options;
    const active = await tx.dataExport.count({ where: { tenantId, state: { in: ['QUEUED', 'RUNNING'] } } });
    if (active >= activeMax) throw limit(`${active} exports wait or run`, { active, activeMax });
    const kept = await tx.dataExport.count({ where: { tenantId, state: 'READY' } });
    if (active + kept >= keptMax) throw limit(`${kept} exports are kept`, { kept, keptMax });
  }
}

function limit(what: string, meta: Readonly<Record<string, number>>): PatchbayError {
  return new PatchbayError('EXPORT_LIMIT', `${what} already, which is as many as may be.`, { meta });
}

/** Another tenant is not told from one that does not exist. */
function noTenant(): PatchbayError {
  return new PatchbayError('NOT_FOUND', 'No such tenant is visible to you.', { field: 'tenant' });
}
