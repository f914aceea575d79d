import { randomUUID } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { z } from 'zod';
import { createTestDatabase, type TestDatabase } from '../kit/postgres.ts';
import { waitFor } from '../kit/wait.ts';
import { INFER, WireClient } from '../unit/graphql/server.ts';
import { graphql } from './client.ts';
import { type RunningServer, startServer } from './server.ts';

const BACKBONE = fileURLToPath(new URL('../fixtures/golden/llama-tied', import.meta.url));
/** More than one row can run at a time, so that some still wait and one still generates when the key goes. */
const STREAMS = 12;

let database: TestDatabase;
let dataDir: string;
let serving: RunningServer;
let other: RunningServer;

beforeAll(async () => {
  database = await createTestDatabase();
  dataDir = await mkdtemp(join(tmpdir(), 'patchbay-revocation-'));
  const env = {
    DATABASE_URL: database.adminUrl,
    PATCHBAY_SECRET: database.secret,
    PATCHBAY_BACKBONE: BACKBONE,
    PATCHBAY_MAX_BATCH: '1',
    PATCHBAY_INTRA_OP_THREADS: '1',
  };
  serving = await startServer({ dataDir, env });
  other = await startServer({ dataDir, env });
});
afterAll(async () => {
  await serving.stop();
  await other.stop();
  await rm(dataDir, { recursive: true, force: true });
  await database.dispose();
});

const CREATE = `mutation ($input: CreateApiKeyInput!) {
  createApiKey(input: $input) { apiKey { id uuid } secret }
}`;
const REVOKE = `mutation ($input: RevokeApiKeyInput!) { revokeApiKey(input: $input) { apiKey { revokedAt } } }`;
const created = z.object({
  createApiKey: z.object({ apiKey: z.object({ id: z.string(), uuid: z.string() }), secret: z.string() }),
});

test('a key that one server revokes loses its sockets and sequences on another within a second', async () => {
  const input = { idempotencyKey: randomUUID(), name: 'short-lived' };
  const { createApiKey } = await graphql(serving.graphqlUrl, serving.demoKey, CREATE, { input }, created);
  const { apiKey, secret } = createApiKey;
  const client = await new WireClient(serving.graphqlUrl).init(`Bearer ${secret}`);
  for (let index = 0; index < STREAMS; index += 1) {
    client.subscribe(String(index), INFER, {
      input: {
        idempotencyKey: randomUUID(),
        promptIds: [1, 2, 3],
        plainBackbone: true,
        maxTokens: 500,
        ignoreEos: true,
      },
    });
  }
  await client.take(({ payload }) => payload?.data?.infer?.__typename === 'InferChunk');
  await graphql(other.graphqlUrl, other.demoKey, REVOKE, { input: { id: apiKey.id } }, z.unknown());
  expect((await client.closed).code).toBe(4451);

  const running = () => database.admin('SELECT 1 FROM inference_request WHERE key_id = $1', [apiKey.uuid]);
  await waitFor(async () => (await running()).length === 0, { what: 'the settlements' });
  const records = await database.admin<{ finish_reason: string; late_ms: string }>(
    `SELECT u.finish_reason, extract(epoch FROM u.ended_at - k.revoked_at) * 1000 AS late_ms
     FROM usage_record u JOIN api_key k ON k.id = u.key_id WHERE k.id = $1`,
    [apiKey.uuid],
  );
  expect(records.map(({ finish_reason }) => finish_reason)).toContain('cancelled');
  for (const { late_ms: lateMs } of records) expect(Number(lateMs)).toBeLessThan(1_000);
});
