import { AdapterStateFeed } from '../adapter/feed.ts';
import type { IncomingFiles } from '../adapter/incoming.ts';
import { parseAdapterRef } from '../adapter/resolve.ts';
import { AdapterService } from '../adapter/service.ts';
import { FsBlobStore } from '../adapter/store/fs.ts';
import { sweepUploads } from '../adapter/upload-sweep.ts';
import { DEFAULT_VALIDATION, ValidationQueue } from '../adapter/validation-queue.ts';
import type { BackboneText } from '../backbone/text/open.ts';
import type { AppDeps } from '../cli/app-port.ts';
import { purgeIdempotencyKeys } from '../db/idempotency.ts';
import { purgeEvents } from '../events/purge.ts';
import type { AdapterResolver, PromptEncoder } from '../inference/ports.ts';
import { newId } from '../kernel/ids.ts';
import { every } from '../metering/periodic.ts';
import { adapterLimits, folders } from './engine.ts';
import type { Lifecycle } from './lifecycle.ts';
import type { ServiceParts } from './services.ts';

/** How often leftovers are removed: files of finished uploads, half-written blobs, old idempotency keys. */
const SWEEP_MS = 60_000;
/** How long a mutation's idempotency key is remembered. */
const KEEP_IDEMPOTENCY_MS = 7 * 24 * 3_600_000;
/** Token ids of the canary prompts where the backbone has no tokenizer; any ids do. */
const CANARY_TOKENS = 12;
const CANARY_TEXTS = ['The quick brown fox jumps over 13 lazy dogs.', '{"a": [1, 2.5], "b": "été"}\n'];

/** Starts what adapters are uploaded, validated and found by; the lifecycle learns how to stop it. */
export async function startAdapters(
  { config, secret, database, systemUrl, engine, backbone, uploadUrl }: ServiceParts,
  text: BackboneText,
  incoming: IncomingFiles,
  { clock, logger }: AppDeps,
  lifecycle: Lifecycle,
): Promise<AdapterService> {
  const limits = adapterLimits(config);
  const { digest, shape } = backbone.manifest;
  const onError = (err: unknown): void => logger.warn({ err }, 'Adapter background work will try again');
  const feed = new AdapterStateFeed({ connectionString: systemUrl }, { onError });
  await feed.start();
  lifecycle.add('adapter feed', () => feed.close());
  const store = new FsBlobStore({ root: folders(config).store });
  const queue = new ValidationQueue(
    { ...DEFAULT_VALIDATION, instanceId: newId(clock) },
    {
      database,
      clock,
      store,
      incoming,
      probe: engine,
      context: { shape, backboneDigest: digest, limits },
      canaries: canaries(text, shape.vocabSize),
      onError,
    },
  );
  const stopWaking = feed.onAny(() => queue.wake());
  queue.start();
  lifecycle.add('adapter validation', () => {
    stopWaking();
    return queue.close();
  });
  const sweep = every(SWEEP_MS, async () => {
    await sweepUploads({ database, clock, incoming }).catch(onError);
    await store.sweep(clock.nowMs()).catch(onError);
    await purgeEvents(database, clock.nowMs() - config.events.keepMs).catch(onError);
    await purgeIdempotencyKeys(database, clock.nowMs() - KEEP_IDEMPOTENCY_MS).catch(onError);
  });
  lifecycle.add('clean-up', () => sweep.stop());
  const uploads = {
    limits,
    quotas: config.quotas,
    ttlMs: config.adapters.uploadTtlMs,
    secret,
    get baseUrl() {
      return uploadUrl();
    },
  };
  return new AdapterService(uploads, { database, clock, feed, onVersionWaiting: () => queue.wake() });
}

function canaries(text: BackboneText, vocabSize: number): readonly (readonly number[])[] {
  if (text.tokenizer !== null) return CANARY_TEXTS.map((sentence) => text.encodePrompt(sentence));
  return [Array.from({ length: CANARY_TOKENS }, (_, i) => (i * 37 + 11) % vocabSize)];
}

/** Turns prompts and chats into tokens. */
export function encoderOf(text: BackboneText): PromptEncoder {
  return {
    ...(text.tokenizer === null ? {} : { tokenCharsMax: longestToken(text.tokenizer) }),
    encode: (prompt) => text.encodePrompt(prompt),
    encodeChat: (messages) => text.encodeChat(messages).ids,
  };
}

/** Length of the longest token as the vocabulary spells it, which no text that it stands for exceeds. */
function longestToken(tokenizer: NonNullable<BackboneText['tokenizer']>): number {
  let longest = Math.max(1, ...tokenizer.specialTexts.map((text) => text.length));
  for (let id = 0; id < tokenizer.vocabSize; id += 1) {
    longest = Math.max(longest, tokenizer.visibleToken(id)?.text.length ?? 0);
  }
  return longest;
}

/** Finds the versions that requests name. */
export function resolverOf(adapters: AdapterService): AdapterResolver {
  return {
    resolveForInference: (tenantId, refs, backboneDigest) =>
      adapters.resolveForInference(
        tenantId,
        refs.map(({ adapter, version, weight }) => ({ ref: parseAdapterRef(adapter, version), weight })),
        backboneDigest,
      ),
  };
}
