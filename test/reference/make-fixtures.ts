import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { caseLine, expectationLine, type GoldenCase, type GoldenExpectation, readCases } from './cases.ts';
import { referenceGreedy } from './generate.ts';
import { loadModel } from './model.ts';
import { loadAdapter, type ReferenceAdapter } from './peft.ts';
import {
  type FileTree,
  goldenAdapterSpecs,
  type SynthAdapterSpec,
  type SynthModelOptions,
  synthCheckpoint,
  synthPrompts,
  writeFileTree,
} from './synth.ts';

export const GOLDEN_FOLDER = fileURLToPath(new URL('../fixtures/golden', import.meta.url));

export interface FixtureSpec {
  readonly name: string;
  readonly model: SynthModelOptions;
  readonly adapters: readonly SynthAdapterSpec[];
}

function fixture(name: string, model: SynthModelOptions): FixtureSpec {
  return { name, model, adapters: goldenAdapterSpecs(model) };
}

/**
 * The mistral fixture's pattern adapter also has keys that name one module by
 * several components and by its full path, and a general key before a more
 * specific one, which therefore never applies.
 */
function mistralFixture(name: string, model: SynthModelOptions): FixtureSpec {
  const adapters = goldenAdapterSpecs(model).map((spec): SynthAdapterSpec => {
    if (spec.name !== 'pattern') return spec;
    return {
      ...spec,
      rankPattern: { 'layers.1.self_attn.q_proj': 6, down_proj: 10, 'layers.0.mlp.down_proj': 2 },
      alphaPattern: { o_proj: 2, 'model.layers.0.mlp.down_proj': 5 },
      rankOf: (path) => {
        if (path === 'model.layers.1.self_attn.q_proj') return 6;
        return path.endsWith('.down_proj') ? 10 : 4;
      },
    };
  });
  return { name, model, adapters };
}

/** Seeds were picked so that no greedy margin is below 2e-3 and float32 can be compared to the last token. */
export const FIXTURES: readonly FixtureSpec[] = [
  fixture('llama3-untied', {
    family: 'llama',
    seed: 2,
    headDim: 16,
    tied: false,
    ropeScaling: { factor: 8, lowFreqFactor: 1, highFreqFactor: 4, originalMaxPositions: 64 },
  }),
  mistralFixture('mistral', {
    family: 'mistral',
    seed: 5,
    headDim: 24,
    kvHeadCount: 1,
    intermediateSize: 112,
    vocabSize: 300,
    tied: false,
    dtype: 'F16',
    ropeTheta: 1e6,
  }),
  fixture('qwen3', {
    family: 'qwen3',
    seed: 2,
    headCount: 6,
    kvHeadCount: 3,
    headDim: 16,
    intermediateSize: 96,
    tied: true,
    ropeTheta: 1e6,
  }),
  fixture('llama-bf16-sharded', {
    family: 'llama',
    seed: 6,
    kvHeadCount: 4,
    tied: false,
    dtype: 'BF16',
    shardCount: 2,
  }),
];

/** Every adapter setting meets a short and a long prompt; one-token and over-64-token prompts both occur. */
const PROMPT_LENGTHS = [68, 1, 33, 70, 21, 5, 66, 17, 90, 1, 48, 9, 27, 3, 80, 38, 72, 110];
const BLENDS = [
  { all_r8: 0.5, qv_r3: 0.75 },
  { rslora_r24: 0.3, pattern: 1, half_r16: 0.6 },
];

function casesOf(spec: FixtureSpec): GoldenCase[] {
  const singles = spec.adapters.map(({ name }) => ({ [name]: 1 }));
  const settings: Record<string, number>[] = [{}, ...singles, ...BLENDS];
  const prompts = synthPrompts(`${spec.name}/${spec.model.seed}`, PROMPT_LENGTHS);
  return prompts.map((promptIds, i) => ({
    customId: `${spec.name}-${i}`,
    promptIds,
    maxTokens: 24,
    ignoreEos: true,
    adapters: Object.entries(settings[i % settings.length] ?? {}).map(([name, weight]) => ({
      path: `adapters/${name}`,
      weight,
    })),
  }));
}

function lines(items: readonly string[]): Uint8Array {
  return new Uint8Array(Buffer.from(items.map((item) => `${item}\n`).join('')));
}

/** Everything of a fixture but expected.jsonl: the part that has to be the same bytes on every machine. */
export function fixtureInputs(spec: FixtureSpec): FileTree {
  const files = synthCheckpoint(spec.model, spec.adapters);
  files.set('cases.jsonl', lines(casesOf(spec).map(caseLine)));
  return files;
}

/** Runs the reference over the cases of a folder in golden layout. */
export function computeExpectations(folder: string, cases = readCases(folder)): GoldenExpectation[] {
  const model = loadModel(folder);
  const loaded = new Map<string, ReferenceAdapter>();
  const adapterAt = (path: string): ReferenceAdapter => {
    const adapter = loaded.get(path) ?? loadAdapter(join(folder, path));
    loaded.set(path, adapter);
    return adapter;
  };
  return cases.map(({ customId, promptIds, maxTokens, ignoreEos, adapters }) => {
    const weighted = adapters.map(({ path, weight }) => ({ adapter: adapterAt(path), weight }));
    const { ids, logprobs, margins } = referenceGreedy({
      model,
      adapters: weighted,
      promptIds,
      maxTokens,
      ignoreEos,
    });
    return { customId, ids, logprobs, margins };
  });
}

export function writeFixture(folder: string, spec: FixtureSpec): void {
  writeFileTree(folder, fixtureInputs(spec));
  writeFileSync(join(folder, 'expected.jsonl'), lines(computeExpectations(folder).map(expectationLine)));
}

// Imported by a test this file only describes the fixtures; run as a script it rewrites them.
if (process.argv[1] === fileURLToPath(import.meta.url)) {
  for (const spec of FIXTURES) writeFixture(join(GOLDEN_FOLDER, spec.name), spec);
}
