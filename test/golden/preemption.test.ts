import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { createInlineEngine } from '../../src/engine/loop.ts';
import type { Engine } from '../../src/engine/port.ts';
import type { StepRunner } from '../../src/engine/runner.ts';
import { systemClock } from '../../src/kernel/clock.ts';
import { request, submitted } from '../kit/fake-engine.ts';
import { GOLDEN_ROOT } from './kit.ts';
import { openRunner, packFolder, runnerWith } from './runner-kit.ts';

const FOLDER = join(GOLDEN_ROOT, 'llama-tied');
const engines: Engine[] = [];
afterAll(async () => {
  for (const engine of engines) await engine.close({ graceMs: 0 });
});

/** The runner with memory for so many sequences. */
function bounded(runner: StepRunner, sequences: number, opened: number[]): StepRunner {
  return runnerWith(runner, {
    kvBudgetBytes: sequences * runner.kvBytes(60),
    open: (tokens) => {
      opened.push(tokens);
      return runner.open(tokens);
    },
  });
}

async function open(sequences: number) {
  const { runner, shape } = await openRunner(FOLDER);
  const opened: number[] = [];
  const adapter = await packFolder(join(FOLDER, 'adapters', 'all_r8'), shape);
  const engine = createInlineEngine(
    { maxBatch: 1, prefillTokensPerStep: 8, interactiveTtftMs: 1, maxWaitPercent: 0 },
    {
      runner: bounded(runner, sequences, opened),
      loader: { load: async (digest) => ({ ...adapter, digest }), close: async () => {} },
      decoderFactory: () => ({ push: () => '', end: () => '' }),
      clock: systemClock,
      backboneDigest: 'test',
      eosTokenIds: [],
    },
  );
  engines.push(engine);
  return { engine, opened };
}

test.each([
  ['keeps its keys and values', 2, 2],
  ['reads its tokens again', 1, 3],
])('a preempted sequence that %s goes on with the same tokens', async (_, sequences, rows) => {
  const { engine, opened } = await open(sequences);
  const adapters = [{ digest: 'all_r8', weight: 1 }];
  const promptIds = Array.from({ length: 20 }, (_, i) => (i * 37) % 200);
  const batch = { promptIds, adapters, stop: { maxTokens: 24 }, priority: 'BATCH' } as const;
  const alone = await submitted(engine, request(batch));
  await alone.ended;
  opened.length = 0;
  const preempted = await submitted(engine, request(batch));
  await preempted.reached(6);
  const urgent = await submitted(
    engine,
    request({ promptIds: [5, 6, 7], stop: { maxTokens: 4 }, priority: 'INTERACTIVE' }),
  );
  await urgent.ended;
  expect(preempted.ends).toBe(0);
  await preempted.ended;
  expect(preempted.tokens).toEqual(alone.tokens);
  expect(opened).toHaveLength(rows);
});
