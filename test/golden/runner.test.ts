import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import type { PackedAdapter, RowWork, StepRunner } from '../../src/engine/runner.ts';
import {
  comparableSteps,
  GOLDEN_FOLDERS,
  GOLDEN_ROOT,
  type GoldenCase,
  type GoldenExpectation,
  readLines,
} from './kit.ts';
import { choice, openRunner, packFolder } from './runner-kit.ts';

interface Sequence {
  readonly row: number;
  readonly adapters: RowWork['adapters'];
  readonly ids: number[];
  readonly logprobs: number[];
  pending: readonly number[];
  past: number;
}

async function openSequences(
  folder: string,
  runner: StepRunner,
  cases: readonly GoldenCase[],
): Promise<Sequence[]> {
  const packed = new Map<string, PackedAdapter>();
  const sequences: Sequence[] = [];
  for (const goldenCase of cases) {
    const adapters: { adapter: PackedAdapter; weight: number }[] = [];
    for (const { path, weight } of goldenCase.adapters) {
      const adapter = packed.get(path) ?? (await packFolder(join(folder, path), runner.shape));
      packed.set(path, adapter);
      adapters.push({ adapter, weight });
    }
    const row = runner.open(runner.maxContext);
    sequences.push({ row, adapters, ids: [], logprobs: [], pending: goldenCase.prompt_ids, past: 0 });
  }
  return sequences;
}

/** One greedy step of all sequences in one call. */
async function step(runner: StepRunner, sequences: readonly Sequence[]): Promise<void> {
  const work = sequences.map(({ row, pending, past, adapters }, index) => ({
    row,
    tokens: pending,
    past,
    adapters,
    wantsLogits: true,
    greedy: index % 2 === 0,
  }));
  const { logits } = await runner.run(work);
  sequences.forEach((sequence, index) => {
    const { token, logprob } = choice(logits[index]);
    sequence.past += sequence.pending.length;
    sequence.pending = [token];
    sequence.ids.push(token);
    sequence.logprobs.push(logprob);
  });
}

describe.each(GOLDEN_FOLDERS)('%s', (name) => {
  const folder = join(GOLDEN_ROOT, name);

  test('all cases in one mixed batch equal the float64 reference', async () => {
    const cases = await readLines<GoldenCase>(join(folder, 'cases.jsonl'));
    const expected = await readLines<GoldenExpectation>(join(folder, 'expected.jsonl'));
    const { runner } = await openRunner(folder);
    const sequences = await openSequences(folder, runner, cases);
    for (let i = 0; i < 24; i++) await step(runner, sequences);
    expected.forEach((expectation, index) => {
      const steps = comparableSteps(expectation);
      const sequence = sequences[index];
      expect(sequence?.ids.slice(0, steps), expectation.custom_id).toEqual(expectation.ids.slice(0, steps));
      for (let t = 0; t < steps; t++) {
        expect(Math.abs((sequence?.logprobs[t] ?? 0) - (expectation.logprobs[t] ?? 0))).toBeLessThan(1e-3);
      }
    });
    await runner.dispose();
  });

  // These random models magnify every rounding; a wrong scale or nibble would be off by whole units.
  test('8-bit weights give log-probabilities close to the reference', async () => {
    const cases = await readLines<GoldenCase>(join(folder, 'cases.jsonl'));
    const expected = await readLines<GoldenExpectation>(join(folder, 'expected.jsonl'));
    const { runner } = await openRunner(folder, 8);
    const sequences = await openSequences(folder, runner, cases);
    await step(runner, sequences);
    const errors = expected.flatMap((expectation, index) => {
      const sequence = sequences[index];
      if (sequence?.ids[0] !== expectation.ids[0]) return [];
      return [Math.abs((sequence?.logprobs[0] ?? 0) - (expectation.logprobs[0] ?? 0))];
    });
    expect(errors.length).toBeGreaterThanOrEqual(expected.length / 2);
    expect(errors.reduce((sum, value) => sum + value, 0) / errors.length).toBeLessThan(0.25);
    await runner.dispose();
  });
});
