import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { openText } from '../../src/backbone/text/open.ts';
import { createInlineEngine } from '../../src/engine/loop.ts';
import type { Engine, SamplingParams, SequenceEvent } from '../../src/engine/port.ts';
import type { PackedAdapter, StepRunner } from '../../src/engine/runner.ts';
import { systemClock } from '../../src/kernel/clock.ts';
import { synthPrompt } from '../reference/synth.ts';
import { GOLDEN_ROOT } from './kit.ts';
import { openRunner, packFolder } from './runner-kit.ts';

const FOLDER = join(GOLDEN_ROOT, 'llama-tied');
const ADAPTERS = ['all_r8', 'qv_r3', 'rslora_r24', 'pattern', 'half_r16', 'last_only'];
const NEW_TOKENS = 16;

let engine: Engine;
let runner: StepRunner;

beforeAll(async () => {
  const opened = await openRunner(FOLDER);
  runner = opened.runner;
  const packed = new Map<string, PackedAdapter>();
  for (const name of ADAPTERS)
    packed.set(name, await packFolder(join(FOLDER, 'adapters', name), opened.shape));
  engine = createInlineEngine(
    { maxBatch: 8, prefillTokensPerStep: 40 },
    {
      runner,
      loader: {
        load: async (digest) => {
          const adapter = packed.get(digest);
          if (adapter === undefined) throw new Error(`no adapter ${digest}`);
          return { ...adapter, digest };
        },
        close: async () => {},
      },
      decoderFactory: openText(FOLDER, opened).decoderFactory,
      clock: systemClock,
      backboneDigest: 'test',
      eosTokenIds: [257],
    },
  );
});
afterAll(() => engine.close({ graceMs: 0 }));

interface Request {
  readonly prompt: readonly number[];
  readonly adapters: readonly { readonly digest: string; readonly weight: number }[];
  readonly sampling: SamplingParams;
}

let requests = 0;

/** Runs a request to its end and returns its tokens. */
function run({ prompt, adapters, sampling }: Request): Promise<readonly number[]> {
  return new Promise((resolve, reject) => {
    const ids: number[] = [];
    requests += 1;
    const onEvent = (event: SequenceEvent): void => {
      if (event.kind === 'tokens') ids.push(...event.tokens.map(({ id }) => id));
      else if (event.reason === 'error') reject(new Error(event.error?.message));
      else resolve(ids);
    };
    engine
      .submit(
        {
          id: `request-${requests}`,
          tenantId: 'tenant',
          promptIds: prompt,
          adapters,
          sampling,
          stop: { maxTokens: NEW_TOKENS, strings: [], tokenIds: [], ignoreEos: true },
          priority: 'STANDARD',
          topLogprobs: 0,
        },
        onEvent,
      )
      .catch(reject);
  });
}

test('a seeded request gives the tokens that it gives alone, whatever else is in the batch', async () => {
  const sampling = (index: number): SamplingParams => ({
    temperature: 0.5 + 0.1 * (index % 5),
    topP: index % 3 === 0 ? 0.9 : 1,
    topK: index % 4 === 0 ? 40 : 0,
    minP: index % 5 === 0 ? 0.02 : 0,
    repetitionPenalty: index % 6 === 0 ? 1.2 : 1,
    seed: 1000 + index,
  });
  const all = Array.from({ length: 24 }, (_, index): Request => {
    const first = ADAPTERS[index % ADAPTERS.length] ?? '';
    const second = ADAPTERS[(index + 2) % ADAPTERS.length] ?? '';
    const adapters = [
      ...(index % 4 === 3 ? [] : [{ digest: first, weight: 1 }]),
      ...(index % 4 === 2 ? [{ digest: second, weight: -0.5 }] : []),
    ];
    return {
      prompt: synthPrompt(`sampled-${index}`, 1 + ((index * 17) % 90)),
      adapters,
      sampling: sampling(index),
    };
  });
  const alone: (readonly number[])[] = [];
  for (const request of all) alone.push(await run(request));
  const mixed = await Promise.all(all.map(run));
  expect(mixed).toEqual(alone);
  const other = await Promise.all(
    all.map((request) =>
      run({ ...request, sampling: { ...request.sampling, seed: request.sampling.seed + 7 } }),
    ),
  );
  // The seed matters: nearly every sequence differs when it does.
  expect(other.filter((ids, index) => ids.join() !== alone[index]?.join()).length).toBeGreaterThan(18);
});

test('the probe sees the effect of an adapter and none of an adapter that is absent from the store', async () => {
  const result = await engine.probe('half_r16', synthPrompt('probe', 9));
  expect(result.finite).toBe(true);
  expect(result.maxAbsDifference).toBeGreaterThan(0.01);
  await expect(engine.probe('unknown', [1])).rejects.toMatchObject({ code: 'ADAPTER_LOAD_FAILED' });
});
