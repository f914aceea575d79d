import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { type Principal, SCOPES, SYSTEM_ACTOR } from '../../../src/auth/principal.ts';
import { MEMBER_ROLES, type MemberRole, ROLE_SCOPES } from '../../../src/auth/roles.ts';
import { listen } from '../../../src/db/listen.ts';
import { PLATFORM_TENANT_ID } from '../../../src/db/platform.ts';
import { KEY_REVOKED_CHANNEL } from '../../../src/tenant/api-keys.ts';
import type { Member } from '../../../src/tenant/members.ts';
import { createTestDatabase, type TestDatabase } from '../../kit/postgres.ts';
import { createTenancy, type TestTenancy } from '../../kit/tenancy.ts';
import { waitFor } from '../../kit/wait.ts';

let db: TestDatabase;
let tenancy: TestTenancy;
let tenantId: string;

beforeAll(async () => {
  db = await createTestDatabase();
  tenancy = createTenancy(db.database);
});
afterAll(async () => {
  await tenancy.authenticator.close();
  await db.dispose();
});
beforeEach(async () => {
  tenantId = (await tenancy.createTenant()).id;
});

const add = (actor: Principal | typeof SYSTEM_ACTOR, role: MemberRole, more: object = {}): Promise<Member> =>
  tenancy.members.add(actor, {
    idempotencyKey: randomUUID(),
    tenantId,
    name: 'Ada',
    email: `${randomUUID()}@example.com`,
    role,
    ...more,
  });

/** A key of the member, with everything that the member may have, and who it makes the sender. */
async function keyOf(member: Member, scopes: readonly string[] | null = null) {
  const issued = await tenancy.keys.create(SYSTEM_ACTOR, {
    idempotencyKey: randomUUID(),
    tenantId,
    name: 'key',
    scopes,
    expiresAt: null,
    memberId: member.id,
  });
  const header = `Bearer ${issued.secret}`;
  return { header, id: issued.key.id, principal: await tenancy.authenticator.authenticate(header) };
}

const fresh = (header: string) => {
  tenancy.authenticator.forget();
  return tenancy.authenticator.authenticate(header);
};

describe('a role', () => {
  test('allows only scopes that exist, and the owner has all', () => {
    for (const role of MEMBER_ROLES)
      expect(ROLE_SCOPES[role].filter((scope) => !SCOPES.includes(scope))).toEqual([]);
    expect(ROLE_SCOPES.OWNER).toEqual(SCOPES);
  });

  test.each(MEMBER_ROLES)('%s bounds what a key of the member can be issued with', async (role) => {
    const member = await add(SYSTEM_ACTOR, role);
    const { principal } = await keyOf(member);
    expect(principal.member).toEqual({ id: member.id, role });
    for (const scope of principal.scopes) expect(ROLE_SCOPES[role]).toContain(scope);
    for (const scope of SCOPES) {
      const issue = keyOf(member, [scope]);
      if (ROLE_SCOPES[role].includes(scope)) expect((await issue).principal.scopes).toEqual([scope]);
      else await expect(issue).rejects.toMatchObject({ code: 'BAD_INPUT', field: 'scopes' });
    }
  });

  test('that is narrowed narrows the keys that were issued before, and ends what runs on them', async () => {
    await add(SYSTEM_ACTOR, 'OWNER');
    const member = await add(SYSTEM_ACTOR, 'ADMIN');
    const key = await keyOf(member);
    expect(key.principal.scopes).toContain('keys:write');
    const heard: string[] = [];
    const listener = await listen(
      { url: db.appUrl, channels: [KEY_REVOKED_CHANNEL] },
      { notified: (_channel, id) => heard.push(id) },
    );
    await tenancy.members.setRole(SYSTEM_ACTOR, member.id, 'AUDITOR');
    await waitFor(() => heard.includes(key.id));
    await listener.close();
    const after = await fresh(key.header);
    expect(after.scopes).not.toContain('keys:write');
    for (const scope of after.scopes) expect(ROLE_SCOPES.AUDITOR).toContain(scope);
    // A key that is rotated stays the member's, and cannot grow back.
    const rotated = await tenancy.keys.rotate(SYSTEM_ACTOR, {
      idempotencyKey: randomUUID(),
      id: key.id,
      overlapMs: 0,
    });
    expect(rotated.key.memberId).toBe(member.id);
    expect((await fresh(`Bearer ${rotated.secret}`)).scopes).toEqual(after.scopes);
  });

  test('is given and taken only by those who may do as much', async () => {
    const owner = await keyOf(await add(SYSTEM_ACTOR, 'OWNER'), [...SCOPES]);
    const admin = await keyOf(await add(SYSTEM_ACTOR, 'ADMIN'));
    const second = await add(owner.principal, 'OWNER');
    for (const attempt of [
      () => add(admin.principal, 'OWNER'),
      () => add(admin.principal, 'BILLING'),
      () => tenancy.members.setRole(admin.principal, second.id, 'DEVELOPER'),
      () => tenancy.members.remove(admin.principal, second.id),
    ]) {
      await expect(attempt()).rejects.toMatchObject({ code: 'FORBIDDEN' });
    }
    const developer = await add(admin.principal, 'DEVELOPER');
    await expect(add((await keyOf(developer)).principal, 'DEVELOPER')).rejects.toMatchObject({
      code: 'FORBIDDEN',
    });
    expect(await tenancy.members.setRole(admin.principal, developer.id, 'AUDITOR')).toMatchObject({
      role: 'AUDITOR',
    });
  });
});

describe('a member', () => {
  test('who is removed has no keys any more, and can be added again', async () => {
    await add(SYSTEM_ACTOR, 'OWNER');
    const member = await add(SYSTEM_ACTOR, 'DEVELOPER', { email: 'Same@Example.com' });
    expect(member.email).toBe('same@example.com');
    await expect(add(SYSTEM_ACTOR, 'DEVELOPER', { email: 'same@example.com' })).rejects.toMatchObject({
      code: 'NAME_TAKEN',
    });
    const key = await keyOf(member);
    const removed = await tenancy.members.remove(SYSTEM_ACTOR, member.id);
    expect(removed.removedAt).not.toBeNull();
    await expect(fresh(key.header)).rejects.toMatchObject({ code: 'UNAUTHENTICATED' });
    await expect(keyOf(member)).rejects.toMatchObject({ code: 'NOT_FOUND', field: 'member' });
    await expect(tenancy.members.setRole(SYSTEM_ACTOR, member.id, 'OWNER')).rejects.toMatchObject({
      code: 'MEMBER_STATE',
    });
    expect(await tenancy.members.remove(SYSTEM_ACTOR, member.id)).toEqual(removed);
    expect(await add(SYSTEM_ACTOR, 'DEVELOPER', { email: 'same@example.com' })).not.toEqual(member);
  });

  test('who is the last owner stays one, however many try at once', async () => {
    const [one, two] = [await add(SYSTEM_ACTOR, 'OWNER'), await add(SYSTEM_ACTOR, 'OWNER')];
    const results = await Promise.allSettled([
      tenancy.members.remove(SYSTEM_ACTOR, one.id),
      tenancy.members.setRole(SYSTEM_ACTOR, two.id, 'BILLING'),
    ]);
    expect(results.filter(({ status }) => status === 'fulfilled')).toHaveLength(1);
    const page = await tenancy.members.list(SYSTEM_ACTOR, tenantId, { first: 10, after: null });
    expect(page.items.filter(({ role, removedAt }) => role === 'OWNER' && removedAt === null)).toHaveLength(
      1,
    );
  });

  test('is added once for an idempotency key', async () => {
    const input = { idempotencyKey: 'once', email: 'once@example.com' };
    expect(await add(SYSTEM_ACTOR, 'AUDITOR', input)).toEqual(await add(SYSTEM_ACTOR, 'AUDITOR', input));
    await expect(add(SYSTEM_ACTOR, 'BILLING', input)).rejects.toMatchObject({ code: 'IDEMPOTENCY_CONFLICT' });
  });

  test('of another tenant cannot have a key here, and the platform has no members', async () => {
    const theirs = await add(SYSTEM_ACTOR, 'OWNER');
    tenantId = (await tenancy.createTenant()).id;
    for (const id of [theirs.id, randomUUID()]) {
      await expect(keyOf({ ...theirs, id })).rejects.toMatchObject({ code: 'NOT_FOUND' });
    }
    await expect(add(SYSTEM_ACTOR, 'OWNER', { tenantId: PLATFORM_TENANT_ID })).rejects.toMatchObject({
      code: 'NOT_FOUND',
    });
  });

  test('is refused with a name or an address that is none', async () => {
    await expect(add(SYSTEM_ACTOR, 'OWNER', { name: ' ' })).rejects.toMatchObject({ field: 'name' });
    await expect(add(SYSTEM_ACTOR, 'OWNER', { email: 'nobody' })).rejects.toMatchObject({ field: 'email' });
  });
});
