import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { PLATFORM_TENANT_ID } from '../../../src/db/platform.ts';
import { toGlobalId } from '../../../src/graphql/ids.ts';
import { INFER, WireClient } from '../../unit/graphql/server.ts';
import { declare, patch, sampleFiles } from '../adapter/kit.ts';
import { openStack, type Stack } from './stack.ts';

let stack: Stack;
beforeAll(async () => {
  stack = await openStack();
});
afterAll(() => stack.close());

const CREATE_TENANT = `mutation ($input: CreateTenantInput!) {
  createTenant(input: $input) { tenant { id slug state } userErrors { code field message fix } }
}`;
const CREATE_KEY = `mutation ($input: CreateApiKeyInput!) {
  createApiKey(input: $input) { apiKey { id prefix scopes revokedAt } secret userErrors { code field } }
}`;
const OPEN = `mutation ($input: OpenAdapterUploadInput!) {
  openAdapterUpload(input: $input) {
    upload { id state files { name size received } }
    targets { name url token }
    userErrors { code field message }
  }
}`;
const FINALIZE = `mutation ($input: FinalizeAdapterUploadInput!) {
  finalizeAdapterUpload(input: $input) {
    version { id number state adapter { qualifiedName } backbone { served } }
    userErrors { code field }
  }
}`;
const WATCH = `subscription ($upload: ID) {
  adapterVersionState(upload: $upload) { state version { id digest rank } rejection { code } }
}`;

/** The one value below a path of an answer. */
function at(value: unknown, ...path: readonly (string | number)[]): unknown {
  return path.reduce<unknown>(
    (found, name) => (typeof found === 'object' && found !== null ? Reflect.get(found, name) : undefined),
    value,
  );
}

/** Uploads a sample adapter through GraphQL and tus, and waits for the verdict on the subscription. */
async function uploadAdapter(header: string, name: string): Promise<{ versionId: string; uploadId: string }> {
  const files = sampleFiles();
  const input = {
    idempotencyKey: `open-${name}`,
    name,
    files: declare(files).map((file) => ({ ...file, size: file.size.toString() })),
  };
  const opened = (await stack.query(header, OPEN, { input })).data?.openAdapterUpload;
  expect(at(opened, 'userErrors')).toEqual([]);
  for (const [index, bytes] of [files.config, files.tensors].entries()) {
    const target = {
      url: String(at(opened, 'targets', index, 'url')),
      token: String(at(opened, 'targets', index, 'token')),
    };
    expect((await patch(target, bytes)).status).toBe(204);
  }
  const uploadId = String(at(opened, 'upload', 'id'));
  const client = await new WireClient(stack.graphqlUrl).init(header);
  client.subscribe('w', WATCH, { upload: uploadId });
  expect((await client.next('w')).payload?.data?.adapterVersionState).toMatchObject({ state: 'UPLOADING' });
  const queue = stack.registry.validator();
  const finalize = { input: { idempotencyKey: `final-${name}`, upload: uploadId } };
  const finalized = (await stack.query(header, FINALIZE, finalize)).data?.finalizeAdapterUpload;
  expect(at(finalized, 'userErrors')).toEqual([]);
  queue.start();
  const states: unknown[] = [];
  for (;;) {
    const message = await client.next('w');
    if (message.type !== 'next') break;
    states.push(message.payload?.data?.adapterVersionState?.state);
  }
  expect(states.at(-1)).toBe('READY');
  await queue.close();
  const again = (await stack.query(header, FINALIZE, finalize)).data?.finalizeAdapterUpload;
  expect(at(again, 'version', 'id')).toBe(at(finalized, 'version', 'id'));
  return { versionId: String(at(finalized, 'version', 'id')), uploadId };
}

describe('tenants and keys', () => {
  test('a retry of a creation gives the same answer, other arguments a conflict', async () => {
    const operator = await stack.tenancy.createOperatorKey();
    const input = { idempotencyKey: 'tenant-1', name: 'Acme', slug: 'acme' };
    const first = await stack.query(operator.header, CREATE_TENANT, { input });
    expect(first.data?.createTenant).toMatchObject({
      tenant: { slug: 'acme', state: 'ACTIVE' },
      userErrors: [],
    });
    expect(await stack.query(operator.header, CREATE_TENANT, { input })).toEqual(first);
    const other = await stack.query(operator.header, CREATE_TENANT, { input: { ...input, name: 'Other' } });
    expect(other.data?.createTenant).toMatchObject({
      tenant: null,
      userErrors: [{ code: 'IDEMPOTENCY_CONFLICT', field: 'input.idempotencyKey', fix: expect.any(String) }],
    });
    const taken = { ...input, idempotencyKey: 'tenant-2' };
    expect(
      (await stack.query(operator.header, CREATE_TENANT, { input: taken })).data?.createTenant,
    ).toMatchObject({
      userErrors: [{ code: 'NAME_TAKEN', field: 'input.slug' }],
    });
  });

  test('a tenant may not do what is for operators, and learns of no other tenant', async () => {
    const { tenant, key } = await stack.tenant('modest');
    const { tenant: other } = await stack.tenant('hidden');
    const input = { idempotencyKey: 'x', name: 'X', slug: 'xx' };
    const refused = await stack.query(key.header, CREATE_TENANT, { input });
    expect(refused.errors?.[0]?.extensions.code).toBe('FORBIDDEN');
    const { data } = await stack.query(
      key.header,
      'query ($own: ID!, $other: ID!, $none: ID!) { own: tenant(id: $own) { slug } other: tenant(id: $other) { slug } none: node(id: $none) { id } }',
      {
        own: toGlobalId('Tenant', tenant.id),
        other: toGlobalId('Tenant', other.id),
        none: toGlobalId('Tenant', PLATFORM_TENANT_ID),
      },
    );
    expect(data).toEqual({ own: { slug: 'modest' }, other: null, none: null });
  });

  test('a key is issued with the same secret to a retry, works, and ends when it is revoked', async () => {
    const { key } = await stack.tenant('keyed');
    const input = { idempotencyKey: 'key-1', name: 'second', scopes: ['infer', 'keys:write'] };
    const issued = await stack.query(key.header, CREATE_KEY, { input });
    expect(await stack.query(key.header, CREATE_KEY, { input })).toEqual(issued);
    const secret = String(at(issued.data, 'createApiKey', 'secret'));
    const id = at(issued.data, 'createApiKey', 'apiKey', 'id');
    const mine = await stack.query(`Bearer ${secret}`, '{ me { keyId scopes tenant { slug } } }');
    expect(mine.data?.me).toEqual({ keyId: id, scopes: ['infer', 'keys:write'], tenant: { slug: 'keyed' } });

    const page = await stack.query(
      key.header,
      '{ apiKeys(first: 1) { edges { cursor } pageInfo { hasNextPage endCursor } } }',
    );
    const after = at(page.data, 'apiKeys', 'pageInfo', 'endCursor');
    const second = await stack.query(
      key.header,
      'query ($after: String) { apiKeys(after: $after) { edges { node { id } } pageInfo { hasNextPage hasPreviousPage } } }',
      { after },
    );
    expect(second.data?.apiKeys).toEqual({
      edges: [{ node: { id } }],
      pageInfo: { hasNextPage: false, hasPreviousPage: true },
    });

    const client = await new WireClient(stack.graphqlUrl).init(`Bearer ${secret}`);
    const revoke =
      'mutation ($input: RevokeApiKeyInput!) { revokeApiKey(input: $input) { apiKey { revokedAt } userErrors { code } } }';
    await stack.query(key.header, revoke, { input: { id } });
    // Nobody passes the notification on in this test; the server finds out by itself.
    expect((await client.closed).code).toBe(4451);
  });
});

describe('a denied list of keys', () => {
  test('is audited with the request id that the answer carries', async () => {
    const { tenant } = await stack.tenant('lister');
    const key = await stack.tenancy.createKey(tenant.id, ['infer']);
    const refused = await stack.query(key.header, '{ apiKeys { edges { cursor } } }');
    const { code, requestId } = refused.errors?.[0]?.extensions ?? {};
    expect(code).toBe('FORBIDDEN');
    expect(requestId).toEqual(expect.any(String));
    const rows = await stack.registry.db.admin<object>(
      'SELECT action, outcome::text, request_id FROM audit_log WHERE tenant_id = $1 AND actor_key_id = $2',
      [tenant.id, key.principal.keyId],
    );
    expect(rows).toEqual([{ action: 'apiKey.list', outcome: 'DENIED', request_id: requestId }]);
  });
});

describe('an adapter', () => {
  test('goes from its files to READY, is found by name and id, and only by who may see it', async () => {
    const owner = await stack.tenant('owner-a');
    const stranger = await stack.tenant('stranger-a');
    const { versionId, uploadId } = await uploadAdapter(owner.key.header, 'sentiment');
    const read = `query ($name: String!, $version: ID!) {
      adapter(name: $name) { qualifiedName visibility latestVersion { id number } versions { edges { node { state bytes backbone { served family } } } } }
      node(id: $version) { __typename ... on AdapterVersion { digest } }
    }`;
    const seen = await stack.query(owner.key.header, read, { name: 'sentiment', version: versionId });
    expect(seen.errors).toBeUndefined();
    expect(seen.data).toMatchObject({
      adapter: {
        qualifiedName: 'owner-a/sentiment',
        visibility: 'PRIVATE',
        latestVersion: { id: versionId, number: 1 },
        versions: { edges: [{ node: { state: 'READY', backbone: { served: true, family: 'llama' } } }] },
      },
      node: { __typename: 'AdapterVersion', digest: expect.stringMatching(/^[0-9a-f]{64}$/) },
    });
    const unseen = { name: 'owner-a/sentiment', version: versionId };
    expect((await stack.query(stranger.key.header, read, unseen)).data).toEqual({
      adapter: null,
      node: null,
    });
    const upload = 'query ($id: ID!) { upload(id: $id) { state version { id } } }';
    expect((await stack.query(stranger.key.header, upload, { id: uploadId })).data).toEqual({ upload: null });
    expect((await stack.query(owner.key.header, upload, { id: uploadId })).data).toMatchObject({
      upload: { version: { id: versionId } },
    });

    const adapterId = at(
      await stack.query(owner.key.header, '{ adapter(name: "sentiment") { id } }'),
      'data',
      'adapter',
      'id',
    );
    const publish = `mutation ($input: SetAdapterVisibilityInput!) {
      setAdapterVisibility(input: $input) { adapter { visibility } userErrors { code } }
    }`;
    const input = { adapter: adapterId, visibility: 'PUBLIC' };
    const denied = await stack.query(stranger.key.header, publish, { input });
    expect(denied.data?.setAdapterVisibility).toEqual({
      adapter: null,
      userErrors: [{ code: 'ADAPTER_NOT_FOUND' }],
    });
    expect((await stack.query(owner.key.header, publish, { input })).data?.setAdapterVisibility).toEqual({
      adapter: { visibility: 'PUBLIC' },
      userErrors: [],
    });
    const list = await stack.query(
      stranger.key.header,
      '{ adapters(includePublic: true) { edges { node { qualifiedName } } } }',
    );
    expect(at(list.data, 'adapters', 'edges', 0, 'node')).toEqual({ qualifiedName: 'owner-a/sentiment' });

    const retire = `mutation ($input: RetireAdapterVersionInput!) {
      retireAdapterVersion(input: $input) { version { state } userErrors { code } }
    }`;
    for (let times = 0; times < 2; times += 1) {
      const retired = await stack.query(owner.key.header, retire, { input: { version: versionId } });
      expect(retired.data?.retireAdapterVersion).toEqual({ version: { state: 'RETIRED' }, userErrors: [] });
    }
    const audit = await stack.registry.db.admin<{ action: string }>(
      'SELECT action FROM audit_log WHERE tenant_id = $1 ORDER BY id',
      [owner.tenant.id],
    );
    expect(audit.map(({ action }) => action)).toEqual(
      expect.arrayContaining([
        'upload.open',
        'upload.finalize',
        'adapter.setVisibility',
        'adapterVersion.retire',
      ]),
    );
  });

  test('needs the scope to be written', async () => {
    const { tenant } = await stack.tenant('reader');
    const key = await stack.tenancy.createKey(tenant.id, ['adapters:read']);
    const input = { idempotencyKey: 'o', name: 'a', files: [] };
    const refused = await stack.query(key.header, OPEN, { input });
    expect(refused.errors?.[0]?.extensions).toMatchObject({
      code: 'FORBIDDEN',
      meta: { scope: 'adapters:write' },
    });
  });
});

describe('an inference', () => {
  test('streams on an uploaded adapter, is metered, replayed to a retry, and summed up', async () => {
    const { tenant, key } = await stack.tenant('inferrer');
    const { versionId } = await uploadAdapter(key.header, 'sorter');
    const client = await new WireClient(stack.graphqlUrl).init(key.header);
    const input = {
      idempotencyKey: 'infer-1',
      prompt: 'abc',
      adapters: [{ adapter: 'sorter' }],
      maxTokens: 5,
    };
    const stream = async (id: string) => {
      client.subscribe(id, INFER, { input });
      const events: unknown[] = [];
      for (;;) {
        const message = await client.next(id);
        expect(message.payload?.errors).toBeUndefined();
        if (message.type !== 'next') return events;
        events.push(message.payload?.data?.infer);
      }
    };
    const events = await stream('1');
    const requestId = String(at(events[0], 'requestId'));
    expect(events.at(-1)).toMatchObject({
      __typename: 'InferFinished',
      requestId,
      finishReason: 'LENGTH',
      usage: { promptTokens: 3, completionTokens: 5 },
    });
    const sequences = events.slice(1, -1).map((event) => at(event, 'sequence'));
    expect(sequences).toEqual(sequences.map((_, index) => index));
    expect(events.slice(1, -1).flatMap((event) => at(event, 'tokens'))).toHaveLength(5);

    const replay = await stream('2');
    expect(replay[0]).toEqual({ __typename: 'InferStarted', requestId, replayed: true });
    expect(stack.engine.all.filter(({ request }) => request.tenantId === tenant.id)).toHaveLength(1);

    const now = Date.now();
    const { data, errors } = await stack.query(
      key.header,
      `query ($id: UUID!, $node: ID!, $from: DateTime!, $to: DateTime!) {
        request(id: $id) { id state commitmentSalt usage { id completionTokens } }
        node(id: $node) { ... on UsageRecord { adapters { weight } settledBy bytesLoaded priority } }
        usageRecords(first: 10) { edges { node { requestId finishReason } } pageInfo { hasNextPage } }
        usage(from: $from, to: $to, bucket: HOUR, groupBy: ADAPTER) {
          totals { requests completionTokens }
          rows { adapter { name } totals { requests promptTokens } }
        }
      }`,
      {
        id: requestId,
        node: toGlobalId('UsageRecord', requestId),
        from: new Date(now - 3_600_000).toISOString(),
        to: new Date(now + 3_600_000).toISOString(),
      },
    );
    expect(errors).toBeUndefined();
    expect(data).toEqual({
      request: {
        id: requestId,
        state: 'SETTLED',
        commitmentSalt: at(events.at(-1), 'opening', 'salt'),
        usage: { id: toGlobalId('UsageRecord', requestId), completionTokens: 5 },
      },
      node: { adapters: [{ weight: 1 }], settledBy: 'ENGINE', bytesLoaded: '4096', priority: 'STANDARD' },
      usageRecords: {
        edges: [{ node: { requestId, finishReason: 'LENGTH' } }],
        pageInfo: { hasNextPage: false },
      },
      usage: {
        totals: { requests: '1', completionTokens: '5' },
        rows: [{ adapter: { name: 'sorter' }, totals: { requests: '1', promptTokens: '3' } }],
      },
    });

    const stranger = await stack.tenant('nosy');
    const hidden = await stack.query(
      stranger.key.header,
      'query ($id: UUID!, $tenant: ID!) { request(id: $id) { id } usageRecords(tenant: $tenant) { edges { cursor } } }',
      { id: requestId, tenant: toGlobalId('Tenant', tenant.id) },
    );
    expect(hidden.errors?.map((error) => error.extensions.code)).toEqual(['NOT_FOUND']);
    const byId = { ...input, idempotencyKey: 'i', adapters: [{ adapter: versionId }] };
    const probe = await stack.query(
      stranger.key.header,
      'mutation ($input: InferInput!) { generate(input: $input) { generation { text } userErrors { code } } }',
      { input: byId },
    );
    expect(probe.data?.generate).toEqual({ generation: null, userErrors: [{ code: 'ADAPTER_NOT_FOUND' }] });
    const own = await stack.query(
      key.header,
      'mutation ($input: InferInput!) { generate(input: $input) { generation { usage { completionTokens } } userErrors { code } } }',
      { input: byId },
    );
    expect(own.data?.generate).toEqual({ generation: { usage: { completionTokens: 5 } }, userErrors: [] });
  });

  test('that loses its socket is cancelled in the engine and settled', async () => {
    const { tenant, key } = await stack.tenant('leaver');
    const script = stack.engine.script;
    stack.engine.script = null;
    const client = await new WireClient(stack.graphqlUrl).init(key.header);
    const before = stack.engine.all.length;
    client.subscribe('1', INFER, { input: { idempotencyKey: 'l', prompt: 'abc', plainBackbone: true } });
    const sequence = await stack.engine.sequence(before);
    sequence.emit(1, 2);
    await client.take(({ payload }) => payload?.data?.infer?.__typename === 'InferChunk');
    client.socket.terminate();
    await expect.poll(() => sequence.cancelled).toBe(true);
    stack.engine.script = script;
    const record = async () => {
      const rows = await stack.registry.db.admin<{ finish_reason: string; completion_tokens: number }>(
        'SELECT finish_reason, completion_tokens FROM usage_record WHERE tenant_id = $1',
        [tenant.id],
      );
      return rows[0];
    };
    await expect.poll(record).toEqual({ finish_reason: 'cancelled', completion_tokens: 2 });
  });
});

describe('the engine', () => {
  const STATUS = `{ engine { maxContext queues { running waiting waitingForAdapter } steps kvCache { used budget }
    prefixes { memory { used budget } hits tokens }
    residentAdapters { tier bytes rank inUse } stepMs { total } memory { total resident parts { name bytes } } } }`;

  test('shows itself to operators only', async () => {
    const operator = await stack.tenancy.createOperatorKey();
    const { data } = await stack.query(operator.header, STATUS);
    expect(data?.engine).toEqual({
      maxContext: 4_096,
      queues: { running: 1, waiting: 2, waitingForAdapter: 3 },
      steps: '4',
      kvCache: { used: '6', budget: '7' },
      prefixes: { memory: { used: '10', budget: '11' }, hits: '12', tokens: '13' },
      memory: { total: '100', resident: '90', parts: [{ name: 'weights', bytes: '60' }] },
      residentAdapters: [{ tier: 'BANK', bytes: '10', rank: 8, inUse: 1 }],
      stepMs: { total: 4 },
    });
    const { key } = await stack.tenant('curious');
    expect((await stack.query(key.header, STATUS)).errors?.[0]?.extensions.code).toBe('FORBIDDEN');
  });
});

test('a page of adapters costs as many transactions as one adapter', async () => {
  const { tenant, key } = await stack.tenant('batching');
  const cost = async (): Promise<number> => {
    const transactions = vi.spyOn(stack.registry.db.database, 'withTenant');
    const { data, errors } = await stack.query(
      key.header,
      `{ adapters { edges { node { latestVersion { number state adapter { qualifiedName } backbone { name } } } } }
         backbones(first: 1) { edges { node { name } } pageInfo { hasNextPage } } }`,
    );
    const count = transactions.mock.calls.length;
    transactions.mockRestore();
    expect(errors).toBeUndefined();
    expect(at(data, 'backbones')).toEqual({
      edges: [{ node: { name: 'sample' } }],
      pageInfo: { hasNextPage: false },
    });
    for (const edge of [at(data, 'adapters', 'edges')].flat()) {
      expect(at(edge, 'node', 'latestVersion')).toMatchObject({
        state: 'READY',
        adapter: { qualifiedName: expect.stringContaining('batching/many-') },
        backbone: { name: 'sample' },
      });
    }
    return count;
  };
  await stack.registry.ready(tenant.id, 'many-0', sampleFiles(0.51));
  const one = await cost();
  for (const value of [1, 2, 3, 4])
    await stack.registry.ready(tenant.id, `many-${value}`, sampleFiles(0.51 + value / 100));
  await stack.registry.ready(tenant.id, 'many-0', sampleFiles(0.59));
  expect(await cost()).toBe(one);
});
