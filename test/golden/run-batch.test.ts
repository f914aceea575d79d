import { access, cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { runBatch } from '../../src/batch/run-batch.ts';
import type { RunBatchOptions } from '../../src/cli/ports.ts';
import { silentProgress } from '../../src/observability/progress.ts';
import { comparableSteps, GOLDEN_FOLDERS, GOLDEN_ROOT, type GoldenExpectation, readLines } from './kit.ts';

interface OutputLine {
  readonly custom_id: string | null;
  readonly token_ids?: readonly number[];
  readonly logprobs?: readonly number[];
  readonly finish_reason?: string;
  readonly error?: { readonly code: string; readonly message: string };
}

/** What these tests have in common. */
const DEFAULTS = {
  maxBatch: 4,
  bits: 32,
  threads: 1,
  progress: silentProgress,
  report: () => {},
  signal: new AbortController().signal,
} as const;

let work: string;
beforeAll(async () => {
  work = await mkdtemp(join(tmpdir(), 'patchbay-batch-'));
});
afterAll(() => rm(work, { recursive: true }));

async function run(backboneDir: string, input: string, maxBatch: number): Promise<readonly OutputLine[]> {
  const output = join(work, `out-${maxBatch}.jsonl`);
  await runBatch({ ...DEFAULTS, backboneDir, input, output, dataDir: join(work, 'data'), maxBatch });
  return readLines<OutputLine>(output);
}

describe.each(GOLDEN_FOLDERS)('%s', (name) => {
  test.each([1, 16])(
    'a batch of at most %i gives the reference tokens and log-probabilities, in input order',
    async (maxBatch) => {
      const folder = join(GOLDEN_ROOT, name);
      const expected = await readLines<GoldenExpectation>(join(folder, 'expected.jsonl'));
      const lines = await run(folder, join(folder, 'cases.jsonl'), maxBatch);
      expect(lines.map((line) => line.custom_id)).toEqual(expected.map((line) => line.custom_id));
      expected.forEach((expectation, index) => {
        const steps = comparableSteps(expectation);
        const line = lines[index];
        expect(line?.token_ids?.slice(0, steps), expectation.custom_id).toEqual(
          expectation.ids.slice(0, steps),
        );
        for (let t = 0; t < steps; t++) {
          expect(Math.abs((line?.logprobs?.[t] ?? 0) - (expectation.logprobs[t] ?? 0))).toBeLessThan(1e-3);
        }
        expect(line?.finish_reason).toBe('length');
      });
    },
  );
});

test('a bad line becomes an error in its place and the others do not notice', async () => {
  const folder = join(GOLDEN_ROOT, 'llama-tied');
  await cp(join(folder, 'adapters'), join(work, 'adapters'), { recursive: true });
  const [good = ''] = (await readFile(join(folder, 'cases.jsonl'), 'utf8')).split('\n');
  const bad: readonly (readonly [string, string])[] = [
    ['{not json', 'BAD_INPUT'],
    ['{"custom_id":"no-prompt"}', 'BAD_INPUT'],
    ['{"custom_id":"both","prompt":"a","prompt_ids":[1]}', 'BAD_INPUT'],
    ['{"custom_id":"unknown","prompt_ids":[1],"colour":"red"}', 'BAD_INPUT'],
    ['{"custom_id":"range","prompt_ids":[320]}', 'TOKEN_OUT_OF_RANGE'],
    ['{"custom_id":"empty","prompt_ids":[]}', 'PROMPT_EMPTY'],
    ['{"custom_id":"long","prompt_ids":[1],"max_tokens":100000}', 'PROMPT_TOO_LONG'],
    ['{"custom_id":"no-adapter","prompt_ids":[1],"adapters":[{"path":"adapters/none"}]}', 'FILE_MISSING'],
    [
      '{"custom_id":"zero","prompt_ids":[1],"adapters":[{"path":"adapters/all_r8","weight":0}]}',
      'BLEND_INVALID',
    ],
    ['{"custom_id":"hot","prompt_ids":[1],"temperature":-1}', 'SAMPLING_INVALID'],
  ];
  const input = join(work, 'mixed.jsonl');
  await writeFile(input, `${[good, ...bad.map(([line]) => line), good].join('\n')}\n`);
  const lines = await run(folder, input, 4);
  expect(lines.slice(1, -1).map((line) => line.error?.code)).toEqual(bad.map(([, code]) => code));
  expect(lines.at(0)?.token_ids?.length).toBe(24);
  expect(lines.at(-1)?.token_ids).toEqual(lines.at(0)?.token_ids);
});

describe('files that cannot be used', () => {
  const folder = join(GOLDEN_ROOT, 'llama-tied');
  const cases = join(folder, 'cases.jsonl');

  test('a missing input is named, and the output stays as it was', async () => {
    const output = join(work, 'precious.jsonl');
    await writeFile(output, 'kept\n');
    const attempt = runBatch(batch({ input: join(work, 'none.jsonl'), output }));
    await expect(attempt).rejects.toMatchObject({
      code: 'FILE_MISSING',
      field: 'input',
      message: expect.stringContaining('none.jsonl'),
    });
    await expect(runBatch(batch({ input: work, output }))).rejects.toMatchObject({ field: 'input' });
    expect(await readFile(output, 'utf8')).toBe('kept\n');
  });

  test('a missing folder of the output is named before anything is imported', async () => {
    const dataDir = join(work, 'untouched');
    const output = join(work, 'none', 'out.jsonl');
    await expect(runBatch(batch({ input: cases, output, dataDir }))).rejects.toMatchObject({
      code: 'FILE_MISSING',
      field: 'output',
      message: expect.stringContaining(join(work, 'none')),
    });
    await expect(access(dataDir)).rejects.toMatchObject({ code: 'ENOENT' });
    await expect(runBatch(batch({ input: cases, output: work }))).rejects.toMatchObject({ field: 'output' });
  });

  function batch(
    more: Pick<RunBatchOptions, 'input' | 'output'> & Partial<RunBatchOptions>,
  ): RunBatchOptions {
    return { ...DEFAULTS, backboneDir: folder, dataDir: join(work, 'data'), ...more };
  }
});

test('a line that is cancelled is written, and counted neither as answered nor as failed', async () => {
  const input = join(work, 'long.jsonl');
  const output = join(work, 'cancelled.jsonl');
  const lines = [1, 400, 400, 400].map((max_tokens, index) =>
    JSON.stringify({ custom_id: `${index}`, prompt_ids: [1], max_tokens, ignore_eos: true }),
  );
  await writeFile(input, lines.join('\n'));
  const controller = new AbortController();
  const report = await runBatch({
    ...DEFAULTS,
    backboneDir: join(GOLDEN_ROOT, 'llama-tied'),
    dataDir: join(work, 'data'),
    input,
    output,
    maxBatch: 2,
    // The first line that is written ends the rest.
    progress: {
      start: (label) => ({
        ...silentProgress.start(label),
        update: () => {
          if (label === 'Running') controller.abort();
        },
      }),
    },
    signal: controller.signal,
  });
  const written = await readLines<OutputLine>(output);
  expect(written[0]?.finish_reason).toBe('length');
  const reasons = written.map((row) => row.finish_reason);
  expect(reasons).toContain('cancelled');
  expect(report).toMatchObject({
    lines: written.length,
    succeeded: reasons.filter((reason) => reason !== 'cancelled').length,
    cancelled: reasons.filter((reason) => reason === 'cancelled').length,
    failed: 0,
  });
});
