import { describe, expect, test } from 'vitest';
import { toGlobalId } from '../../../src/graphql/ids.ts';
import { PatchbayError } from '../../../src/kernel/errors.ts';
import { ADAPTER, endEvent, REQUEST_ID, startedEvent, tokensEvent, VERSION } from './fakes.ts';
import { INFER, inferInput, startServer, WireClient } from './server.ts';

/** A server with one running stream. */
async function openStream(options: Parameters<typeof startServer>[0] = {}) {
  const test = await startServer(options);
  const client = await new WireClient(test.graphqlUrl).init();
  client.subscribe('1', INFER, inferInput());
  await expect.poll(() => test.inference.runs.length).toBe(1);
  return { ...test, client, run: test.inference.last };
}

describe('a stream', () => {
  test('is one start, numbered chunks and one end, then complete', async () => {
    const { client, run } = await openStream();
    run.push(startedEvent(), tokensEvent(0, 'he'), tokensEvent(1, 'llo'), endEvent());
    run.end();
    const seen = [];
    for (;;) {
      const message = await client.next('1');
      if (message.type === 'complete') break;
      seen.push(message.payload?.data?.infer);
    }
    expect(seen).toEqual([
      { __typename: 'InferStarted', requestId: REQUEST_ID, replayed: false },
      { __typename: 'InferChunk', sequence: 0, text: 'he', tokens: [{ id: 0, logprob: -1, top: [] }] },
      { __typename: 'InferChunk', sequence: 1, text: 'llo', tokens: [{ id: 1, logprob: -1, top: [] }] },
      {
        __typename: 'InferFinished',
        requestId: REQUEST_ID,
        finishReason: 'STOP',
        opening: { salt: 'ab'.repeat(32), promptIds: [1, 2, 3] },
        usage: { promptTokens: 3, completionTokens: 2 },
        timing: { bytesLoaded: '5' },
      },
    ]);
  });

  test('takes the next event only when the one before was written, and then at once', async () => {
    const { client, run } = await openStream();
    run.push(startedEvent());
    await client.next('1');
    await run.acknowledgements(1);
    run.push(tokensEvent(0));
    await client.next('1');
    await run.acknowledgements(2);
    expect(run.acknowledged).toBe(2);
  });

  test('is cancelled at once by complete, although the engine is silent', async () => {
    const { client, run } = await openStream();
    run.push(startedEvent());
    await client.next('1');
    client.send({ id: '1', type: 'complete' });
    await run.returned;
    client.subscribe('1', '{ health { ready } }');
    expect((await client.next('1')).payload?.data).toEqual({ health: { ready: true } });
  });

  test('is cancelled by the loss of its socket', async () => {
    const { client, run } = await openStream();
    client.socket.terminate();
    await run.returned;
    expect(run.acknowledged).toBe(0);
  });

  test('that fails before it starts is answered with the code and the argument', async () => {
    const { inference, graphqlUrl } = await startServer();
    inference.refusal = new PatchbayError('PROMPT_TOO_LONG', 'Too long.', {
      field: 'prompt',
      meta: { max: 8 },
    });
    const client = await new WireClient(graphqlUrl).init();
    client.subscribe('1', INFER, inferInput());
    expect((await client.next('1')).payload?.errors?.[0]?.extensions).toMatchObject({
      code: 'PROMPT_TOO_LONG',
      field: 'input.prompt',
      meta: { max: 8 },
      requestId: expect.any(String),
    });
    expect((await client.next('1')).type).toBe('complete');
  });

  test('that breaks is masked, logged and ended', async () => {
    const { client, run, logs } = await openStream();
    run.push(startedEvent());
    await client.next('1');
    await run.acknowledgements(1);
    run.fail(new Error('secret detail'));
    const message = await client.next('1');
    expect(message).toMatchObject({ type: 'error', payload: [{ extensions: { code: 'INTERNAL' } }] });
    expect(JSON.stringify(message)).not.toContain('secret detail');
    expect(JSON.stringify(logs)).toContain('secret detail');
  });
});

describe('a slow consumer', () => {
  const CHUNK = 'x'.repeat(65_536);

  test('stops its stream being pulled, and is closed with 4450 when it does not drain', async () => {
    const { client, run } = await openStream({
      options: { websocket: { drainMsMax: 200, bufferedBytesMax: 65_536, closeMsMax: 5_000 } },
    });
    client.socket.pause();
    const pushed = 2_000;
    run.push(startedEvent());
    for (let seq = 0; seq < pushed; seq += 1) run.push(tokensEvent(seq, CHUNK));
    await run.returned;
    // What was taken is what the two kernels' socket buffers hold, and a chunk or two; not the whole stream.
    const taken = run.acknowledged;
    expect(taken).toBeLessThan(pushed / 2);

    client.socket.resume();
    expect(await client.closed).toEqual({
      code: 4450,
      reason: 'SLOW_CONSUMER: the client read too slowly',
    });
    // Everything that was acknowledged as written did arrive.
    let received = 0;
    await client.take(() => true);
    while (received < taken - 1) {
      await client.take(({ id }) => id === '1');
      received += 1;
    }
    expect(run.acknowledged).toBe(taken);
  });

  test('that reads again in time goes on', async () => {
    const { client, run } = await openStream({
      options: { websocket: { drainMsMax: 30_000, bufferedBytesMax: 65_536 } },
    });
    client.socket.pause();
    run.push(startedEvent());
    for (let seq = 0; seq < 300; seq += 1) run.push(tokensEvent(seq, CHUNK));
    run.push(endEvent());
    run.end();
    client.socket.resume();
    await client.take(({ type }) => type === 'complete');
    expect(run.hasReturned).toBe(false);
    expect(run.acknowledged).toBe(302);
  });
});

describe('the input', () => {
  test('reaches the service with raw ids, names and numbers', async () => {
    const { query, inference } = await startServer();
    await query({
      query: 'mutation ($input: InferInput!) { generate(input: $input) { generation { text } } }',
      variables: {
        input: {
          idempotencyKey: 'k',
          messages: [{ role: 'USER', content: 'hi' }],
          adapters: [
            { adapter: toGlobalId('Adapter', ADAPTER.id), version: 3 },
            { adapter: 'acme/sql', weight: 0.5 },
            { adapter: toGlobalId('AdapterVersion', VERSION.id), weight: -1 },
          ],
          sampling: { temperature: 0.7, seed: '9007199254740991' },
          stop: ['END'],
          priority: 'BATCH',
        },
      },
    });
    expect(inference.last.input).toEqual({
      idempotencyKey: 'k',
      messages: [{ role: 'user', content: 'hi' }],
      adapters: [
        { adapter: ADAPTER.id, version: '3', weight: 1 },
        { adapter: 'acme/sql', weight: 0.5 },
        { adapter: VERSION.id, version: VERSION.id, weight: -1 },
      ],
      plainBackbone: false,
      maxTokens: 256,
      sampling: { temperature: 0.7, topP: 1, topK: 0, minP: 0, repetitionPenalty: 1, seed: 9007199254740991 },
      stop: ['END'],
      stopTokenIds: [],
      ignoreEos: false,
      priority: 'BATCH',
      topLogprobs: 0,
    });
  });

  test('generate answers with the whole text, or with user errors', async () => {
    const { query, inference } = await startServer();
    const text = `mutation ($input: InferInput!) {
      generate(input: $input) {
        generation { text finishReason usage { completionTokens } tokens { id logprob } }
        userErrors { code field message fix meta }
      }
    }`;
    const good = await query({ query: text, variables: inferInput() });
    expect(good.body.data?.generate).toEqual({
      generation: {
        text: 'hello',
        finishReason: 'STOP',
        usage: { completionTokens: 2 },
        tokens: [{ id: 7, logprob: -0.5 }],
      },
      userErrors: [],
    });
    inference.refusal = new PatchbayError('ENGINE_FULL', 'Full.', { meta: { retryAfterMs: 250 } });
    const refused = await query({ query: text, variables: inferInput() });
    expect(refused.body.errors).toBeUndefined();
    expect(refused.body.data?.generate).toEqual({
      generation: null,
      userErrors: [
        {
          code: 'ENGINE_FULL',
          field: null,
          message: 'Full.',
          fix: expect.any(String),
          meta: { retryAfterMs: 250 },
        },
      ],
    });
    const seed = inferInput({ sampling: { seed: '9007199254740992' } });
    const wrong = await query({ query: text, variables: seed });
    expect(wrong.body.data?.generate).toMatchObject({
      userErrors: [{ code: 'SAMPLING_INVALID', field: 'input.sampling.seed' }],
    });
  });
});
