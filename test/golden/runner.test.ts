import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import {
  comparableSteps,
  GOLDEN_FOLDERS,
  GOLDEN_ROOT,
  type GoldenCase,
  type GoldenExpectation,
  readLines,
} from './kit.ts';
import { openRunner } from './runner-kit.ts';
import { openSequences, step } from './sequences.ts';

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
