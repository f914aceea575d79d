import { z } from 'zod';
import type { Tx } from '../db/client.ts';
import { type ErrorCode, isErrorCode } from '../kernel/codes.ts';
import { PatchbayError, type PublicError } from '../kernel/errors.ts';
import type { Uuid } from '../kernel/ids.ts';
import { isAdapterFileName } from './limits.ts';
import type { AdapterModel, AdapterUploadModel, AdapterVersionModel } from './types.ts';

const adapterRow = z.object({
  id: z.string(),
  tenant_id: z.string(),
  owner: z.string(),
  name: z.string(),
  visibility: z.enum(['PRIVATE', 'PUBLIC']),
  created_at: z.date(),
});

const rejection = z.object({
  code: z.custom<ErrorCode>(isErrorCode),
  message: z.string(),
  fix: z.string(),
  field: z.string().optional(),
});

const versionRow = z.object({
  id: z.string(),
  tenant_id: z.string(),
  adapter_id: z.string(),
  number: z.number(),
  backbone_digest: z.string(),
  state: z.enum(['VALIDATING', 'READY', 'REJECTED', 'RETIRED']),
  digest: z.string().nullable(),
  rank_max: z.number().nullable(),
  module_count: z.number().nullable(),
  targets: z.array(z.string()).nullable(),
  parameters: z.bigint().nullable(),
  bytes: z.bigint().nullable(),
  rejection: rejection.nullable(),
  created_at: z.date(),
  ready_at: z.date().nullable(),
  retired_at: z.date().nullable(),
});

/** Rows of `patchbay.visible_adapter`. */
export function toAdapters(rows: readonly unknown[]): readonly AdapterModel[] {
  return z
    .array(adapterRow)
    .parse(rows)
    .map(({ tenant_id, created_at, ...row }) => ({ ...row, tenantId: tenant_id, createdAt: created_at }));
}

/** Rows of `patchbay.visible_version`. */
export function toVersions(rows: readonly unknown[]): readonly AdapterVersionModel[] {
  return z
    .array(versionRow)
    .parse(rows)
    .map((row) => ({
      id: row.id,
      tenantId: row.tenant_id,
      adapterId: row.adapter_id,
      number: row.number,
      state: row.state,
      digest: row.digest,
      backboneDigest: row.backbone_digest,
      rank: row.rank_max,
      modules: row.module_count,
      targets: row.targets ?? [],
      parameters: row.parameters,
      bytes: row.bytes,
      rejection: row.rejection === null ? null : toPublicError(row.rejection),
      createdAt: row.created_at,
      readyAt: row.ready_at,
      retiredAt: row.retired_at,
    }));
}

function toPublicError({ code, message, fix, field }: z.infer<typeof rejection>): PublicError {
  return { code, message, fix, ...(field === undefined ? {} : { field }) };
}

/** The adapter, when the transaction's tenant may see it. */
export async function findAdapter(tx: Tx, id: Uuid): Promise<AdapterModel | null> {
  const [found] = toAdapters(await tx.$queryRaw`SELECT * FROM patchbay.find_adapter(${id}::uuid)`);
  return found ?? null;
}

/** Those of the adapters that the transaction's tenant may see, in no order. */
export async function findAdapters(tx: Tx, ids: readonly Uuid[]): Promise<readonly AdapterModel[]> {
  return toAdapters(await tx.$queryRaw`SELECT * FROM patchbay.find_adapters(${[...ids]}::uuid[])`);
}

/** The adapter of the name, when the transaction's tenant may see it. */
export async function findAdapterNamed(
  tx: Tx,
  owner: string | null,
  name: string,
): Promise<AdapterModel | null> {
  const [found] = toAdapters(
    await tx.$queryRaw`SELECT * FROM patchbay.find_adapter_named(${owner}::text, ${name}::text)`,
  );
  return found ?? null;
}

/** The version, when the transaction's tenant may see it. */
export async function findVersion(tx: Tx, id: Uuid): Promise<AdapterVersionModel | null> {
  const [found] = toVersions(await tx.$queryRaw`SELECT * FROM patchbay.find_version(${id}::uuid)`);
  return found ?? null;
}

/** Those of the versions that the transaction's tenant may see, in no order. */
export async function findVersions(tx: Tx, ids: readonly Uuid[]): Promise<readonly AdapterVersionModel[]> {
  return toVersions(await tx.$queryRaw`SELECT * FROM patchbay.find_versions(${[...ids]}::uuid[])`);
}

/** The newest ready version, on any backbone, of each adapter that has one to see, in no order. */
export async function findLatestVersions(
  tx: Tx,
  adapterIds: readonly Uuid[],
): Promise<readonly AdapterVersionModel[]> {
  return toVersions(
    await tx.$queryRaw`SELECT * FROM patchbay.find_versions_latest(${[...adapterIds]}::uuid[])`,
  );
}

/** {@link findVersion}, or an error that does not tell what is hidden from what does not exist. */
export async function requireVersion(tx: Tx, id: Uuid): Promise<AdapterVersionModel> {
  const found = await findVersion(tx, id);
  if (found === null) throw adapterNotFound();
  return found;
}

/** The one error for adapters and versions that are absent or hidden. */
export function adapterNotFound(): PatchbayError {
  return new PatchbayError('ADAPTER_NOT_FOUND', 'No such adapter is visible to you.');
}

/** An upload of the transaction's tenant. */
export async function findUpload(tx: Tx, id: Uuid): Promise<AdapterUploadModel | null> {
  const row = await tx.upload.findUnique({
    where: { id },
    include: { files: { orderBy: { name: 'asc' } }, version: { select: { state: true } } },
  });
  if (row === null) return null;
  return {
    id: row.id,
    adapterId: row.adapterId,
    state: row.version?.state ?? 'UPLOADING',
    expiresAt: row.expiresAt,
    versionId: row.versionId,
    files: row.files.flatMap(({ id: fileId, name, size, sha256, received, complete }) =>
      isAdapterFileName(name) ? [{ id: fileId, name, size, sha256, received, complete }] : [],
    ),
  };
}
