import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { type Principal, SCOPES, SYSTEM_ACTOR } from '../../../src/auth/principal.ts';
import { MEMBER_ROLES, type MemberRole, ROLE_SCOPES } from '../../../src/auth/roles.ts';
import { listen } from '../../../src/db/listen.ts';
import { PLATFORM_TENANT_ID } from '../../../src/db/platform.ts';
import type { Member } from '../../../src/tenant/members.ts';
import { KEY_REVOKED_CHANNEL } from '../../../src/tenant/revocation.ts';
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

const remove = (actor: Principal | typeof SYSTEM_ACTOR, member: Member, revokeCreatedKeys = false) =>
  tenancy.members.remove(actor, { id: member.id, revokeCreatedKeys });

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
      () => remove(admin.principal, second),
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
    const removed = await remove(SYSTEM_ACTOR, member);
    expect(removed.member.removedAt).not.toBeNull();
    await expect(fresh(key.header)).rejects.toMatchObject({ code: 'UNAUTHENTICATED' });
    await expect(keyOf(member)).rejects.toMatchObject({ code: 'NOT_FOUND', field: 'member' });
    await expect(tenancy.members.setRole(SYSTEM_ACTOR, member.id, 'OWNER')).rejects.toMatchObject({
      code: 'MEMBER_STATE',
    });
    expect(await remove(SYSTEM_ACTOR, member)).toEqual(removed);
    expect(await add(SYSTEM_ACTOR, 'DEVELOPER', { email: 'same@example.com' })).not.toEqual(member);
  });

  test('who is removed leaves the keys that theirs made, which are listed and end where that is said', async () => {
    const owner = await keyOf(await add(SYSTEM_ACTOR, 'OWNER'), [...SCOPES]);
    const member = await add(SYSTEM_ACTOR, 'ADMIN');
    const { principal } = await keyOf(member);
    const issue = async (actor: Principal, memberId: string | null = null) => {
      const input = { idempotencyKey: randomUUID(), tenantId: null, name: 'made', scopes: null, memberId };
      const { key, secret } = await tenancy.keys.create(actor, { ...input, expiresAt: null });
      const header = `Bearer ${secret}`;
      return { key, header, principal: await fresh(header) };
    };
    const made = await issue(principal);
    expect(made.key.createdBy).toBe(principal.keyId);
    const atTwoRemoves = await issue(made.principal);
    const colleague = await add(SYSTEM_ACTOR, 'DEVELOPER');
    const ofColleague = await issue(principal, colleague.id);
    const ended = await issue(principal);
    await tenancy.keys.revoke(SYSTEM_ACTOR, ended.key.id);
    await issue(principal, member.id);
    const unrelated = await issue(owner.principal);

    const left = [made, atTwoRemoves, ofColleague];
    const ids = left.map(({ key }) => key.id);
    await tenancy.members.setRole(owner.principal, member.id, 'DEVELOPER');
    // Who may not see keys is told of none, and may not end them.
    const weak = { ...owner.principal, scopes: SCOPES.filter((scope) => scope !== 'keys:write') };
    await expect(remove(weak, member, true)).rejects.toMatchObject({ code: 'FORBIDDEN' });
    const { createdKeys } = await remove(owner.principal, member);
    expect(createdKeys.map(({ id, revokedAt }) => ({ id, revokedAt }))).toEqual(
      ids.map((id) => ({ id, revokedAt: null })),
    );
    expect(await remove(weak, member)).toMatchObject({ createdKeys: [] });
    for (const { header } of left) await fresh(header);

    // What they are is known only by now, so it can be said later too.
    const again = await remove(owner.principal, member, true);
    expect(again.createdKeys.map(({ id }) => id)).toEqual(ids);
    for (const { header, key } of left) {
      await expect(fresh(header)).rejects.toMatchObject({ code: 'UNAUTHENTICATED' });
      const lines = await db.admin(
        `SELECT actor_key_id FROM audit_log WHERE action = 'apiKey.revoke' AND target_id = $1`,
        [key.id],
      );
      expect(lines).toEqual([{ actor_key_id: owner.principal.keyId }]);
    }
    await fresh(unrelated.header);
    expect(await remove(owner.principal, member, true)).toMatchObject({ createdKeys: [] });
  });

  test('has keys made and rotated in their name only by those who may do as much, or by themselves', async () => {
    const owner = await add(SYSTEM_ACTOR, 'OWNER');
    const weak = await keyOf(owner, ['infer', 'keys:write']);
    const admin = await keyOf(await add(SYSTEM_ACTOR, 'ADMIN'));
    const issue = (actor: Principal) =>
      tenancy.keys.create(actor, {
        ...{ idempotencyKey: randomUUID(), tenantId: null, name: 'x', expiresAt: null },
        ...{ scopes: ['infer'], memberId: owner.id },
      });
    const rotate = (actor: Principal) =>
      tenancy.keys.rotate(actor, { idempotencyKey: randomUUID(), id: weak.id, overlapMs: 60_000 });
    await expect(issue(admin.principal)).rejects.toMatchObject({ code: 'FORBIDDEN' });
    await expect(rotate(admin.principal)).rejects.toMatchObject({ code: 'FORBIDDEN' });
    const denied = await db.admin(
      `SELECT action FROM audit_log WHERE outcome = 'DENIED' AND actor_key_id = $1 ORDER BY id`,
      [admin.id],
    );
    expect(denied).toEqual([{ action: 'apiKey.create' }, { action: 'apiKey.rotate' }]);
    expect((await issue(weak.principal)).key.memberId).toBe(owner.id);
    expect((await rotate(weak.principal)).key.memberId).toBe(owner.id);
  });

  test('who is the last owner stays one, however many try at once', async () => {
    const [one, two] = [await add(SYSTEM_ACTOR, 'OWNER'), await add(SYSTEM_ACTOR, 'OWNER')];
    const results = await Promise.allSettled([
      remove(SYSTEM_ACTOR, one),
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
