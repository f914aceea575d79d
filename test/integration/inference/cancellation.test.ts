import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { SYSTEM_ACTOR } from '../../../src/auth/principal.ts';
import { waitFor } from '../../kit/wait.ts';
import { WireClient } from '../../unit/graphql/server.ts';
import { openStack, type Stack } from '../graphql/stack.ts';
import type { FakeSequence } from './fake-engine.ts';

const GENERATE = `mutation ($input: InferInput!) {
  generate(input: $input) { generation { finishReason } userErrors { code } }
}`;

let stack: Stack;

beforeAll(async () => {
  stack = await openStack();
  stack.engine.script = null;
});
afterAll(() => stack.close());

/** Expects that the sequence is cancelled and what it generated is metered. */
async function expectCancelled(sequence: FakeSequence): Promise<void> {
  await expect.poll(() => sequence.cancelled).toBe(true);
  const record = () =>
    stack.registry.db.admin('SELECT finish_reason, completion_tokens FROM usage_record WHERE id = $1', [
      sequence.request.id,
    ]);
  await expect.poll(record).toEqual([{ finish_reason: 'cancelled', completion_tokens: 3 }]);
}

function input(idempotencyKey: string) {
  return { input: { idempotencyKey, prompt: 'abc', plainBackbone: true } };
}

describe('a generate whose client leaves', () => {
  it.each(['application/json', 'text/event-stream'])('over HTTP is cancelled (%s)', async (accept) => {
    const { key } = await stack.tenant(`http-${accept.length}`);
    const before = stack.engine.all.length;
    const abort = new AbortController();
    const answer = fetch(stack.graphqlUrl, {
      method: 'POST',
      headers: { 'content-type': 'application/json', authorization: key.header, accept },
      body: JSON.stringify({ query: GENERATE, variables: input('http') }),
      signal: abort.signal,
    });
    const sequence = await stack.engine.sequence(before);
    sequence.emit(1, 2, 3);
    abort.abort();
    await expect(answer).rejects.toThrow(/abort/);
    await expectCancelled(sequence);
  });

  it('over HTTP is cancelled when its key is revoked and nobody was told of it', async () => {
    // The stack listens to no notifications, like a server whose connection for them is down.
    const { key } = await stack.tenant('revoked');
    const before = stack.engine.all.length;
    const answer = stack.query(key.header, GENERATE, input('revoked'));
    const sequence = await stack.engine.sequence(before);
    sequence.emit(1, 2, 3);
    await stack.tenancy.keys.revoke(SYSTEM_ACTOR, key.principal.keyId);
    stack.tenancy.authenticator.forget();
    await waitFor(() => sequence.cancelled);
    await expectCancelled(sequence);
    expect(await answer).toMatchObject({ data: { generate: { generation: { finishReason: 'CANCELLED' } } } });
  });

  it('over a websocket is cancelled by completing the operation, and no other operation is', async () => {
    const { key } = await stack.tenant('completes');
    const client = await new WireClient(stack.graphqlUrl).init(key.header);
    const before = stack.engine.all.length;
    client.subscribe('left', GENERATE, input('left'));
    const left = await stack.engine.sequence(before);
    client.subscribe('kept', GENERATE, input('kept'));
    const kept = await stack.engine.sequence(before + 1);
    left.emit(1, 2, 3);
    client.send({ id: 'left', type: 'complete' });
    await expectCancelled(left);
    kept.end('stop');
    expect((await client.next('kept')).payload?.data).toEqual({
      generate: { generation: { finishReason: 'STOP' }, userErrors: [] },
    });
    expect(kept.cancelled).toBe(false);
  });

  it('over a websocket is cancelled when the socket is lost', async () => {
    const { key } = await stack.tenant('loses');
    const client = await new WireClient(stack.graphqlUrl).init(key.header);
    const before = stack.engine.all.length;
    client.subscribe('1', GENERATE, input('lost'));
    const sequence = await stack.engine.sequence(before);
    sequence.emit(1, 2, 3);
    client.socket.terminate();
    await expectCancelled(sequence);
  });

  it('is not cancelled by the end of a response that was answered', async () => {
    const { key } = await stack.tenant('answered');
    const before = stack.engine.all.length;
    const answer = stack.query(key.header, GENERATE, input('answered'));
    const sequence = await stack.engine.sequence(before);
    sequence.emit(1);
    sequence.end('stop');
    expect((await answer).data).toEqual({
      generate: { generation: { finishReason: 'STOP' }, userErrors: [] },
    });
    expect(sequence.cancelled).toBe(false);
  });
});
