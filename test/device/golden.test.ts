import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { importBackbone } from '../../src/backbone/import.ts';
import { BACKBONE_FILES } from '../../src/backbone/manifest.ts';
import { createDeviceRunner, type DeviceRunner } from '../../src/engine/runner/device/device-runner.ts';
import { systemClock } from '../../src/kernel/clock.ts';
import {
  comparableSteps,
  GOLDEN_ROOT,
  type GoldenCase,
  type GoldenExpectation,
  readLines,
  temporaryFolder,
} from '../golden/kit.ts';
import { PAGE_RANK } from '../golden/runner-kit.ts';
import { openSequences, step } from '../golden/sequences.ts';

/** Families whose goldens run on the device; one by default, since a software device is slow. */
const FAMILIES = (process.env['PATCHBAY_TEST_WEBGPU'] ?? '').split(',').filter((name) => name !== '');

/** Steps of the mixed batch: prefill and enough of decoding; each takes seconds on a software device. */
const STEPS = 8;

async function openDevice(dir: string, bankPages = 64): Promise<DeviceRunner> {
  const imported = await importBackbone({ dir, root: await temporaryFolder(), bits: 32 });
  const { shape } = imported.manifest;
  return createDeviceRunner(
    {
      graphs: {
        step: join(imported.dir, BACKBONE_FILES.deviceStep),
        pool: join(imported.dir, BACKBONE_FILES.devicePool),
        bank: join(imported.dir, BACKBONE_FILES.deviceBank),
      },
      shape,
      maxContext: shape.maxPositions,
      kvBudgetBytes: 2 ** 30,
      pageRank: PAGE_RANK,
      bankPages,
      executionProviders: ['webgpu'],
    },
    { clock: systemClock },
  );
}

describe.runIf(FAMILIES.length > 0)('WebGPU', () => {
  test.each(FAMILIES)('%s: all cases in one mixed batch equal the float64 reference', async (name) => {
    const folder = join(GOLDEN_ROOT, name);
    const cases = await readLines<GoldenCase>(join(folder, 'cases.jsonl'));
    const expected = await readLines<GoldenExpectation>(join(folder, 'expected.jsonl'));
    const runner = await openDevice(folder);
    const sequences = await openSequences(folder, runner, cases);
    for (let i = 0; i < STEPS; i++) await step(runner, sequences);

    expect(new Set(runner.kvLocations())).toEqual(new Set(['gpu-buffer']));
    expect(runner.kvLocations()).toHaveLength(2 * runner.shape.layers);
    expect(new Set(runner.bankLocations())).toEqual(new Set(['gpu-buffer']));
    expected.forEach((expectation, index) => {
      const steps = Math.min(STEPS, comparableSteps(expectation));
      const sequence = sequences[index];
      expect(sequence?.ids.slice(0, steps), expectation.custom_id).toEqual(expectation.ids.slice(0, steps));
      for (let t = 0; t < steps; t++) {
        expect(Math.abs((sequence?.logprobs[t] ?? 0) - (expectation.logprobs[t] ?? 0))).toBeLessThan(1e-3);
      }
    });
    await runner.dispose();
  });

  test('a row that takes over places and pages of closed ones gets what it gets alone', async () => {
    const [name = ''] = FAMILIES;
    const folder = join(GOLDEN_ROOT, name);
    const cases = await readLines<GoldenCase>(join(folder, 'cases.jsonl'));
    const adapted = cases.filter(({ adapters }) => adapters.length === 1);
    const [subject, ...others] = adapted;
    if (subject === undefined) throw new Error(`${name} has a case with an adapter`);
    // Three pages of rank 16 hold one or two of these adapters, so they evict one another.
    const runner = await openDevice(folder, 3);
    const run = async (goldenCase: GoldenCase, from: DeviceRunner): Promise<readonly number[]> => {
      const [sequence] = await openSequences(folder, from, [goldenCase]);
      if (sequence === undefined) throw new Error('a sequence is opened for a case');
      for (let i = 0; i < 4; i++) await step(from, [sequence]);
      from.close(sequence.row);
      return sequence.logprobs;
    };
    const alone = await run(subject, runner);
    for (const other of others.slice(0, 3)) await run(other, runner);
    const again = await run(subject, runner);
    again.forEach((logprob, index) => {
      expect(logprob).toBeCloseTo(alone[index] ?? 0, 5);
    });
    await runner.dispose();
  });
});
