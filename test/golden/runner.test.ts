import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { readPeftAdapter } from '../../src/adapter/peft/read.ts';
import { importBackbone } from '../../src/backbone/import.ts';
import { BACKBONE_FILES } from '../../src/backbone/manifest.ts';
import type { PackedAdapter } from '../../src/engine/runner.ts';
import { createOnnxRunner } from '../../src/engine/runner/onnx-runner.ts';
import { packAdapter } from '../../src/engine/runner/pack.ts';
import { systemClock } from '../../src/kernel/clock.ts';
import { openSafetensors } from '../../src/safetensors/source.ts';
import { ADAPTER_HEADER_LIMITS } from '../../src/safetensors/header.ts';
import { comparableSteps, GOLDEN_FOLDERS, GOLDEN_ROOT, type GoldenCase, type GoldenExpectation, readLines, temporaryFolder } from './kit.ts';
import { parseAdapterConfig } from '../../src/adapter/peft/config.ts';
import { DEFAULT_ADAPTER_LIMITS } from '../../src/adapter/limits.ts';

describe.each(GOLDEN_FOLDERS)('%s', (folder) => {
  test('one mixed batch equals the reference', async () => {
    const dir = join(GOLDEN_ROOT, folder);
    const root = await temporaryFolder();
    const { dir: imported, manifest } = await importBackbone({ dir, root, bits: 32 });
    const runner = await createOnnxRunner({ modelPath: join(imported, BACKBONE_FILES.model), shape: manifest.shape, maxContext: 512, kvBudgetBytes: 1e9, pageRank: 16, bankPages: 64, intraOpThreads: 1, executionProviders: ['cpu'] }, { clock: systemClock });
    const cases = await readLines<GoldenCase>(join(dir, 'cases.jsonl'));
    const expected = await readLines<GoldenExpectation>(join(dir, 'expected.jsonl'));
    const packed = new Map<string, PackedAdapter>();
    for (const c of cases) for (const a of c.adapters) {
      if (packed.has(a.path)) continue;
      const adapter = await readPeftAdapter({ config: parseAdapterConfig(await readFile(join(dir, a.path, 'adapter_config.json')), DEFAULT_ADAPTER_LIMITS), tensors: await openSafetensors(join(dir, a.path, 'adapter_model.safetensors'), ADAPTER_HEADER_LIMITS) }, manifest.shape, DEFAULT_ADAPTER_LIMITS);
      packed.set(a.path, packAdapter({ digest: a.path, modules: adapter.modules }, manifest.shape, 16));
    }
    const seqs = cases.map((c) => ({ row: runner.open(128), pending: [...c.prompt_ids], past: 0, out: [] as number[], lps: [] as number[], adapters: c.adapters.map((a) => ({ adapter: packed.get(a.path)!, weight: a.weight })) }));
    let maxDiff = 0;
    for (let step = 0; step < 24; step++) {
      const { logits } = await runner.run(seqs.map((s) => ({ row: s.row, tokens: s.pending, past: s.past, adapters: s.adapters, wantsLogits: true })));
      seqs.forEach((s, i) => {
        const l = logits[i]!; let best = 0; for (let j = 1; j < l.length; j++) if (l[j]! > l[best]!) best = j;
        let sum = 0; for (const x of l) sum += Math.exp(x - l[best]!);
        s.past += s.pending.length; s.pending = [best]; s.out.push(best); s.lps.push(-Math.log(sum));
      });
    }
    expected.forEach((e, i) => {
      const n = comparableSteps(e);
      expect(seqs[i]!.out.slice(0, n), e.custom_id).toEqual(e.ids.slice(0, n));
      for (let t = 0; t < n; t++) maxDiff = Math.max(maxDiff, Math.abs(seqs[i]!.lps[t]! - e.logprobs[t]!));
    });
    console.log(folder, 'max logprob diff', maxDiff);
    expect(maxDiff).toBeLessThan(1e-3);
    await runner.dispose();
  });
});
