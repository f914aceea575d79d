import { join } from 'node:path';
import { expect, test } from 'vitest';
import type { PackedAdapter, StepRunner } from '../../src/engine/runner.ts';
import { synthPrompt } from '../reference/synth.ts';
import { GOLDEN_ROOT } from './kit.ts';
import { choice, openRunner, packFolder } from './runner-kit.ts';

const FOLDER = join(GOLDEN_ROOT, 'llama-tied');
const STEPS = 10;

/** An adapter that overflows: finite weights, activations that are not. */
function overflowing(adapter: PackedAdapter): PackedAdapter {
  return {
    ...adapter,
    digest: 'hostile',
    pages: adapter.pages.map((page) => page.map((value) => value * 1e20)),
  };
}

interface Run {
  readonly adapters: readonly PackedAdapter[];
  readonly prompt: readonly number[];
}

/** Greedy tokens of several sequences that run together from the first step to the last. */
async function together(
  runner: StepRunner,
  runs: readonly Run[],
): Promise<{ ids: number[][]; finite: boolean[] }> {
  const rows = runs.map(({ adapters, prompt }) => ({
    row: runner.open(128),
    adapters: adapters.map((adapter) => ({ adapter, weight: 1 })),
    pending: prompt,
    past: 0,
    ids: [] as number[],
    finite: true,
  }));
  for (let step = 0; step < STEPS; step++) {
    const work = rows.map(({ row, pending, past, adapters }, index) => ({
      row,
      tokens: pending,
      past,
      adapters,
      wantsLogits: true,
      greedy: index % 2 === 0,
    }));
    const { logits } = await runner.run(work);
    rows.forEach((sequence, index) => {
      const { token, finite } = choice(logits[index]);
      sequence.finite &&= finite;
      sequence.past += sequence.pending.length;
      sequence.pending = [token];
      sequence.ids.push(...sequence.pending);
    });
  }
  for (const { row } of rows) runner.close(row);
  return { ids: rows.map(({ ids }) => ids), finite: rows.map(({ finite }) => finite) };
}

test.each([32, 8] as const)(
  'an adapter that overflows at %i bits spoils only its own sequence, now and for whoever gets its cache row next',
  async (bits) => {
    const { runner, shape } = await openRunner(FOLDER, bits);
    const good = await packFolder(join(FOLDER, 'adapters', 'all_r8'), shape);
    const large = await packFolder(join(FOLDER, 'adapters', 'last_only'), shape);
    const hostile = overflowing(good);
    const innocents: Run[] = [
      { adapters: [], prompt: synthPrompt('1', 9) },
      { adapters: [good], prompt: synthPrompt('2', 30) },
      { adapters: [large], prompt: synthPrompt('3', 1) },
      { adapters: [good, large], prompt: synthPrompt('4', 12) },
    ];
    const alone: number[][] = [];
    for (const run of innocents) alone.push(...(await together(runner, [run])).ids);
    const attackers: Run[] = [5, 20, 1].map((length, index) => ({
      adapters: [hostile],
      prompt: synthPrompt(`attack-${index}`, length),
    }));
    const [first, second, third] = attackers;
    const mixed = await together(
      runner,
      [first, innocents[0], innocents[1], second, innocents[2], innocents[3], third].flatMap(
        (run) => run ?? [],
      ),
    );
    expect([mixed.finite[0], mixed.finite[3], mixed.finite[6]]).toEqual([false, false, false]);
    expect([1, 2, 4, 5].map((index) => mixed.finite[index])).toEqual([true, true, true, true]);
    expect([1, 2, 4, 5].map((index) => mixed.ids[index])).toEqual(alone);
    // The rows that the attackers held are reused: what they left must not be there any more.
    const after = await together(runner, [...innocents, ...innocents]);
    expect(after.finite).toEqual(after.finite.map(() => true));
    expect(after.ids).toEqual([...alone, ...alone]);
    await runner.dispose();
  },
);
