import { describe, expect, test } from 'vitest';
import { engineConformance } from '../../conformance/engine.ts';
import { fakeEngine, nextTurn, Recording, request, submitted, tokenText } from '../../kit/fake-engine.ts';
import { adapterSignature, fakeAdapter, fakeLogits } from '../../kit/fake-runner.ts';

engineConformance('in line', async ({ maxBatch = 16, maxQueue = 256 }) => {
  const { engine } = fakeEngine({
    engine: { maxBatch, maxQueue, prefillTokensPerStep: 8 },
    adapters: { missing: { fails: true }, slow: { turns: 5 } },
  });
  return {
    engine,
    adapters: ['slow', 'quick'],
    missingAdapter: 'missing',
    prompts: [[1, 2, 3], [4], [5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17]],
  };
});

/** Greedy tokens straight from the fake's logits, without an engine. */
function greedy(promptIds: readonly number[], count: number, adapters: readonly string[] = []): number[] {
  const signature = adapterSignature(adapters.map((digest) => ({ adapter: fakeAdapter(digest), weight: 1 })));
  const tokens = [...promptIds];
  for (let i = 0; i < count; i++) {
    const logits = fakeLogits(tokens, signature, 32);
    tokens.push(logits.indexOf(Math.max(...logits)));
  }
  return tokens.slice(promptIds.length);
}

/** A gate that holds every run until it is opened for one. */
function stepGate() {
  let open: (() => void)[] = [];
  let arrived: (() => void) | null = null;
  return {
    gate: () =>
      new Promise<void>((resolve) => {
        open.push(resolve);
        arrived?.();
      }),
    /** Resolves when a run waits at the gate. */
    atGate: () =>
      open.length > 0
        ? Promise.resolve()
        : new Promise<void>((resolve) => {
            arrived = resolve;
          }),
    release: () => {
      const waiting = open;
      open = [];
      for (const resolve of waiting) resolve();
    },
  };
}

describe('cancellation', () => {
  test('during a step draws no further token and frees the row before the next step', async () => {
    const gate = stepGate();
    const { engine, runner } = fakeEngine({ runner: { gate: gate.gate } });
    const wanted = request({ stop: { maxTokens: 50 } });
    const recording = await submitted(engine, wanted);
    for (let i = 0; i < 3; i++) {
      await gate.atGate();
      gate.release();
      await recording.reached(i + 1);
    }
    await gate.atGate();
    engine.cancel(wanted.id);
    gate.release();
    const end = await recording.ended;
    expect(end).toMatchObject({ reason: 'cancelled', usage: { completionTokens: 3 } });
    expect(recording.tokens).toHaveLength(3);
    expect(runner.openRows).toBe(0);
    expect(runner.runs).toHaveLength(4);
    await engine.close({ graceMs: 0 });
    expect(runner.misuses).toEqual([]);
  });

  test('from within its own event handler ends the sequence once', async () => {
    const { engine } = fakeEngine();
    const wanted = request({ stop: { maxTokens: 50 } });
    const recording = new Recording();
    await engine.submit(wanted, (event) => {
      recording.listener(event);
      engine.cancel(wanted.id);
    });
    expect((await recording.ended).reason).toBe('cancelled');
    await engine.close({ graceMs: 0 });
    expect(recording.ends).toBe(1);
    expect(recording.tokens).toHaveLength(1);
  });

  test('comes too late for a sequence whose last token is being reported', async () => {
    const { engine } = fakeEngine();
    const wanted = request({ stop: { maxTokens: 2 } });
    const recording = new Recording();
    await engine.submit(wanted, (event) => {
      recording.listener(event);
      if (recording.tokens.length === 2) engine.cancel(wanted.id);
    });
    expect((await recording.ended).reason).toBe('length');
    await engine.close({ graceMs: 0 });
    expect(recording.ends).toBe(1);
  });

  test('while its adapter loads frees the place in the queue and the claim on the adapter', async () => {
    const { engine } = fakeEngine({ adapters: { slow: { turns: 10 } }, engine: { maxQueue: 1 } });
    const wanted = request({ adapters: [{ digest: 'slow', weight: 1 }] });
    const recording = await submitted(engine, wanted);
    expect(await engine.status()).toMatchObject({ waitingForAdapter: 1 });
    engine.cancel(wanted.id);
    expect((await recording.ended).reason).toBe('cancelled');
    expect(await engine.status()).toMatchObject({ waitingForAdapter: 0, waiting: 0 });
    const next = await submitted(engine, request({ adapters: [{ digest: 'slow', weight: 1 }] }));
    expect((await next.ended).reason).toBe('length');
    await engine.close({ graceMs: 0 });
  });
});

describe('failures stay where they belong', () => {
  test('a failed run ends the rows of its step, frees them, and the loop goes on', async () => {
    const { engine, runner, reports } = fakeEngine({
      runner: { failsOn: (run) => run === 2 },
      engine: { maxBatch: 2 },
    });
    const both = await Promise.all([submitted(engine, request()), submitted(engine, request())]);
    const later = await submitted(engine, request());
    for (const recording of both) {
      const end = await recording.ended;
      expect(end).toMatchObject({ reason: 'error', error: { code: 'ENGINE_FAILED' } });
      expect(end.usage.completionTokens).toBe(2);
      expect(end.error?.message).not.toContain('told to fail');
    }
    expect((await later.ended).reason).toBe('length');
    expect(later.tokens).toEqual(greedy([1, 2, 3], 4));
    expect(String(reports[0])).toContain('told to fail');
    await engine.close({ graceMs: 0 });
    expect(runner.misuses).toEqual([]);
    expect(runner.openRows).toBe(0);
  });

  test('logits that are not finite end their own sequence only', async () => {
    const { engine } = fakeEngine({
      runner: { breaksRow: (tokens) => tokens[0] === 9 },
    });
    const bad = await submitted(engine, request({ promptIds: [9, 1] }));
    const good = await submitted(engine, request());
    expect(await bad.ended).toMatchObject({ reason: 'error', error: { code: 'ENGINE_FAILED' } });
    expect(bad.tokens).toEqual([]);
    expect((await good.ended).reason).toBe('length');
    await engine.close({ graceMs: 0 });
  });

  test('a decoder that throws ends its own sequence, after the token that it failed on', async () => {
    const { engine } = fakeEngine({
      deps: {
        decoderFactory: () => ({
          push: () => {
            throw new Error('no such piece');
          },
          end: () => {
            throw new Error('still broken');
          },
        }),
      },
    });
    const recording = await submitted(engine, request());
    expect(await recording.ended).toMatchObject({ reason: 'error', usage: { completionTokens: 1 } });
    expect(recording.tokens).toHaveLength(1);
    await engine.close({ graceMs: 0 });
  });

  test('a listener that throws loses its sequence and disturbs nobody', async () => {
    const { engine, reports } = fakeEngine();
    await engine.submit(request({ stop: { maxTokens: 50 } }), () => {
      throw new Error('listener');
    });
    const other = await submitted(engine, request({ stop: { maxTokens: 6 } }));
    expect((await other.ended).reason).toBe('length');
    expect(await engine.status()).toMatchObject({ running: 0 });
    expect(reports.length).toBeGreaterThan(0);
    await engine.close({ graceMs: 0 });
  });

  test('an adapter that never fits into the bank ends its sequence with ENGINE_TOO_LARGE', async () => {
    const { engine } = fakeEngine({ adapters: { wide: { pages: 17 } } });
    const recording = await submitted(engine, request({ adapters: [{ digest: 'wide', weight: 1 }] }));
    expect(await recording.ended).toMatchObject({ reason: 'error', error: { code: 'ENGINE_TOO_LARGE' } });
    await engine.close({ graceMs: 0 });
  });

  test('a request that can never fit is refused at once', async () => {
    const { engine } = fakeEngine({ runner: { kvBudgetBytes: 60 } });
    await expect(submitted(engine, request())).rejects.toMatchObject({ code: 'ENGINE_TOO_LARGE' });
    await engine.close({ graceMs: 0 });
  });
});

describe('scheduling through the loop', () => {
  test('a slow adapter delays no step of the others', async () => {
    const { engine, runner } = fakeEngine({ adapters: { slow: { turns: 200 } } });
    const slow = await submitted(engine, request({ adapters: [{ digest: 'slow', weight: 1 }] }));
    const plain = await submitted(engine, request({ stop: { maxTokens: 20 } }));
    expect((await plain.ended).reason).toBe('length');
    expect(slow.events).toEqual([]);
    expect(runner.runs).toHaveLength(20);
    expect((await slow.ended).reason).toBe('length');
    expect(slow.tokens).toEqual(greedy([1, 2, 3], 4, ['slow']));
    await engine.close({ graceMs: 0 });
  });

  test('a long prompt is read in chunks while a running stream gets a token every step', async () => {
    const { engine, runner } = fakeEngine({ engine: { prefillTokensPerStep: 4 } });
    const stream = await submitted(engine, request({ promptIds: [5], stop: { maxTokens: 20 } }));
    await stream.reached(2);
    const promptIds = Array.from({ length: 30 }, (_, i) => i);
    const long = await submitted(engine, request({ promptIds }));
    await Promise.all([stream.ended, long.ended]);
    expect(long.tokens).toEqual(greedy(promptIds, 4));
    const chunks = runner.runs.flat().filter(({ tokens }) => tokens.length > 1);
    expect(chunks.map(({ tokens }) => tokens.length)).toEqual([4, 4, 4, 4, 4, 4, 4, 2]);
    const during = runner.runs.filter((run) => run.some(({ tokens }) => tokens.length > 1));
    for (const run of during) expect(run[0]?.tokens).toHaveLength(1);
    await engine.close({ graceMs: 0 });
  });

  test('usage splits queue, prefill and decode time and shares the steps by tokens', async () => {
    const { engine } = fakeEngine({
      engine: { maxBatch: 1, prefillTokensPerStep: 4, scheduling: 'fcfs' },
      runner: { stepMs: 10 },
    });
    const first = await submitted(engine, request({ promptIds: [1], stop: { maxTokens: 3 } }));
    const second = await submitted(
      engine,
      request({ promptIds: [1, 2, 3, 4, 5, 6], stop: { maxTokens: 2 } }),
    );
    expect((await first.ended).usage).toMatchObject({
      queueMs: 0,
      prefillMs: 10,
      decodeMs: 20,
      computeMs: 30,
    });
    expect((await second.ended).usage).toMatchObject({
      queueMs: 30,
      prefillMs: 20,
      decodeMs: 10,
      computeMs: 30,
    });
    expect((await engine.status()).stepMs).toEqual({ total: 10, model: 7.5, adapter: 1.25, host: 1.25 });
    await engine.close({ graceMs: 0 });
  });

  test('an idle engine runs no steps', async () => {
    const { engine, runner } = fakeEngine();
    for (let i = 0; i < 10; i++) await nextTurn();
    expect(runner.runs).toHaveLength(0);
    await engine.close({ graceMs: 0 });
    expect(runner.disposed).toBe(true);
  });
});

describe('preemption', () => {
  const engineOptions = { maxBatch: 1, interactiveTtftMs: 1, maxWaitPercent: 0 };
  const batch = request({ promptIds: [7, 8, 9], stop: { maxTokens: 10 }, priority: 'BATCH' });
  const urgent = request({ promptIds: [1, 2], stop: { maxTokens: 3 }, priority: 'INTERACTIVE' });

  /** Runs a batch sequence, and an interactive one that comes after its fourth token. */
  async function interrupted(kvBudgetBytes: number) {
    const { engine, runner } = fakeEngine({
      engine: engineOptions,
      runner: { stepMs: 10, kvBudgetBytes },
    });
    const first = await submitted(engine, { ...batch, id: 'batch' });
    await first.reached(4);
    const second = await submitted(engine, { ...urgent, id: 'urgent' });
    const urgentEnd = await second.ended;
    const before = first.tokens.length;
    const batchEnd = await first.ended;
    await engine.close({ graceMs: 0 });
    expect(runner.misuses).toEqual([]);
    expect(first.tokens).toEqual(greedy([7, 8, 9], 10));
    expect(second.tokens).toEqual(greedy([1, 2], 3));
    // The interactive sequence ran as soon as it came: its tokens stand before the rest of the batch sequence's.
    expect(before).toBe(4);
    expect(urgentEnd.usage).toMatchObject({ queueMs: 0, prefillMs: 10, decodeMs: 20, computeMs: 30 });
    return { usage: batchEnd.usage, rows: runner.runs.map((run) => run.map(({ tokens }) => tokens.length)) };
  }

  test('keeps the KV cache while memory lasts, and the sequence goes on where it stopped', async () => {
    const { usage, rows } = await interrupted(10_000);
    expect(rows.flat()).toEqual([3, 1, 1, 1, 2, 1, 1, 1, 1, 1, 1, 1, 1]);
    expect(usage).toMatchObject({ queueMs: 30, prefillMs: 10, decodeMs: 90, computeMs: 100 });
  });

  test('gives up the KV cache when the urgent one needs it; what is done again is not billed', async () => {
    const { usage, rows } = await interrupted(130);
    // Three prompt tokens and four of the answer are read again, of which six had been processed before.
    expect(rows.flat()).toEqual([3, 1, 1, 1, 2, 1, 1, 7, 1, 1, 1, 1, 1]);
    expect(usage.computeMs).toBeCloseTo(100 - 10 + 10 / 7);
    expect(usage).toMatchObject({ queueMs: 30, prefillMs: 10, completionTokens: 10 });
  });

  test('a request that would come too late is refused with the time after which it would not', async () => {
    const { engine } = fakeEngine({ engine: { maxBatch: 1, standardTtftMs: 100 }, runner: { stepMs: 10 } });
    const running = await submitted(engine, request({ stop: { maxTokens: 60 } }));
    await running.reached(2);
    await expect(submitted(engine, request())).rejects.toMatchObject({
      code: 'ENGINE_FULL',
      meta: { predictedWaitMs: expect.any(Number), retryAfterMs: expect.any(Number) },
    });
    await submitted(engine, request({ priority: 'BATCH' }));
    await engine.close({ graceMs: 0 });
  });
});

describe('stop rules', () => {
  const promptIds = [1, 2, 3];
  const tokens = greedy(promptIds, 30);
  const text = (count: number) => tokens.slice(0, count).map(tokenText).join('');

  test('the stop token is reported and counted, its text is not delivered', async () => {
    const { engine } = fakeEngine();
    const at = 4;
    const stopToken = tokens[at] ?? 0;
    const first = tokens.indexOf(stopToken);
    const recording = await submitted(engine, request({ stop: { maxTokens: 30, tokenIds: [stopToken] } }));
    expect(await recording.ended).toMatchObject({ reason: 'stop', usage: { completionTokens: first + 1 } });
    expect(recording.tokens).toEqual(tokens.slice(0, first + 1));
    expect(recording.text).toBe(text(first));
    await engine.close({ graceMs: 0 });
  });

  test('an end-of-sequence id stops unless it is to be ignored', async () => {
    const eos = tokens[3] ?? 0;
    const { engine } = fakeEngine({ deps: { eosTokenIds: [eos] } });
    const stops = await submitted(engine, request({ stop: { maxTokens: 30, ignoreEos: false } }));
    const ignores = await submitted(engine, request({ stop: { maxTokens: 30, ignoreEos: true } }));
    expect(await stops.ended).toMatchObject({ reason: 'stop' });
    expect(stops.tokens).toEqual(tokens.slice(0, tokens.indexOf(eos) + 1));
    expect((await ignores.ended).reason).toBe('length');
    await engine.close({ graceMs: 0 });
  });

  test('a stop string ends the text before it; held-back text comes with the end', async () => {
    const { engine } = fakeEngine();
    const whole = text(30);
    const stopString = whole.slice(4, 7);
    const stopped = await submitted(engine, request({ stop: { maxTokens: 30, strings: [stopString] } }));
    expect((await stopped.ended).reason).toBe('stop');
    expect(stopped.text).toBe(whole.slice(0, whole.indexOf(stopString)));
    // Ends by length while the text ends with a prefix of a stop string.
    const short = text(6);
    const strings = [`${short.slice(-2)}!`];
    const held = await submitted(engine, request({ stop: { maxTokens: 6, strings } }));
    expect(await held.ended).toMatchObject({ reason: 'length', text: short.slice(-2) });
    expect(held.text).toBe(short);
    await engine.close({ graceMs: 0 });
  });
});
