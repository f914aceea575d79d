import { join } from 'node:path';
import { afterEach, expect, test, vi } from 'vitest';
import { StepSessions } from '../../src/engine/runner/sessions.ts';
import type { RowWork, StepRunner } from '../../src/engine/runner.ts';
import { synthPrompt } from '../reference/synth.ts';
import { GOLDEN_ROOT } from './kit.ts';
import { choice, openRunner, packFolder } from './runner-kit.ts';

const STEPS = 6;

afterEach(() => vi.restoreAllMocks());

/** Greedy continuations of four prompts of equal length under these adapters, and which forms of the graph ran. */
async function generate(
  runner: StepRunner,
  uses: readonly RowWork['adapters'][],
): Promise<{ readonly ids: number[][]; readonly logprobs: number[][]; readonly forms: Set<string> }> {
  const run = vi.spyOn(StepSessions.prototype, 'run');
  const rows = uses.map((adapters, index) => ({
    row: runner.open(64),
    adapters,
    past: 0,
    pending: [...synthPrompt(`forms-${index}`, 20)],
    ids: [] as number[],
    logprobs: [] as number[],
  }));
  for (let step = 0; step < STEPS; step++) {
    const work = rows.map(({ row, adapters, past, pending }) => {
      return { row, adapters, past, tokens: pending, wantsLogits: true, greedy: true };
    });
    const { logits } = await runner.run(work);
    rows.forEach((row, index) => {
      const { token, logprob } = choice(logits[index]);
      row.past += row.pending.length;
      row.pending = [token];
      row.ids.push(token);
      row.logprobs.push(logprob);
    });
  }
  const forms = new Set(run.mock.calls.map(([form]) => form));
  run.mockRestore();
  for (const { row } of rows) runner.close(row);
  return { ids: rows.map(({ ids }) => ids), logprobs: rows.map(({ logprobs }) => logprobs), forms };
}

test.each([['llama-tied'], ['qwen2'], ['qwen3']])(
  '%s: narrow forms of the graph give what the general one gives',
  async (family) => {
    const folder = join(GOLDEN_ROOT, family);
    const { runner, shape } = await openRunner(folder);
    const adapter = async (name: string, weight = 1): Promise<RowWork['adapters'][number]> => ({
      adapter: await packFolder(join(folder, 'adapters', name), shape),
      weight,
    });
    const [one, two, wide] = [await adapter('all_r8'), await adapter('qv_r3'), await adapter('half_r16')];
    const mixes: readonly (readonly [form: string, uses: readonly RowWork['adapters'][]])[] = [
      ['plain', [[], [], [], []]],
      ['adapted', [[one], [two], [one], [two]]],
      ['adapted', [[wide], [wide], [wide], [wide]]],
      // A row without an adapter, another number of pages, a weight and a blend are what only the general form takes.
      ['general', [[one], [], [two], []]],
      ['general', [[one], [wide], [two], [one]]],
      ['general', [[one], [{ ...two, weight: 0.5 }], [two], [one]]],
      ['general', [[one, two], [two], [two], [one]]],
    ];
    for (const [form, uses] of mixes) {
      const narrow = await generate(runner, uses);
      expect(narrow.forms).toEqual(new Set(['general', form]));
      vi.spyOn(StepSessions.prototype, 'has').mockReturnValue(false);
      const general = await generate(runner, uses);
      vi.restoreAllMocks();
      expect(general.forms).toEqual(new Set(['general']));
      expect(narrow.ids).toEqual(general.ids);
      narrow.logprobs.flat().forEach((logprob, index) => {
        expect(logprob).toBeCloseTo(general.logprobs.flat()[index] ?? Number.NaN, 4);
      });
    }
    await runner.dispose();
  },
  60_000,
);
