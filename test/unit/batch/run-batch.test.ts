import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { runBatch } from '../../../src/batch/run-batch.ts';
import { silentProgress } from '../../../src/observability/progress.ts';

/** What happens while a line reads its adapter, and what the engine was made with. */
const seen = vi.hoisted(() => {
  // Files share their modules: these ones are loaded anew, to get what is put in place of two of them.
  vi.resetModules();
  const hooks: { onRead: () => void; report: unknown } = { onRead: () => {}, report: undefined };
  return hooks;
});

vi.mock('../../../src/adapter/folder.ts', async (original) => {
  const real = await original<typeof import('../../../src/adapter/folder.ts')>();
  const readAdapterFolder: typeof real.readAdapterFolder = async (...args) => {
    seen.onRead();
    return real.readAdapterFolder(...args);
  };
  return { ...real, readAdapterFolder };
});

vi.mock('../../../src/engine/loop.ts', async (original) => {
  const real = await original<typeof import('../../../src/engine/loop.ts')>();
  const createInlineEngine: typeof real.createInlineEngine = (options, deps) => {
    seen.report = deps.report;
    return real.createInlineEngine(options, deps);
  };
  return { ...real, createInlineEngine };
});

let work: string;
beforeAll(async () => {
  work = await mkdtemp(join(tmpdir(), 'patchbay-batch-'));
});
afterAll(() => rm(work, { recursive: true }));
afterAll(() => {
  vi.doUnmock('../../../src/adapter/folder.ts');
  vi.doUnmock('../../../src/engine/loop.ts');
  vi.resetModules();
});

test('a line that is still reading its adapter at Ctrl-C is not submitted any more', async () => {
  const backboneDir = resolve('test/fixtures/golden/llama-tied');
  const input = join(work, 'in.jsonl');
  const output = join(work, 'out.jsonl');
  const adapters = [{ path: join(backboneDir, 'adapters', 'all_r8') }];
  await writeFile(
    input,
    JSON.stringify({ custom_id: 'a', prompt_ids: [1], max_tokens: 400, ignore_eos: true, adapters }),
  );
  const controller = new AbortController();
  seen.onRead = () => controller.abort();
  const report = (): void => {};
  const totals = await runBatch({
    backboneDir,
    input,
    output,
    dataDir: join(work, 'data'),
    maxBatch: 2,
    bits: 32,
    threads: 1,
    progress: silentProgress,
    report,
    signal: controller.signal,
  });
  expect(JSON.parse(await readFile(output, 'utf8'))).toMatchObject({
    custom_id: 'a',
    token_ids: [],
    finish_reason: 'cancelled',
  });
  expect(totals).toMatchObject({ lines: 1, cancelled: 1, succeeded: 0, failed: 0 });
  expect(seen.report).toBe(report);
});
