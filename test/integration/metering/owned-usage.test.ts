import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { z } from 'zod';
import { systemClock } from '../../../src/kernel/clock.ts';
import { newId, type Uuid } from '../../../src/kernel/ids.ts';
import { openStack, type Stack } from '../graphql/stack.ts';
import { only } from '../inference/harness.ts';

const OWNED = `query ($after: String) {
  ownedUsage(first: 2, after: $after) {
    edges { cursor node { requestId versionId weight shareNumerator shareDenominator completionTokens } }
    pageInfo { hasNextPage endCursor }
  }
}`;

const shape = z.object({
  ownedUsage: z.object({
    edges: z.array(z.object({ node: z.looseObject({ requestId: z.string() }) })),
    pageInfo: z.object({ hasNextPage: z.boolean(), endCursor: z.string().nullable() }),
  }),
});

let stack: Stack;

async function ownedBy(header: string, after: string | null = null) {
  const { data, errors } = await stack.query(header, OWNED, { after });
  expect(errors).toBeUndefined();
  const { edges, pageInfo } = shape.parse(data).ownedUsage;
  return { nodes: edges.map(({ node }) => node), pageInfo };
}

beforeAll(async () => {
  stack = await openStack();
});
afterAll(() => stack.close());

async function insertShare(owner: Uuid, caller: Uuid, requestId: Uuid, completionTokens: number) {
  await stack.registry.db.admin(
    `INSERT INTO usage_share (request_id, adapter_version_id, adapter_id, adapter_digest, owner_tenant_id, tenant_id,
       weight, share_numerator, share_denominator, backbone_digest, priority_class, prompt_tokens,
       cached_prompt_tokens, completion_tokens, ended_at)
     VALUES ($1, $2, $2, sha256('a'), $3, $4, -0.5, 1, 3, sha256('b'), 'STANDARD', 7, 0, $5, now())`,
    [requestId, newId(systemClock), owner, caller, completionTokens],
  );
}

describe('the usage of own adapters', () => {
  it('is paged by request and version, newest first, and no one else sees it', async () => {
    const owner = await stack.tenant('owner');
    const caller = await stack.tenant('caller');
    // Ids of one millisecond are in no order, so these are a second apart.
    const older = newId({ ...systemClock, nowMs: () => systemClock.nowMs() - 1_000 });
    const newer = newId(systemClock);
    await insertShare(owner.tenant.id, caller.tenant.id, older, 1);
    // Two versions of one owner in one blend.
    await insertShare(owner.tenant.id, caller.tenant.id, newer, 2);
    await insertShare(owner.tenant.id, caller.tenant.id, newer, 2);

    const first = await ownedBy(owner.key.header);
    expect(first.nodes).toMatchObject([
      { requestId: newer, weight: -0.5, shareNumerator: '1', shareDenominator: '3', completionTokens: 2 },
      { requestId: newer },
    ]);
    const second = await ownedBy(owner.key.header, first.pageInfo.endCursor);
    expect(second.nodes).toMatchObject([{ requestId: older, completionTokens: 1 }]);
    expect(second.pageInfo.hasNextPage).toBe(false);
    expect((await ownedBy(caller.key.header)).nodes).toEqual([]);
  });

  it('needs the scope, and a cursor of its own', async () => {
    const owner = await stack.tenant('scoped');
    const { header } = await stack.tenancy.createKey(owner.tenant.id, ['infer']);
    expect(only((await stack.query(header, OWNED)).errors ?? [])).toMatchObject({
      extensions: { code: 'FORBIDDEN' },
    });
    const after = Buffer.from('after:x/y').toString('base64url');
    expect(only((await stack.query(owner.key.header, OWNED, { after })).errors ?? [])).toMatchObject({
      extensions: { code: 'BAD_INPUT', field: 'after' },
    });
  });
});
