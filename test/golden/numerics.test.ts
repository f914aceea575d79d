import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type ImportedBackbone, importBackbone } from '../../src/backbone/import.ts';
import { difference, RecordingSampler, type Rows } from '../../src/bench/numerics.ts';
import { createInlineEngine } from '../../src/engine/loop.ts';
import type { EngineOptions } from '../../src/engine/options.ts';
import type { SequenceRequest } from '../../src/engine/port.ts';
import { createOnnxRunner } from '../../src/engine/runner/onnx-runner.ts';
import { packAdapter } from '../../src/engine/runner/pack.ts';
import type { PackedAdapter } from '../../src/engine/runner.ts';
import { systemClock } from '../../src/kernel/clock.ts';
import { readAdapters } from '../../src/replay/model.ts';
import { NEAR_TIE } from '../../src/replay/near-tie.ts';
import { PAGE_RANK } from '../../src/serving/layout.ts';
import { packedGraphs } from '../../src/serving/packed-graphs.ts';
import { multipliesBytesExactly } from '../../src/serving/processor.ts';
import { request, submitted } from '../kit/fake-engine.ts';
import { synthPrompt } from '../reference/synth.ts';
import { temporaryFolder } from './kit.ts';

// What docs/concepts/replay.md says of numbers, on the starter backbone. `npm run bench:numerics` measures more of it.
const WIDTHS = [32, 8, 4] as const;
const ADAPTERS = ['date', 'sort'];
const BEGINNING = synthPrompt('numerics', 40);
/** By width in bits. */
const backbones = new Map<
  number,
  ImportedBackbone & { readonly packed: ReadonlyMap<string, PackedAdapter> }
>();
beforeAll(async () => {
  for (const bits of WIDTHS) {
    const root = await temporaryFolder();
    const backbone = await importBackbone({ dir: 'starter/backbone', root, bits });
    const { shape, digest } = backbone.manifest;
    const folders = ADAPTERS.map((name) => join('starter/adapters', name));
    const adapters = await readAdapters(folders, shape, digest);
    const packed = new Map(adapters.map((one) => [one.digest, packAdapter(one, shape, PAGE_RANK)]));
    backbones.set(bits, { ...backbone, packed });
  }
});
afterAll(() => backbones.clear());

interface Circumstances {
  readonly threads?: number;
  /** Whether decode steps have graphs of their own. */
  readonly forms?: boolean;
  /** Whether all requests run in one batch, or one after another. */
  readonly together?: boolean;
  readonly engine?: Partial<EngineOptions>;
}

/** Runs the same requests under the given circumstances, and returns all logits that they chose from. */
async function rowsOf(
  bits: 32 | 8 | 4,
  { threads = 1, forms = true, together = false, engine: options = {} }: Circumstances,
  answers: ReadonlyMap<number, readonly number[]> = new Map(),
): Promise<{ readonly rows: ReadonlyMap<number, Rows>; readonly answers: Map<number, readonly number[]> }> {
  const backbone = backbones.get(bits);
  if (backbone === undefined) throw new Error(`no backbone of ${bits} bits`);
  const { dir, manifest, packed } = backbone;
  const { shape, digest } = manifest;
  const session = {
    intraOpThreads: threads,
    exactBytes: await multipliesBytesExactly(process.arch),
    executionProviders: ['cpu'],
  };
  const { general, ...single } = await packedGraphs(dir, session);
  const runner = await createOnnxRunner(
    {
      ...session,
      graphs: forms ? { general, ...single } : { general },
      shape,
      maxContext: 256,
      kvBudgetBytes: 2 ** 30,
      pageRank: PAGE_RANK,
      bankPages: 16,
    },
    { clock: systemClock },
  );
  const sampler = new RecordingSampler(shape.vocabSize, answers);
  const engine = createInlineEngine(
    { maxBatch: 8, maxWaitPercent: 0, ...options },
    {
      runner,
      sampler,
      loader: {
        load: async (wanted) => {
          const adapter = packed.get(wanted);
          if (adapter === undefined) throw new Error(`no adapter ${wanted}`);
          return adapter;
        },
        close: async () => {},
      },
      decoderFactory: () => ({ push: () => '', end: () => '' }),
      clock: systemClock,
      backboneDigest: digest,
      eosTokenIds: [],
    },
  );
  const given = new Map<number, readonly number[]>();
  const run = async (one: SequenceRequest): Promise<void> => {
    const recording = await submitted(engine, one);
    expect((await recording.ended).reason).toBe('length');
    given.set(one.sampling.seed, recording.tokens);
  };
  const requests = requestsFor([...packed.keys()]);
  if (together) await Promise.all(requests.map(run));
  else for (const one of requests) await run(one);
  await engine.close({ graceMs: 0 });
  return { rows: sampler.rows, answers: given };
}

/** Short and long prompts, plain, with an adapter and with a blend; a beginning that several share. */
function requestsFor([one = '', other = '']: readonly string[]): readonly SequenceRequest[] {
  const blend = [
    { digest: one, weight: 0.75 },
    { digest: other, weight: -0.5 },
  ];
  const prompts = [
    BEGINNING,
    [...BEGINNING, 5, 6, 7],
    synthPrompt('numerics-long', 90),
    [9, 8, 7],
    [...BEGINNING, 9],
  ];
  return prompts.map((promptIds, seed) => {
    const adapters = [[], [{ digest: one, weight: 1 }], blend][seed % 3] ?? [];
    const stop = { maxTokens: 8 };
    return request({ promptIds, adapters, stop, sampling: { seed }, topLogprobs: 1 });
  });
}

const OTHERWISE: readonly (readonly [string, Circumstances])[] = [
  [
    'prompts in chunks, beginnings reused, without graphs for decode steps',
    { forms: false, engine: { prefillTokensPerStep: 7, prefixBytes: 2 ** 26, prefixBlockTokens: 8 } },
  ],
  ['all in one batch', { together: true }],
];

test.each(WIDTHS)(
  '%i bits: the same again, and with other threads, has the same bits; all else is near',
  async (bits) => {
    const alone = await rowsOf(bits, {});
    for (const threads of [1, 3]) {
      const again = await rowsOf(bits, { threads }, alone.answers);
      expect([threads, difference(alone.rows, again.rows)]).toEqual([
        threads,
        { positions: 40, same: 40, largest: 0, otherBest: 0, furthestBehind: 0 },
      ]);
    }
    for (const [name, circumstances] of OTHERWISE) {
      const { largest } = difference(alone.rows, (await rowsOf(bits, circumstances, alone.answers)).rows);
      // Two tokens can come nearer to each other by twice of what one logit moves.
      expect(2 * largest, name).toBeLessThan(NEAR_TIE[bits]);
    }
  },
);
