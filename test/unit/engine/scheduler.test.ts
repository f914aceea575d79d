import { describe, expect, test } from 'vitest';
import { Scheduler, type SchedulerLimits, type SequenceSpec } from '../../../src/engine/scheduler.ts';

const LIMITS: SchedulerLimits = {
  maxBatch: 4,
  prefillTokensPerStep: 10,
  maxQueue: 8,
  queueShare: 0,
  maxBypass: 3,
  maxPreemptions: 2,
  maxPrefillStall: 4,
  kvBudgetBytes: 1000,
  bankPages: 6,
};

function spec(key: number, parts: Partial<SequenceSpec> = {}): SequenceSpec {
  return {
    key,
    tenantId: 't',
    priority: 'STANDARD',
    adapters: [],
    arrivedMs: 0,
    promptTokens: 4,
    maxTokens: 4,
    kvBytes: 10,
    ...parts,
  };
}

function scheduler(limits: Partial<SchedulerLimits> = {}, ...specs: SequenceSpec[]): Scheduler {
  const made = new Scheduler({ ...LIMITS, ...limits });
  for (const each of specs) made.enqueue(each);
  return made;
}

/** Plans a step and reports it as run. */
function step(made: Scheduler) {
  const plan = made.schedule(0);
  made.update(plan.rows);
  return plan;
}

describe('rows of a step', () => {
  test('a sequence reads its prompt, then decodes one token a step', () => {
    const made = scheduler({}, spec(1));
    expect(step(made)).toMatchObject({
      started: [1],
      rows: [{ key: 1, tokens: 4, past: 0, wantsLogits: true }],
    });
    expect(step(made)).toMatchObject({
      started: [],
      rows: [{ key: 1, tokens: 1, past: 4, wantsLogits: true }],
    });
    expect(step(made).rows).toMatchObject([{ key: 1, tokens: 1, past: 5, wantsLogits: true }]);
  });

  test('newcomers join while others decode; decode rows come first and never wait for a prompt', () => {
    const made = scheduler({}, spec(1));
    step(made);
    made.enqueue(spec(2, { promptTokens: 50 }));
    expect(step(made).rows).toMatchObject([
      { key: 1, tokens: 1, past: 4, wantsLogits: true },
      { key: 2, tokens: 10, past: 0, wantsLogits: false },
    ]);
    expect(step(made).rows.map(({ key, tokens }) => [key, tokens])).toEqual([
      [1, 1],
      [2, 10],
    ]);
  });

  test('prompts share the prefill budget; the last of them is cut off and goes on with the next step', () => {
    const made = scheduler({}, spec(1), spec(2), spec(3), spec(4, { promptTokens: 2 }));
    expect(step(made).rows).toMatchObject([
      { key: 1, tokens: 4, past: 0, wantsLogits: true },
      { key: 2, tokens: 4, past: 0, wantsLogits: true },
      { key: 3, tokens: 2, past: 0, wantsLogits: false },
    ]);
    expect(step(made).rows.map(({ key, tokens }) => [key, tokens])).toEqual([
      [1, 1],
      [2, 1],
      [3, 2],
      [4, 2],
    ]);
  });

  test('a prompt that others would keep aside for ever gets its turn', () => {
    const made = scheduler({ maxBatch: 2 }, spec(1, { priority: 'BATCH', promptTokens: 9 }));
    // An urgent prompt of a full budget in every step.
    let served = -1;
    for (let n = 0; n < 20 && served < 0; n++) {
      made.enqueue(spec(2 + n, { priority: 'INTERACTIVE', promptTokens: 10, maxTokens: 1 }));
      const plan = step(made);
      if (plan.rows.some(({ key }) => key === 1)) served = n;
      for (const { key, wantsLogits } of plan.rows) if (key !== 1 && wantsLogits) made.finish(key);
    }
    expect(served).toBe(4);
  });
});

describe('admission', () => {
  test('is by class, then by arrival', () => {
    const made = scheduler(
      { maxBatch: 2 },
      spec(1, { priority: 'BATCH' }),
      spec(2),
      spec(3, { priority: 'INTERACTIVE' }),
      spec(4, { priority: 'INTERACTIVE' }),
    );
    expect(step(made).started).toEqual([3, 4]);
    made.finish(3);
    made.cancel(4);
    expect(step(made).started).toEqual([2, 1]);
  });

  test('reserves KV for prompt and completion, and starts nobody beyond the budget', () => {
    const made = scheduler(
      {},
      spec(1, { kvBytes: 600 }),
      spec(2, { kvBytes: 500 }),
      spec(3, { kvBytes: 400 }),
    );
    expect(step(made).started).toEqual([1, 3]);
    expect(made.counts().kvBytesUsed).toBe(1000);
    made.finish(1);
    expect(step(made).started).toEqual([2]);
    made.finish(2);
    made.finish(3);
    expect(made.counts()).toEqual({ waiting: 0, pending: 0, running: 0, kvBytesUsed: 0, bankPagesUsed: 0 });
  });

  test('counts an adapter that several use once in the bank', () => {
    const made = scheduler(
      {},
      spec(1, { adapters: ['x'] }),
      spec(2, { adapters: ['x', 'y'] }),
      spec(3, { adapters: ['z'] }),
    );
    made.adaptersReady(1, [{ digest: 'x', pages: 3 }]);
    made.adaptersReady(2, [
      { digest: 'x', pages: 3 },
      { digest: 'y', pages: 2 },
    ]);
    made.adaptersReady(3, [{ digest: 'z', pages: 2 }]);
    expect(step(made).started).toEqual([1, 2]);
    expect(made.counts().bankPagesUsed).toBe(5);
    made.finish(1);
    expect(made.counts().bankPagesUsed).toBe(5);
    expect(step(made).started).toEqual([]);
    made.finish(2);
    expect(step(made).started).toEqual([3]);
    expect(made.counts().bankPagesUsed).toBe(2);
  });

  test('does not wait for those whose adapters are still loading', () => {
    const made = scheduler({ maxBatch: 1 }, spec(1, { adapters: ['slow'] }), spec(2), spec(3));
    expect(step(made).started).toEqual([2]);
    made.adaptersReady(1, [{ digest: 'slow', pages: 1 }]);
    made.finish(2);
    expect(step(made).started).toEqual([1]);
  });

  test('a sequence that does not fit is bypassed at most maxBypass times, then the engine drains for it', () => {
    const made = scheduler({}, spec(0, { kvBytes: 500 }), spec(1, { kvBytes: 900 }));
    expect(step(made).started).toEqual([0]);
    const order: number[] = [];
    const running = [0];
    for (let key = 2; key < 12; key++) {
      made.enqueue(spec(key, { priority: 'INTERACTIVE', kvBytes: 200 }));
      const { started } = step(made);
      order.push(...started);
      running.push(...started);
      const oldest = running.shift();
      if (oldest !== undefined) made.finish(oldest);
    }
    expect(order.indexOf(1)).toBe(3);
  });
});

describe('refusals', () => {
  test('the queue is bounded, pending ones included', () => {
    const made = scheduler({ maxQueue: 2 }, spec(1), spec(2, { adapters: ['x'] }));
    expect(() => made.enqueue(spec(3))).toThrow(expect.objectContaining({ code: 'ENGINE_FULL' }));
    step(made);
    made.enqueue(spec(3));
  });

  test('a flood of one tenant leaves places for others', () => {
    const made = scheduler({ maxQueue: 8, queueShare: 1 });
    const refused = expect.objectContaining({ code: 'ENGINE_FULL' });
    for (let key = 0; key < 5; key++) made.enqueue(spec(key, { adapters: ['slow'] }));
    expect(() => made.enqueue(spec(5))).toThrow(refused);
    made.enqueue(spec(6, { tenantId: 'other' }));
    made.cancel(0);
    made.cancel(1);
    made.enqueue(spec(7));
    expect(made.counts()).toMatchObject({ waiting: 2, pending: 3 });
  });

  test('what would not fit alone is refused at once', () => {
    const made = scheduler();
    const code = expect.objectContaining({ code: 'ENGINE_TOO_LARGE' });
    expect(() => made.enqueue(spec(1, { kvBytes: 1001 }))).toThrow(code);
    made.enqueue(spec(2, { adapters: ['x'] }));
    expect(() => made.adaptersReady(2, [{ digest: 'x', pages: 7 }])).toThrow(code);
  });
});

test('the estimate of steps until there is room is that of the running sequence nearest to its end', () => {
  const made = scheduler({}, spec(1, { promptTokens: 20, maxTokens: 5 }), spec(2, { maxTokens: 100 }));
  expect(made.stepsUntilRoom()).toBe(0);
  made.schedule(0);
  expect(made.stepsUntilRoom()).toBe(2 + 5);
});
