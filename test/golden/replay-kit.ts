import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { readAdapterFolder } from '../../src/adapter/folder.ts';
import { DEFAULT_ADAPTER_LIMITS } from '../../src/adapter/limits.ts';
import { importBackbone } from '../../src/backbone/import.ts';
import { openText } from '../../src/backbone/text/open.ts';
import { createInlineEngine } from '../../src/engine/loop.ts';
import type { AdapterUse, Engine } from '../../src/engine/port.ts';
import { packAdapter } from '../../src/engine/runner/pack.ts';
import type { PackedAdapter } from '../../src/engine/runner.ts';
import { systemClock } from '../../src/kernel/clock.ts';
import { outputCommitment, promptCommitment } from '../../src/metering/commitment.ts';
import { PAGE_RANK } from '../../src/serving/layout.ts';
import { openRunner } from '../../src/serving/open-runner.ts';
import { type RequestParts, request, submitted } from '../kit/fake-engine.ts';
import { atFileEnd } from '../kit/file-end.ts';
import { forged } from '../unit/verifier/forge.ts';
import { at, type Json, type Vector, vector } from '../unit/verifier/vectors.ts';
import { GOLDEN_ROOT, temporaryFolder } from './kit.ts';

export const FOLDER = join(GOLDEN_ROOT, 'llama-tied');

export function adapterFolder(name: string): string {
  return join(FOLDER, 'adapters', name);
}

/** A deployment's engine, with as much in common between requests as there can be. */
export interface Deployment {
  readonly engine: Engine;
  readonly backbone: string;
  /** Digest of an adapter by the name of its folder. */
  readonly digestOf: (name: string) => string;
}

export async function deploy(adapterNames: readonly string[]): Promise<Deployment> {
  const { dir, manifest } = await importBackbone({ dir: FOLDER, root: await temporaryFolder(), bits: 32 });
  const { shape, digest: backboneDigest, eosTokenIds } = manifest;
  const context = { shape, backboneDigest, limits: DEFAULT_ADAPTER_LIMITS };
  const packed = new Map<string, PackedAdapter>();
  const digests = new Map<string, string>();
  for (const name of adapterNames) {
    const weights = await readAdapterFolder(adapterFolder(name), context);
    packed.set(weights.digest, packAdapter(weights, shape, PAGE_RANK));
    digests.set(name, weights.digest);
  }
  const settings = { maxContext: null, kvBytes: 2 ** 30, bankBytes: 2 ** 26, intraOpThreads: 2 };
  const runner = await openRunner(
    dir,
    manifest,
    { ...settings, executionProviders: ['cpu'] },
    { clock: systemClock },
  );
  const engine = createInlineEngine(
    {
      maxBatch: 4,
      prefillTokensPerStep: 24,
      prefixBytes: 2 ** 26,
      prefixBlockTokens: 8,
      maxWaitPercent: 0,
    },
    {
      runner,
      loader: {
        load: async (digest) => found(packed, digest),
        close: async () => {},
      },
      decoderFactory: openText(dir, manifest).decoderFactory,
      clock: systemClock,
      backboneDigest,
      eosTokenIds,
    },
  );
  atFileEnd(() => engine.close({ graceMs: 0 }));
  return { engine, backbone: backboneDigest, digestOf: (name) => found(digests, name) };
}

function found<T>(map: ReadonlyMap<string, T>, key: string): T {
  const value = map.get(key);
  if (value === undefined) throw new Error(`no adapter ${key}`);
  return value;
}

/** A request that was served, and how. */
export interface Served {
  readonly promptIds: readonly number[];
  readonly outputIds: readonly number[];
  readonly uses: readonly AdapterUse[];
  readonly repetitionPenalty: number;
  readonly stop: ReturnType<typeof request>['stop'];
  readonly finish: string;
  readonly cachedPromptTokens: number;
}

/** Runs a request; with `cancelAfter`, until it has that many tokens. */
export async function serve(
  { engine }: Deployment,
  parts: RequestParts,
  cancelAfter = Number.POSITIVE_INFINITY,
): Promise<Served> {
  const asked = request(parts);
  const recording = await submitted(engine, asked);
  while (recording.tokens.length < cancelAfter && recording.ends === 0) {
    await new Promise((resolve) => setImmediate(resolve));
  }
  if (recording.ends === 0) engine.cancel(asked.id);
  const { reason, usage } = await recording.ended;
  return {
    promptIds: asked.promptIds,
    outputIds: [...recording.tokens],
    uses: asked.adapters,
    repetitionPenalty: asked.sampling.repetitionPenalty,
    stop: asked.stop,
    finish: reason,
    cachedPromptTokens: usage.cachedPromptTokens,
  };
}

const SALT = Buffer.alloc(32, 7);
const UNPRICED = [
  'rank',
  'price',
  'royaltyTerms',
  'split',
  'input',
  'cached',
  'output',
  'rankAmount',
  'royalty',
  'fee',
  'total',
];

/** Vectors with as many parts as a request has adapters; blends here have the weights of that vector. */
function vectorFor(uses: readonly AdapterUse[]): Vector {
  return vector(['plain', 'adapter', 'blend'][uses.length] ?? 'blend');
}

/** Files of a receipt and a disclosure, as a deployment and a tenant write them, or somebody who lies. */
export interface Files {
  readonly receipt: string;
  readonly disclosure: string;
  readonly trust: string;
}

/** The receipt that the platform signs for what was served; `values` are what it says instead. */
export function receiptOf(
  served: Served,
  { backbone }: Pick<Deployment, 'backbone'>,
  values: Readonly<Record<string, string>> = {},
): Json {
  const { uses, promptIds, outputIds } = served;
  // A receipt orders its parts by version, which is no order of digests; this one fits the shares of the vector.
  const ordered = uses.toSorted((a, b) => b.weight - a.weight);
  const parts = uses.length === 0 ? [{ digest: '', weight: '' }] : ordered.map(hexWeight);
  const stated = parts.flatMap(({ digest, weight }, part) => [
    [`part.${part}.digest`, digest],
    [`part.${part}.weight`, weight],
    ...UNPRICED.map((name) => [`part.${part}.${name}`, '']),
  ]);
  return forged(vectorFor(uses), 'tenant', {
    values: {
      ...Object.fromEntries(stated),
      backbone,
      promptTokens: String(promptIds.length),
      cachedPromptTokens: String(served.cachedPromptTokens),
      completionTokens: String(outputIds.length),
      promptCommitment: promptCommitment(SALT, promptIds).toString('hex'),
      outputCommitment: outputCommitment(SALT, outputIds).toString('hex'),
      finish: served.finish,
      currency: '',
      amount: '',
      ...values,
    },
  });
}

function hexWeight({ digest, weight }: AdapterUse): { readonly digest: string; readonly weight: string } {
  const bytes = Buffer.alloc(8);
  bytes.writeDoubleBE(weight);
  return { digest, weight: bytes.toString('hex') };
}

/** What the tenant keeps. */
export function disclosureOf(served: Served, changes: Readonly<Record<string, Json>> = {}): Json {
  return {
    format: 'patchbay-disclosure/1',
    id: vectorFor(served.uses).receipts[0]?.id ?? '',
    salt: SALT.toString('hex'),
    prompt: [...served.promptIds],
    output: [...served.outputIds],
    sampling: { temperature: 0, repetitionPenalty: served.repetitionPenalty },
    stop: {
      maxTokens: served.stop.maxTokens,
      strings: [...served.stop.strings],
      tokenIds: [...served.stop.tokenIds],
      ignoreEos: served.stop.ignoreEos,
    },
    ...changes,
  };
}

let files = 0;

/** Writes them down, and says whom to trust. */
export function filesOf(folder: string, { uses }: Served, receipt: Json, disclosure: Json): Files {
  const write = (content: Json): string => {
    const path = join(folder, `${files++}.json`);
    writeFileSync(path, JSON.stringify(content));
    return path;
  };
  const trust = String(at(vectorFor(uses).keys, 'keys', 0, 'address'));
  return { receipt: write(receipt), disclosure: write(disclosure), trust };
}
