import { shownPrefix } from '../auth/key-format.ts';
import { SYSTEM_ACTOR } from '../auth/principal.ts';
import type { KeyReport } from '../cli/app-port.ts';
import { readKeyFile, updateKeyFile } from '../cli/key-file.ts';
import { PLATFORM_TENANT_ID } from '../db/platform.ts';
import type { Uuid } from '../kernel/ids.ts';
import type { ApiKeyService } from '../tenant/api-keys.ts';
import type { Tenant, TenantService } from '../tenant/service.ts';

/** Slug of the tenant that a newcomer works as. */
export const DEMO_SLUG = 'demo';

/** The first keys of an installation. */
export interface FirstKeys {
  readonly demoTenant: Tenant;
  readonly operatorKey: KeyReport;
  readonly demoKey: KeyReport;
}

/**
 * Makes the demo tenant, its key and an operator key, once per installation: the idempotency keys are fixed, so
 * processes that start together, and later starts, get the same answers. The keys are kept in the data folder.
 */
export async function ensureFirstKeys(
  dataDir: string,
  tenants: TenantService,
  apiKeys: ApiKeyService,
): Promise<FirstKeys> {
  const demoTenant = await tenants.create(SYSTEM_ACTOR, {
    idempotencyKey: 'first-start-demo-tenant',
    name: 'Demo',
    slug: DEMO_SLUG,
  });
  const stored = await readKeyFile(dataDir);
  const issue = async (
    tenantId: Uuid,
    name: string,
    known: string | undefined,
  ): Promise<[KeyReport, string]> => {
    if (known !== undefined) return [{ kind: 'stored', prefix: shownPrefix(known) }, known];
    const { secret } = await apiKeys.create(SYSTEM_ACTOR, {
      idempotencyKey: `first-start-${name}`,
      tenantId,
      name,
      scopes: null,
      expiresAt: null,
    });
    return [{ kind: 'new', key: secret }, secret];
  };
  const [operatorKey, operator] = await issue(PLATFORM_TENANT_ID, 'operator', stored.operator?.key);
  const [demoKey, demo] = await issue(demoTenant.id, 'demo', stored.demo?.key);
  await updateKeyFile(dataDir, { operator: { key: operator }, demo: { key: demo, tenant: demoTenant.id } });
  return { demoTenant, operatorKey, demoKey };
}
