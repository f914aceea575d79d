import type { Tx } from '../db/client.ts';
import { PatchbayError } from '../kernel/errors.ts';
import { isUuid } from '../kernel/ids.ts';
import { adapterNotFound, findAdapter, findAdapterNamed, findVersion, toVersions } from './rows.ts';
import type { AdapterModel, AdapterRef, AdapterVersionModel, ResolvedAdapter } from './types.ts';

/**
 * Reads a reference from text: an adapter's id, `name` or `owner/name`, with a version number or version id beside it.
 * Malformed text is what does not exist.
 */
export function parseAdapterRef(adapter: string, version?: string): AdapterRef {
  if (version !== undefined && isUuid(version)) return { kind: 'version', id: version };
  const number = version === undefined ? null : Number(version);
  if (number !== null && (!Number.isSafeInteger(number) || number < 1 || number > 2 ** 31 - 1))
    throw adapterNotFound();
  if (isUuid(adapter)) return { kind: 'adapter', id: adapter, version: number };
  const [first, second, ...rest] = adapter.split('/');
  if (first === undefined || rest.length > 0) throw adapterNotFound();
  return second === undefined
    ? { kind: 'name', owner: null, name: first, version: number }
    : { kind: 'name', owner: first, name: second, version: number };
}

/**
 * Finds the versions that a request runs, in order: the newest that is ready unless a version is named. What the
 * transaction's tenant may not see is `ADAPTER_NOT_FOUND`, whether it exists or not, found by the same query.
 */
export async function resolveForInference(
  tx: Tx,
  refs: readonly { readonly ref: AdapterRef; readonly weight: number }[],
  backboneDigest: string,
): Promise<readonly ResolvedAdapter[]> {
  const resolved: ResolvedAdapter[] = [];
  for (const { ref, weight } of refs) resolved.push(await resolveOne(tx, ref, weight, backboneDigest));
  return resolved;
}

async function resolveOne(
  tx: Tx,
  ref: AdapterRef,
  weight: number,
  backboneDigest: string,
): Promise<ResolvedAdapter> {
  const version =
    ref.kind === 'version' ? await findVersion(tx, ref.id) : await resolveInAdapter(tx, ref, backboneDigest);
  if (version === null) throw adapterNotFound();
  if (version.state !== 'READY' || version.digest === null) {
    throw new PatchbayError('ADAPTER_NOT_READY', `The adapter version is ${version.state}.`, {
      meta: { state: version.state, versionId: version.id },
    });
  }
  if (version.backboneDigest !== backboneDigest) {
    throw new PatchbayError('ADAPTER_NOT_READY', 'The adapter version belongs to another backbone.', {
      fix: 'Name the backbone that it was uploaded for, or upload it for this one.',
      meta: { backboneDigest: version.backboneDigest },
    });
  }
  return {
    versionId: version.id,
    adapterId: version.adapterId,
    ownerTenantId: version.tenantId,
    digest: version.digest,
    weight,
  };
}

async function resolveInAdapter(
  tx: Tx,
  ref: Exclude<AdapterRef, { readonly kind: 'version' }>,
  backboneDigest: string,
): Promise<AdapterVersionModel | null> {
  const adapter: AdapterModel | null =
    ref.kind === 'adapter' ? await findAdapter(tx, ref.id) : await findAdapterNamed(tx, ref.owner, ref.name);
  if (adapter === null) throw adapterNotFound();
  if (ref.version !== null) {
    const [found] = toVersions(
      await tx.$queryRaw`SELECT * FROM patchbay.find_version_numbered(${adapter.id}::uuid, ${ref.version}::integer)`,
    );
    return found ?? null;
  }
  const [latest] = toVersions(
    await tx.$queryRaw`SELECT * FROM patchbay.find_version_latest(${adapter.id}::uuid, ${backboneDigest}::text)`,
  );
  if (latest !== undefined) return latest;
  throw new PatchbayError(
    'ADAPTER_NOT_READY',
    `${adapter.owner}/${adapter.name} has no version that is ready.`,
    {
      meta: { adapterId: adapter.id },
    },
  );
}
