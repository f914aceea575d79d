import { z } from 'zod';
import type { Tx } from '../db/client.ts';
import type { Clock } from '../kernel/clock.ts';
import { invariant, PatchbayError } from '../kernel/errors.ts';
import { newId, type Uuid } from '../kernel/ids.ts';
import { NO_QUOTAS, type QuotaLimits } from '../kernel/quota.ts';
import { requireBackbone } from './backbones.ts';
import {
  ADAPTER_FILES,
  type AdapterFileName,
  type AdapterLimits,
  CONFIG_FILE,
  DEFAULT_UPLOAD_QUOTA,
  isAdapterFileName,
  type UploadQuota,
} from './limits.ts';
import { requireUploadQuotas } from './quotas.ts';
import { findUpload, requireVersion } from './rows.ts';
import { uploadToken } from './tokens.ts';
import type { AdapterUploadModel, AdapterVersionModel, DeclaredFile, UploadTarget } from './types.ts';

const NAME = /^[a-z0-9][a-z0-9._-]{0,99}$/;
const SHA256 = /^[0-9a-f]{64}$/;

/** How uploads are opened. */
export interface UploadOptions {
  readonly limits: AdapterLimits;
  readonly quota?: UploadQuota;
  /** Limits of tenants for whom the operator has set none; without them, none. */
  readonly quotas?: QuotaLimits;
  /** How long an upload accepts bytes. */
  readonly ttlMs: number;
  /** Server-side secret that tokens are derived from. */
  readonly secret: string;
  /** Such as `https://host/uploads`, without a slash at the end; the file's id follows. */
  readonly baseUrl: string;
}

/** An upload to open. */
export interface OpenUploadInput {
  readonly name: string;
  readonly backboneDigest: string;
  readonly files: readonly DeclaredFile[];
  /** True for what the program itself uploads: a quota must not keep an installation from starting. */
  readonly exempt?: boolean;
}

/** Opens an upload in the tenant's transaction; creates the adapter when its name is new. */
export async function openUpload(
  tx: Tx,
  { clock, options }: { readonly clock: Clock; readonly options: UploadOptions },
  tenantId: Uuid,
  input: OpenUploadInput,
): Promise<AdapterUploadModel> {
  if (!NAME.test(input.name)) {
    throw new PatchbayError(
      'BAD_INPUT',
      'An adapter name has 1 to 100 of a-z, 0-9, ".", "_" and "-", and begins with a letter or digit.',
      { field: 'name' },
    );
  }
  const files = checkFiles(input.files, options.limits);
  const backbone = await requireBackbone(tx, input.backboneDigest);
  const now = new Date(clock.nowMs());
  await requireQuota(tx, options.quota ?? DEFAULT_UPLOAD_QUOTA, tenantId, files, now);
  if (input.exempt !== true) {
    const bytes = files.reduce((sum, { size }) => sum + Number(size), 0);
    await requireUploadQuotas(tx, options.quotas ?? NO_QUOTAS, { tenantId, name: input.name, bytes, now });
  }
  const adapterId = await touchAdapter(tx, clock, tenantId, input.name);
  const id = newId(clock);
  const expiresAt = new Date(now.getTime() + options.ttlMs);
  await tx.upload.create({
    data: { id, tenantId, adapterId, backboneId: backbone.id, createdAt: now, expiresAt },
  });
  await tx.uploadFile.createMany({
    data: files.map(({ name, size, sha256 }) => ({
      id: newId(clock),
      tenantId,
      uploadId: id,
      name,
      size,
      sha256,
    })),
  });
  return requireUpload(tx, id);
}

/** Throws `UPLOAD_LIMIT` when the tenant has too much under way to open another upload of these files. */
async function requireQuota(
  tx: Tx,
  quota: UploadQuota,
  tenantId: Uuid,
  files: readonly DeclaredFile[],
  now: Date,
): Promise<void> {
  // Openings of one tenant queue here, or several at once would each find room for one more.
  await tx.$queryRaw`SELECT pg_advisory_xact_lock(hashtextextended(${`upload/${tenantId}`}, 0))::text`;
  const [open] = z.array(z.object({ uploads: z.bigint(), bytes: z.bigint() })).parse(
    await tx.$queryRaw`
      SELECT count(DISTINCT f.upload_id) AS uploads, coalesce(sum(f.size), 0)::bigint AS bytes
      FROM upload_file f WHERE f.upload_id IN (
        SELECT id FROM upload
        WHERE tenant_id = ${tenantId}::uuid AND version_id IS NULL AND expires_at > ${now}
        UNION ALL
        SELECT u.id FROM adapter_version v JOIN upload u ON u.version_id = v.id
        WHERE v.tenant_id = ${tenantId}::uuid AND v.state = 'VALIDATING')`,
  );
  if (open === undefined || open.uploads === 0n) return;
  if (open.uploads >= BigInt(quota.maxOpenUploads)) {
    throw new PatchbayError(
      'UPLOAD_LIMIT',
      `${open.uploads} uploads are open or being validated, and ${quota.maxOpenUploads} may be.`,
      { meta: { openUploads: Number(open.uploads), maxOpenUploads: quota.maxOpenUploads } },
    );
  }
  const bytes = files.reduce((sum, { size }) => sum + size, open.bytes);
  if (bytes <= BigInt(quota.maxOpenBytes)) return;
  throw new PatchbayError(
    'UPLOAD_LIMIT',
    `With this upload ${bytes} bytes would be under way, and ${quota.maxOpenBytes} may be.`,
    { field: 'files', meta: { openBytes: Number(open.bytes), maxOpenBytes: quota.maxOpenBytes } },
  );
}

/** Id of the tenant's adapter of the name, made when it is new. The row is locked, so no sweep takes it away. */
async function touchAdapter(tx: Tx, clock: Clock, tenantId: Uuid, name: string): Promise<Uuid> {
  const [adapter] = z.array(z.object({ id: z.string() })).parse(
    await tx.$queryRaw`
      INSERT INTO adapter (id, tenant_id, name, created_at)
      VALUES (${newId(clock)}::uuid, ${tenantId}::uuid, ${name}, ${new Date(clock.nowMs())})
      ON CONFLICT (tenant_id, name) DO UPDATE SET last_number = adapter.last_number
      RETURNING id`,
  );
  invariant(adapter, 'an upsert answers with its row');
  return adapter.id;
}

function checkFiles(
  files: readonly DeclaredFile[],
  limits: AdapterLimits,
): readonly (DeclaredFile & { readonly name: AdapterFileName })[] {
  const checked = files.map(({ name, size, sha256 }, index) => {
    const field = `files.${index}`;
    if (!isAdapterFileName(name)) throw unknownFile(name, `${field}.name`);
    const limit = BigInt(name === CONFIG_FILE ? limits.maxConfigBytes : limits.maxTensorsBytes);
    if (size < 1n) throw new PatchbayError('BAD_INPUT', `${name} is empty.`, { field: `${field}.size` });
    if (size > limit) {
      throw new PatchbayError('FILE_TOO_LARGE', `${name} may have ${limit} bytes.`, {
        field: `${field}.size`,
        meta: { limitBytes: Number(limit) },
      });
    }
    if (!SHA256.test(sha256)) {
      throw new PatchbayError('BAD_INPUT', 'A SHA-256 is 64 lower-case hex digits.', {
        field: `${field}.sha256`,
      });
    }
    return { name, size, sha256 };
  });
  for (const name of ADAPTER_FILES) {
    const count = checked.filter((file) => file.name === name).length;
    if (count === 0) throw new PatchbayError('FILE_MISSING', `${name} is not declared.`, { field: 'files' });
    if (count > 1) throw new PatchbayError('BAD_INPUT', `${name} is declared twice.`, { field: 'files' });
  }
  return checked;
}

function unknownFile(name: string, field: string): PatchbayError {
  if (/\.(bin|pt|pth|ckpt|pkl)$/.test(name)) {
    return new PatchbayError('ADAPTER_UNSUPPORTED', 'Pickles are not accepted: reading one can run code.', {
      field,
      fix: 'Save again with safe_serialization=True.',
    });
  }
  return new PatchbayError('BAD_INPUT', `Only ${ADAPTER_FILES.join(' and ')} are accepted; no archives.`, {
    field,
  });
}

/** Where each file of an upload is sent. The same answer every time, until the upload expires. */
export function uploadTargets(upload: AdapterUploadModel, options: UploadOptions): readonly UploadTarget[] {
  return upload.files.map(({ id, name }) => ({
    name,
    url: `${options.baseUrl}/${id}`,
    token: uploadToken(options.secret, { fileId: id, expiresAtMs: upload.expiresAt.getTime() }),
  }));
}

async function requireUpload(tx: Tx, id: Uuid): Promise<AdapterUploadModel> {
  const upload = await findUpload(tx, id);
  if (upload === null) throw new PatchbayError('UPLOAD_NOT_FOUND', 'There is no such upload.');
  return upload;
}

/**
 * Turns a complete upload into a version that waits for validation, in the tenant's transaction. Repeating it gives the
 * same version; so does another upload of the same bytes under the same name.
 */
export async function finaliseUpload(
  tx: Tx,
  { clock }: { readonly clock: Clock },
  tenantId: Uuid,
  uploadId: Uuid,
): Promise<AdapterVersionModel> {
  // Two finalisations of one upload, and of one adapter, queue here.
  await tx.$queryRaw`SELECT FROM upload WHERE id = ${uploadId}::uuid FOR UPDATE`;
  const upload = await requireUpload(tx, uploadId);
  if (upload.versionId !== null) return requireVersion(tx, upload.versionId);
  const missing = upload.files.find((file) => !file.complete);
  if (upload.expiresAt.getTime() <= clock.nowMs()) {
    throw new PatchbayError('UPLOAD_NOT_FOUND', 'The upload has expired.');
  }
  if (missing !== undefined) {
    throw new PatchbayError(
      'UPLOAD_INCOMPLETE',
      `${missing.name} has ${missing.received} of ${missing.size} bytes.`,
      { field: missing.name },
    );
  }
  await tx.$queryRaw`SELECT FROM adapter WHERE id = ${upload.adapterId}::uuid FOR UPDATE`;
  const versionId = await recogniseOrInsert(tx, clock, tenantId, upload);
  await tx.upload.update({ where: { id: uploadId }, data: { versionId }, select: { id: true } });
  return requireVersion(tx, versionId);
}

async function recogniseOrInsert(
  tx: Tx,
  clock: Clock,
  tenantId: Uuid,
  upload: AdapterUploadModel,
): Promise<Uuid> {
  const [config, tensors] = ADAPTER_FILES.map(
    (name) => upload.files.find((file) => file.name === name)?.sha256,
  );
  if (config === undefined || tensors === undefined) throw new Error('an upload has both files');
  const { backboneId, adapterId } = await tx.upload.findUniqueOrThrow({ where: { id: upload.id } });
  const known = await tx.adapterVersion.findFirst({
    where: {
      tenantId,
      adapterId,
      backboneId,
      configSha256: config,
      tensorsSha256: tensors,
      state: { in: ['VALIDATING', 'READY'] },
    },
    select: { id: true },
  });
  if (known !== null) return known.id;
  const { lastNumber } = await tx.adapter.update({
    where: { id: adapterId },
    data: { lastNumber: { increment: 1 } },
    select: { lastNumber: true },
  });
  const id = newId(clock);
  await tx.$executeRaw`
    INSERT INTO adapter_version
      (id, tenant_id, adapter_id, number, backbone_id, config_sha256, tensors_sha256, created_at)
    VALUES (${id}::uuid, ${tenantId}::uuid, ${adapterId}::uuid, ${lastNumber}, ${backboneId}::uuid, ${config},
            ${tensors}, ${new Date(clock.nowMs())})`;
  return id;
}
