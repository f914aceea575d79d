import { join } from 'node:path';
import type { PackedAdapter, RowWork, StepRunner } from '../../src/engine/runner.ts';
import type { GoldenCase } from './kit.ts';
import { choice, packFolder } from './runner-kit.ts';

/** A sequence that a test drives through a runner by hand. */
export interface Sequence {
  readonly row: number;
  readonly adapters: RowWork['adapters'];
  readonly ids: number[];
  readonly logprobs: number[];
  pending: readonly number[];
  past: number;
}

/** Opens a row for every case. */
export async function openSequences(
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
export async function step(runner: StepRunner, sequences: readonly Sequence[]): Promise<void> {
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
