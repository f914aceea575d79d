import { randomUUID } from 'node:crypto';
import type { Authenticator } from '../auth/authenticator.ts';
import { shownPrefix } from '../auth/key-format.ts';
import { SYSTEM_ACTOR } from '../auth/principal.ts';
import type { KeyReport } from '../cli/app-port.ts';
import { readKeyFile, updateKeyFile } from '../cli/key-file.ts';
import { PLATFORM_TENANT_ID } from '../db/platform.ts';
import { PatchbayError } from '../kernel/errors.ts';
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

/** What making the first keys works with. */
export interface FirstKeysDeps {
  readonly tenants: TenantService;
  readonly apiKeys: ApiKeyService;
  readonly authenticator: Authenticator;
}

/**
 * Makes the demo tenant, its key and an operator key where they are missing, and keeps the keys in the data folder.
 * The idempotency keys are fixed, so that processes that start together get the same answers.
 */
export async function ensureFirstKeys(dataDir: string, deps: FirstKeysDeps): Promise<FirstKeys> {
  const demoTenant = await ensureDemoTenant(deps.tenants);
  const stored = await readKeyFile(dataDir);
  const operator = await ensureKey(PLATFORM_TENANT_ID, 'operator', stored.operator?.key, deps);
  const demo = await ensureKey(demoTenant.id, 'demo', stored.demo?.key, deps);
  await updateKeyFile(dataDir, {
    operator: { key: operator.key },
    demo: { key: demo.key, tenant: demoTenant.id },
  });
  return { demoTenant, operatorKey: operator.report, demoKey: demo.report };
}

async function ensureDemoTenant(tenants: TenantService): Promise<Tenant> {
  const known = await tenants.getBySlug(SYSTEM_ACTOR, DEMO_SLUG);
  if (known !== null) return known;
  const idempotencyKey = 'first-start-demo-tenant';
  return tenants.create(SYSTEM_ACTOR, { idempotencyKey, name: 'Demo', slug: DEMO_SLUG });
}

/** Keeps a stored key that the database still accepts; a key of another database, or a revoked one, is replaced. */
async function ensureKey(
  tenantId: Uuid,
  name: string,
  stored: string | undefined,
  { apiKeys, authenticator }: FirstKeysDeps,
): Promise<{ readonly key: string; readonly report: KeyReport }> {
  const isAccepted = async (key: string): Promise<boolean> => {
    authenticator.forget();
    const principal = await authenticator.authenticate(`Bearer ${key}`).catch((error: unknown) => {
      if (error instanceof PatchbayError && error.code === 'UNAUTHENTICATED') return null;
      throw error;
    });
    return principal?.tenantId === tenantId;
  };
  if (stored !== undefined && (await isAccepted(stored))) {
    return { key: stored, report: { kind: 'stored', prefix: shownPrefix(stored) } };
  }
  const issue = async (idempotencyKey: string): Promise<string> => {
    const input = { idempotencyKey, tenantId, name, scopes: null, expiresAt: null };
    return (await apiKeys.create(SYSTEM_ACTOR, input)).secret;
  };
  const shared = await issue(`first-start-${name}`);
  // The answer to the fixed key may be one that was revoked since.
  const key = (await isAccepted(shared)) ? shared : await issue(`first-start-${name}-${randomUUID()}`);
  return { key, report: { kind: 'new', key } };
}
