import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { listen } from '../../../src/db/listen.ts';
import { PLATFORM_TENANT_ID } from '../../../src/db/platform.ts';
import { KEY_REVOKED_CHANNEL } from '../../../src/tenant/revocation.ts';
import { createTestDatabase, type TestDatabase } from '../../kit/postgres.ts';
import { createTenancy, type TestKey, type TestTenancy } from '../../kit/tenancy.ts';
import { waitFor } from '../../kit/wait.ts';

let db: TestDatabase;
let tenancy: TestTenancy;
let operator: TestKey;

beforeAll(async () => {
  db = await createTestDatabase();
  tenancy = createTenancy(db.database);
  operator = await tenancy.createOperatorKey();
});
afterAll(async () => {
  await tenancy.authenticator.close();
  await db.dispose();
});

const fresh = (header: string) => {
  tenancy.authenticator.forget();
  return tenancy.authenticator.authenticate(header);
};
const refused = { code: 'UNAUTHENTICATED' };

test('a suspended tenant’s keys are refused and ended in every process, until the suspension is lifted', async () => {
  const { id } = await tenancy.createTenant();
  const keys = [await tenancy.createKey(id), await tenancy.createKey(id)];
  const other = await tenancy.createKey((await tenancy.createTenant()).id);
  const heard: string[] = [];
  const listener = await listen(
    { url: db.appUrl, channels: [KEY_REVOKED_CHANNEL] },
    { notified: (_channel, payload) => heard.push(payload) },
  );
  const set = (state: 'ACTIVE' | 'SUSPENDED' | 'CLOSED') =>
    tenancy.tenants.setState(operator.principal, id, state, { requestId: 'r' });
  expect(await set('SUSPENDED')).toMatchObject({ state: 'SUSPENDED' });
  await waitFor(() => keys.every(({ principal }) => heard.includes(principal.keyId)));
  expect(heard).not.toContain(other.principal.keyId);
  await listener.close();
  for (const { header } of keys) await expect(fresh(header)).rejects.toMatchObject(refused);
  await fresh(other.header);
  expect(await set('SUSPENDED')).toMatchObject({ state: 'SUSPENDED' });
  expect(await set('ACTIVE')).toMatchObject({ state: 'ACTIVE' });
  for (const { header } of keys) await fresh(header);
  expect(await set('CLOSED')).toMatchObject({ state: 'CLOSED' });
  for (const { header } of keys) await expect(fresh(header)).rejects.toMatchObject(refused);
  await expect(set('ACTIVE')).rejects.toMatchObject({ code: 'TENANT_STATE', field: 'state' });
  const lines = await db.admin(
    `SELECT before ->> 'state' AS before, after ->> 'state' AS after, actor_key_id, request_id FROM audit_log
     WHERE action = 'tenant.setState' AND tenant_id = $1 ORDER BY id`,
    [id],
  );
  const by = { actor_key_id: operator.principal.keyId, request_id: 'r' };
  expect(lines).toEqual([
    { before: 'ACTIVE', after: 'SUSPENDED', ...by },
    { before: 'SUSPENDED', after: 'ACTIVE', ...by },
    { before: 'ACTIVE', after: 'CLOSED', ...by },
  ]);
});

test('the state is set by operators with the scope, of tenants that there are, and not of the platform', async () => {
  const { id } = await tenancy.createTenant();
  const own = await tenancy.createKey(id);
  const weak = await tenancy.createKey(PLATFORM_TENANT_ID, ['billing:write', 'keys:write']);
  for (const { principal } of [own, weak]) {
    await expect(tenancy.tenants.setState(principal, id, 'SUSPENDED')).rejects.toMatchObject({
      code: 'FORBIDDEN',
    });
  }
  for (const missing of [PLATFORM_TENANT_ID, randomUUID()]) {
    await expect(tenancy.tenants.setState(operator.principal, missing, 'SUSPENDED')).rejects.toMatchObject({
      code: 'NOT_FOUND',
      field: 'tenant',
    });
  }
  await fresh(own.header);
});
