import { join } from 'node:path';
import { expect, test } from 'vitest';
import { referenceGreedy } from '../reference/generate.ts';
import { loadModel } from '../reference/model.ts';
import { loadAdapter } from '../reference/peft.ts';
import { synthPrompt } from '../reference/synth.ts';
import { GOLDEN_ROOT, MIN_MARGIN } from './kit.ts';
import { choice, openRunner, packFolder } from './runner-kit.ts';

const NEW_TOKENS = 12;

/** A reproducible stream of numbers in [0, 1). */
function seeded(seed: number): () => number {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
}

test.each([1, 2, 3])(
  'chunked prompts, moves between capacity classes and rows that leave change no token (seed %i)',
  async (seed) => {
    const folder = join(GOLDEN_ROOT, 'llama-tied');
    const random = seeded(seed);
    const { runner, shape } = await openRunner(folder);
    const model = loadModel(folder);
    const blends = [
      [],
      ['all_r8'],
      ['last_only'],
      ['qv_r3', 'rslora_r24'],
      ['pattern'],
      [],
      ['last_only', 'half_r16'],
    ];
    const lengths = [1, 17, 100, 127, 128, 129, 300];
    const sequences = await Promise.all(
      lengths.map(async (length, index) => {
        const names = blends[index] ?? [];
        const weights = names.map((_, position) => 1 - 0.25 * position);
        const folders = names.map((name) => join(folder, 'adapters', name));
        const packed = await Promise.all(folders.map((path) => packFolder(path, shape)));
        const prompt = [...synthPrompt(`chunks-${seed}-${index}`, length)];
        const expected = referenceGreedy({
          model,
          adapters: folders.map((path, position) => ({
            adapter: loadAdapter(path),
            weight: weights[position] ?? 1,
          })),
          promptIds: prompt,
          maxTokens: NEW_TOKENS,
          ignoreEos: true,
        });
        return {
          row: runner.open(shape.maxPositions),
          adapters: packed.map((adapter, position) => ({ adapter, weight: weights[position] ?? 1 })),
          pending: prompt,
          past: 0,
          ids: [] as number[],
          expected,
        };
      }),
    );
    let live = [...sequences];
    while (live.length > 0) {
      // Any subset may take part in a step, with chunks of any size: the result must not depend on it.
      const chosen = live.filter(() => random() < 0.7);
      if (chosen.length === 0) continue;
      const counts = chosen.map(({ pending }) => Math.min(pending.length, 1 + Math.floor(random() * 90)));
      const { logits } = await runner.run(
        chosen.map(({ row, pending, past, adapters }, index) => ({
          row,
          tokens: pending.slice(0, counts[index]),
          past,
          adapters,
          wantsLogits: counts[index] === pending.length,
          greedy: index % 2 === 0,
        })),
      );
      chosen.forEach((sequence, index) => {
        const values = logits[index];
        sequence.past += counts[index] ?? 0;
        sequence.pending = sequence.pending.slice(counts[index]);
        if (values === null || values === undefined) return;
        const { token } = choice(values);
        sequence.ids.push(token);
        sequence.pending = [token];
      });
      for (const done of live.filter(({ ids }) => ids.length === NEW_TOKENS)) runner.close(done.row);
      live = live.filter(({ ids }) => ids.length < NEW_TOKENS);
    }
    sequences.forEach(({ ids, expected }, index) => {
      const tie = expected.margins.findIndex((margin) => margin < MIN_MARGIN);
      const steps = tie === -1 ? NEW_TOKENS : tie;
      expect(ids.slice(0, steps), `seed ${seed}, sequence ${index}`).toEqual(expected.ids.slice(0, steps));
    });
    await runner.dispose();
  },
);
