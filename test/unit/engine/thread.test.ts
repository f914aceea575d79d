import { MessageChannel, type MessagePort } from 'node:worker_threads';
import { describe, expect, test } from 'vitest';
import type { Engine } from '../../../src/engine/port.ts';
import { connectEngine, createThreadEngine } from '../../../src/engine/thread/client.ts';
import type { EngineThread } from '../../../src/engine/thread/connection.ts';
import { isFromEngine } from '../../../src/engine/thread/messages.ts';
import { serveEngine } from '../../../src/engine/thread/serve.ts';
import { engineConformance } from '../../conformance/engine.ts';
import { fakeEngine, request, submitted } from '../../kit/fake-engine.ts';

function threadOver(port: MessagePort): EngineThread {
  return {
    port,
    onDeath: (listener) => port.once('close', () => listener(new Error('the port was closed'))),
    terminate: async () => port.close(),
  };
}

async function connected(
  engine: Engine,
): Promise<{ readonly client: Engine; readonly serverPort: MessagePort }> {
  const { port1, port2 } = new MessageChannel();
  const client = connectEngine(threadOver(port2));
  serveEngine(engine, port1);
  return { client: await client, serverPort: port1 };
}

engineConformance('over a message channel', async ({ maxBatch = 16, maxQueue = 256 }) => {
  const { engine } = fakeEngine({
    engine: { maxBatch, maxQueue, prefillTokensPerStep: 8 },
    adapters: { missing: { fails: true }, slow: { turns: 5 } },
  });
  const { client } = await connected(engine);
  return {
    engine: client,
    adapters: ['slow', 'quick'],
    missingAdapter: 'missing',
    prompts: [[1, 2, 3], [4], [5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17]],
  };
});

test('all events of a step cross in one message, in order', async () => {
  const { engine } = fakeEngine();
  const { port1, port2 } = new MessageChannel();
  const sizes: number[] = [];
  port2.on('message', (message: unknown) => {
    if (isFromEngine(message) && message.kind === 'events') sizes.push(message.events.length);
  });
  const client = connectEngine(threadOver(port2));
  serveEngine(engine, port1);
  const served = await client;
  const all = await Promise.all([1, 2, 3].map(() => submitted(served, request({ stop: { maxTokens: 3 } }))));
  await Promise.all(all.map(({ ended }) => ended));
  // Three sequences of three tokens and an end each, all in step with each other.
  expect(sizes.slice(-3)).toEqual([3, 3, 6]);
  await served.close({ graceMs: 0 });
});

describe('when the thread dies', () => {
  const worker = new URL('./fixtures/worker.mjs', import.meta.url);

  test('every live sequence ends once with ENGINE_FAILED and its tokens so far; later calls are refused', async () => {
    const reports: unknown[] = [];
    const engine = await createThreadEngine(
      worker,
      { mode: 'dies-while-running' },
      { report: (error) => reports.push(error) },
    );
    const recording = await submitted(engine, request());
    const end = await recording.ended;
    expect(end).toMatchObject({ reason: 'error', error: { code: 'ENGINE_FAILED' } });
    expect(end.usage).toMatchObject({
      ...{ promptTokens: 3, completionTokens: recording.tokens.length },
      cachedPromptTokens: recording.tokens.length > 0 ? 2 : 0,
    });
    expect(end.error?.message).not.toContain('segmentation');
    await expect(submitted(engine, request())).rejects.toMatchObject({ code: 'ENGINE_FAILED' });
    await expect(engine.status()).rejects.toMatchObject({ code: 'ENGINE_FAILED' });
    await expect(engine.probe('x', [1])).rejects.toMatchObject({ code: 'ENGINE_FAILED' });
    engine.cancel('whatever');
    await engine.close({ graceMs: 0 });
    expect(recording.ends).toBe(1);
    expect(String(reports[0])).toContain('segmentation');
  });

  test('a sequence that was not accepted yet is refused and gets no event', async () => {
    const engine = await createThreadEngine(worker, { mode: 'dies-before-accepting' });
    const events: unknown[] = [];
    await expect(engine.submit(request(), (event) => events.push(event))).rejects.toMatchObject({
      code: 'ENGINE_FAILED',
    });
    expect(events).toEqual([]);
    await engine.close({ graceMs: 0 });
  });

  test('a thread that cannot start says why; one that dies at once is ENGINE_FAILED', async () => {
    await expect(createThreadEngine(worker, { mode: 'no-start' })).rejects.toMatchObject({
      code: 'BACKBONE_INVALID',
    });
    await expect(createThreadEngine(worker, { mode: 'dies-at-start' })).rejects.toMatchObject({
      code: 'ENGINE_FAILED',
    });
  });

  test('closing terminates a thread that does not answer, and its sequences end', async () => {
    const engine = await createThreadEngine(worker, { mode: 'hangs-on-close' }, { closeMarginMs: 1 });
    const recording = await submitted(engine, request());
    await engine.close({ graceMs: 0 });
    expect((await recording.ended).reason).toBe('error');
    await expect(submitted(engine, request())).rejects.toMatchObject({ code: 'SHUTTING_DOWN' });
  });
});
