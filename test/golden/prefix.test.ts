import { join } from 'node:path';
import { afterEach, expect, test } from 'vitest';
import { createInlineEngine } from '../../src/engine/loop.ts';
import type { AdapterUse, Engine, SequenceUsage } from '../../src/engine/port.ts';
import type { PackedAdapter } from '../../src/engine/runner.ts';
import { systemClock } from '../../src/kernel/clock.ts';
import { request, submitted } from '../kit/fake-engine.ts';
import { referenceGreedy } from '../reference/generate.ts';
import { loadModel } from '../reference/model.ts';
import { loadAdapter } from '../reference/peft.ts';
import { synthPrompt } from '../reference/synth.ts';
import { GOLDEN_ROOT, MIN_MARGIN } from './kit.ts';
import { openRunner, packFolder } from './runner-kit.ts';

const FOLDER = join(GOLDEN_ROOT, 'llama-tied');
const NEW_TOKENS = 10;
const engines: Engine[] = [];
afterEach(async () => {
  for (const engine of engines.splice(0)) await engine.close({ graceMs: 0 });
});

async function open(): Promise<Engine> {
  const { runner, shape } = await openRunner(FOLDER);
  const packed = new Map<string, PackedAdapter>();
  for (const name of ['all_r8', 'rslora_r24']) {
    packed.set(name, await packFolder(join(FOLDER, 'adapters', name), shape));
  }
  const engine = createInlineEngine(
    { maxBatch: 8, prefillTokensPerStep: 96, prefixBytes: 2 ** 26, prefixBlockTokens: 16 },
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
      decoderFactory: () => ({ push: () => '', end: () => '' }),
      clock: systemClock,
      backboneDigest: 'test',
      eosTokenIds: [],
    },
  );
  engines.push(engine);
  return engine;
}

interface Turn {
  readonly promptIds: readonly number[];
  readonly adapters?: readonly AdapterUse[];
  readonly tenantId?: string;
}

async function run(
  engine: Engine,
  turn: Turn,
): Promise<{ readonly ids: readonly number[]; readonly usage: SequenceUsage }> {
  const recording = await submitted(engine, request({ ...turn, stop: { maxTokens: NEW_TOKENS } }));
  const { reason, usage } = await recording.ended;
  expect(reason).toBe('length');
  return { ids: recording.tokens, usage };
}

const model = loadModel(FOLDER);

/** Equal to the reference up to the first step that float32 cannot decide. */
function expectReference(ids: readonly number[], { promptIds, adapters = [] }: Turn): void {
  const expected = referenceGreedy({
    model,
    adapters: adapters.map(({ digest, weight }) => ({
      adapter: loadAdapter(join(FOLDER, 'adapters', digest)),
      weight,
    })),
    promptIds: [...promptIds],
    maxTokens: NEW_TOKENS,
    ignoreEos: true,
  });
  const tie = expected.margins.findIndex((margin) => margin < MIN_MARGIN);
  const steps = tie === -1 ? NEW_TOKENS : tie;
  expect(ids.slice(0, steps)).toEqual(expected.ids.slice(0, steps));
}

const SYSTEM = synthPrompt('system', 130);

test.each([
  ['the plain backbone', []],
  ['an adapter', [{ digest: 'all_r8', weight: 1 }]],
  [
    'a blend',
    [
      { digest: 'rslora_r24', weight: 0.5 },
      { digest: 'all_r8', weight: -1 },
    ],
  ],
])('many prompts that go on from a kept beginning get the reference’s tokens: %s', async (_, adapters) => {
  const engine = await open();
  await run(engine, { promptIds: SYSTEM, adapters });
  const turns = Array.from({ length: 8 }, (_unused, index) => ({
    promptIds: [...SYSTEM, ...synthPrompt(`user-${index}`, 1 + index * 9)],
    adapters,
  }));
  const answers = await Promise.all(turns.map((turn) => run(engine, turn)));
  answers.forEach(({ ids, usage }, index) => {
    expect(usage.cachedPromptTokens).toBe(128);
    expectReference(ids, turns[index] ?? { promptIds: [] });
  });
  expect((await engine.status()).prefixes).toMatchObject({ hits: 8, tokens: 8 * 128 });
});

test('the next turn of a conversation begins with the question and the answer', async () => {
  const engine = await open();
  const first = await run(engine, { promptIds: SYSTEM.slice(0, 60) });
  const promptIds = [...SYSTEM.slice(0, 60), ...first.ids, 5, 6, 7];
  const second = await run(engine, { promptIds });
  // 60 tokens and 9 answers were computed: four blocks, of which the last holds four answers.
  expect(second.usage.cachedPromptTokens).toBe(64);
  expectReference(second.ids, { promptIds });
});

test('another tenant, other adapters and other weights find nothing', async () => {
  const engine = await open();
  const adapters = [{ digest: 'all_r8', weight: 1 }];
  await run(engine, { promptIds: SYSTEM, adapters });
  const others: Turn[] = [
    { promptIds: SYSTEM, adapters, tenantId: 'another' },
    { promptIds: SYSTEM, adapters: [] },
    { promptIds: SYSTEM, adapters: [{ digest: 'all_r8', weight: 0.5 }] },
    { promptIds: SYSTEM, adapters: [{ digest: 'rslora_r24', weight: 1 }] },
    { promptIds: SYSTEM.with(3, 1), adapters },
  ];
  for (const turn of others) {
    const { ids, usage } = await run(engine, turn);
    expect(usage.cachedPromptTokens).toBe(0);
    expectReference(ids, turn);
  }
});
