import { expect, test } from 'vitest';
import type { SequenceEvent } from '../../../src/engine/port.ts';
import { EVERY_STEP, EventBeat } from '../../../src/engine/thread/event-beat.ts';

function tokens(...ids: number[]): SequenceEvent {
  return {
    kind: 'tokens',
    tokens: ids.map((id) => ({ id, logprob: 0 })),
    text: ids.join(''),
    cachedPromptTokens: 0,
  };
}
const END: SequenceEvent = {
  kind: 'end',
  reason: 'stop',
  text: '',
  usage: {
    promptTokens: 1,
    cachedPromptTokens: 0,
    completionTokens: 1,
    queueMs: 0,
    prefillMs: 0,
    decodeMs: 0,
    computeMs: 0,
    bytesLoaded: 0,
    executed: [],
  },
};

/** A beat in a time that the test moves; messages are written as `id:tokens` and `id:end`. */
function setup(options = { chunksPerSecond: 200, intervalMsMax: 100 }) {
  let nowMs = 0;
  const timers: { readonly atMs: number; readonly run: () => void }[] = [];
  const sent: string[][] = [];
  const beat = new EventBeat(options, {
    clock: { monotonicMs: () => nowMs },
    send: (events) =>
      sent.push(events.map(({ id, event }) => `${id}:${event.kind === 'tokens' ? event.text : 'end'}`)),
    later: (ms, run) => timers.push({ atMs: nowMs + ms, run }),
  });
  return {
    beat,
    /** What was sent since the last look. */
    sent: () => sent.splice(0),
    /** A step: one event for each of the sequences, and the turn's end. */
    step: async (ids: readonly string[], event: SequenceEvent) => {
      for (const id of ids) beat.emit(id, event);
      await Promise.resolve();
    },
    pass: (ms: number) => {
      nowMs += ms;
      for (const timer of timers.splice(0)) {
        if (timer.atMs <= nowMs) timer.run();
        else timers.push(timer);
      }
    },
  };
}

test('first tokens and ends leave with their turn; what is between waits for the beat of all', async () => {
  const { step, sent, pass } = setup();
  await step(['a', 'b'], tokens(1));
  expect(sent()).toEqual([['a:1', 'b:1']]);
  await step(['a', 'b'], tokens(2));
  await step(['a', 'b'], tokens(3));
  expect(sent()).toEqual([]);
  pass(4);
  await step(['c'], tokens(1));
  expect(sent()).toEqual([['c:1']]);
  await step(['b'], END);
  expect(sent()).toEqual([['b:23', 'b:end']]);
  pass(6);
  expect(sent()).toEqual([['a:23']]);
});

test('the interval follows the number of sequences, up to its bound', async () => {
  for (const [sequences, intervalMs] of [
    [1, 5],
    [16, 80],
    [64, 100],
  ] as const) {
    const { step, sent, pass } = setup();
    const ids = Array.from({ length: sequences }, (_, index) => `s${index}`);
    await step(ids, tokens(1));
    sent();
    await step(ids, tokens(2));
    pass(intervalMs - 1);
    await step(ids, tokens(3));
    expect(sent(), `${sequences} sequences`).toEqual([]);
    pass(1);
    expect(sent(), `${sequences} sequences`).toEqual([ids.map((id) => `${id}:23`)]);
  }
});

test('a step that comes after the interval sends by itself', async () => {
  const { step, sent, pass } = setup();
  await step(['a'], tokens(1));
  pass(7);
  await step(['a'], tokens(2));
  pass(7);
  await step(['a'], tokens(3));
  expect(sent()).toEqual([['a:1'], ['a:2'], ['a:3']]);
});

test('flushing sends everything at once, and nothing twice', async () => {
  const { beat, step, sent, pass } = setup();
  await step(['a'], tokens(1));
  await step(['a'], tokens(2));
  sent();
  beat.flush();
  beat.flush();
  pass(1_000);
  expect(sent()).toEqual([['a:2']]);
});

test('without a bound every step is a message', async () => {
  const { step, sent } = setup(EVERY_STEP);
  for (const id of [1, 2, 3]) await step(['a', 'b'], tokens(id));
  expect(sent()).toEqual([
    ['a:1', 'b:1'],
    ['a:2', 'b:2'],
    ['a:3', 'b:3'],
  ]);
});
