import { randomBytes, randomUUID } from 'node:crypto';
import { Authenticator } from '../../src/auth/authenticator.ts';
import { type Principal, SYSTEM_ACTOR } from '../../src/auth/principal.ts';
import type { Database } from '../../src/db/client.ts';
import { PLATFORM_TENANT_ID } from '../../src/db/platform.ts';
import { type Clock, systemClock } from '../../src/kernel/clock.ts';
import { NO_QUOTAS } from '../../src/kernel/quota.ts';
import { ApiKeyService } from '../../src/tenant/api-keys.ts';
import { AuditService } from '../../src/tenant/audit-log.ts';
import { MemberService } from '../../src/tenant/members.ts';
import { QuotaService } from '../../src/tenant/quotas.ts';
import { type Tenant, TenantService } from '../../src/tenant/service.ts';

/** The pepper of every test's API keys. */
export const TEST_PEPPER = 'test-pepper';

/** A key that a test can send, and who it makes the sender. */
export interface TestKey {
  readonly secret: string;
  /** Ready to be sent. */
  readonly header: string;
  readonly principal: Principal;
}

/** The services of tenancy over a test's database, and short ways to make tenants and keys through them. */
export interface TestTenancy {
  readonly tenants: TenantService;
  readonly keys: ApiKeyService;
  readonly members: MemberService;
  readonly quotas: QuotaService;
  readonly audit: AuditService;
  readonly authenticator: Authenticator;
  createTenant(slug?: string): Promise<Tenant>;
  /** A tenant's key; with the usual scopes when none are named. */
  createKey(tenantId: string, scopes?: readonly string[]): Promise<TestKey>;
  createOperatorKey(): Promise<TestKey>;
}

/** Builds {@link TestTenancy}. */
export function createTenancy(database: Database, clock: Clock = systemClock): TestTenancy {
  const tenants = new TenantService({ database, clock });
  const keys = new ApiKeyService({ pepper: TEST_PEPPER }, { database, clock, randomBytes });
  const audit = new AuditService({ database, clock });
  const onRefused = (principal: Principal, reason: string, requestId: string) =>
    audit.refusedKey(principal, reason, { requestId });
  const authenticator = new Authenticator({ pepper: TEST_PEPPER }, { database, clock, onRefused });
  const issue = async (tenantId: string, scopes: readonly string[] | null): Promise<TestKey> => {
    const { secret } = await keys.create(SYSTEM_ACTOR, {
      idempotencyKey: randomUUID(),
      tenantId,
      name: 'test',
      scopes,
      expiresAt: null,
    });
    const header = `Bearer ${secret}`;
    return { secret, header, principal: await authenticator.authenticate(header) };
  };
  return {
    tenants,
    keys,
    members: new MemberService({ database, clock }),
    quotas: new QuotaService({ defaults: NO_QUOTAS }, { database, clock }),
    audit,
    authenticator,
    createTenant: (slug = `t-${randomUUID().slice(0, 8)}`) =>
      tenants.create(SYSTEM_ACTOR, { idempotencyKey: randomUUID(), name: `Tenant ${slug}`, slug }),
    createKey: (tenantId, scopes) => issue(tenantId, scopes ?? null),
    createOperatorKey: () => issue(PLATFORM_TENANT_ID, null),
  };
}
