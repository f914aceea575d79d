import type { ReadAdapter } from '../adapter/read.ts';
import type { ImportedBackbone } from '../backbone/import.ts';
import { openText } from '../backbone/text/open.ts';
import { createInlineEngine } from '../engine/loop.ts';
import type { AdapterUse, FinishReason, SequenceEvent, SequenceRequest } from '../engine/port.ts';
import { packAdapter } from '../engine/runner/pack.ts';
import type { PackedAdapter } from '../engine/runner.ts';
import { systemClock } from '../kernel/clock.ts';
import { fromPublic, invariant } from '../kernel/errors.ts';
import { PAGE_RANK, pageBytes } from '../serving/layout.ts';
import { openRunner } from '../serving/open-runner.ts';
import { FollowingSampler, type Place } from './following-sampler.ts';

/** What was asked, and what was answered. */
export interface ReplayedRequest {
  readonly promptIds: readonly number[];
  readonly outputIds: readonly number[];
  /** In any order; each is among the adapters that are given with it. */
  readonly uses: readonly AdapterUse[];
  readonly repetitionPenalty: number;
  readonly stop: SequenceRequest['stop'];
}

/** How the engine is run. */
export interface ReplaySettings {
  /** 0 lets the runtime choose. */
  readonly threads: number;
  /** Told of failures inside the engine. */
  readonly report: (error: unknown) => void;
}

/** What the run came to. */
export interface ReplayRun {
  /** One for each token of the answer, as far as the run got. */
  readonly places: readonly Place[];
  /** How many tokens it had when it ended, at most one more than the answer. */
  readonly tokens: number;
  readonly reason: FinishReason;
}

/** Runs a request again in this process, alone and greedily, and follows its answer. */
export async function replayRequest(
  { dir, manifest }: ImportedBackbone,
  adapters: readonly ReadAdapter[],
  request: ReplayedRequest,
  settings: ReplaySettings,
): Promise<ReplayRun> {
  const { shape, digest: backboneDigest, eosTokenIds } = manifest;
  const packed = new Map<string, PackedAdapter>(
    adapters.map((adapter) => [adapter.digest, packAdapter(adapter, shape, PAGE_RANK)]),
  );
  const pages = [...packed.values()].reduce((sum, adapter) => sum + adapter.pages.length, 0);
  const runner = await openRunner(
    dir,
    manifest,
    {
      maxContext: shape.maxPositions,
      kvBytes: Number.MAX_SAFE_INTEGER,
      // One page is the zeros, and an engine without adapters has a bank all the same.
      bankBytes: (Math.max(1, pages) + 1) * pageBytes(shape),
      intraOpThreads: settings.threads,
      executionProviders: ['cpu'],
    },
    { clock: systemClock },
  );
  const sampler = new FollowingSampler(request.outputIds, shape.vocabSize);
  const engine = createInlineEngine(
    {
      maxBatch: 1,
      maxBlend: Math.max(1, request.uses.length),
      maxBlendWeight: Number.MAX_VALUE,
      hostCacheBytes: Math.max(1, pages) * pageBytes(shape),
      // Nobody else waits, so nothing is too late.
      maxWaitPercent: 0,
    },
    {
      runner,
      loader: {
        load: async (digest) => {
          const adapter = packed.get(digest);
          invariant(adapter !== undefined, 'a replay names adapters that it was given');
          return adapter;
        },
        close: async () => {},
      },
      sampler,
      decoderFactory: openText(dir, manifest).decoderFactory,
      clock: systemClock,
      backboneDigest,
      eosTokenIds,
      report: settings.report,
    },
  );
  try {
    const { reason, usage } = await ended((onEvent) => engine.submit(sequence(request), onEvent));
    return { places: sampler.places, tokens: usage.completionTokens, reason };
  } finally {
    await engine.close({ graceMs: 0 });
  }
}

function sequence({ promptIds, outputIds, uses, repetitionPenalty, stop }: ReplayedRequest): SequenceRequest {
  return {
    id: 'replay',
    tenantId: 'replay',
    promptIds,
    // As the service orders them for the engine.
    adapters: uses.toSorted((a, b) => (a.digest < b.digest ? -1 : 1)),
    sampling: { temperature: 0, topP: 1, topK: 0, minP: 0, repetitionPenalty, seed: 0 },
    // One token more than the answer shows whether it ended where it had to; nobody needs those behind.
    stop: { ...stop, maxTokens: Math.min(stop.maxTokens, outputIds.length + 1) },
    priority: 'STANDARD',
    // Whoever asks for alternatives gets logits to choose from, and not only the best token.
    topLogprobs: 1,
  };
}

async function ended(
  submit: (onEvent: (event: SequenceEvent) => void) => Promise<void>,
): Promise<Extract<SequenceEvent, { kind: 'end' }>> {
  const end = await new Promise<Extract<SequenceEvent, { kind: 'end' }>>((resolve, reject) => {
    submit((event) => {
      if (event.kind === 'end') resolve(event);
    }).catch(reject);
  });
  if (end.error !== undefined) throw fromPublic(end.error);
  return end;
}
