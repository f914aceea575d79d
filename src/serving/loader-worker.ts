import { parentPort, workerData } from 'node:worker_threads';
import { loadLoraWeights } from '../adapter/loader.ts';
import { FsBlobStore } from '../adapter/store/fs.ts';
import { packAdapter } from '../engine/runner/pack.ts';
import { systemClock } from '../kernel/clock.ts';
import { invariant, toPatchbayError } from '../kernel/errors.ts';
import { createLogger } from '../observability/logger.ts';
import type { LoaderWorkerData, LoadReply, LoadRequest } from './loader-protocol.ts';

/** Reads, verifies and packs adapters, so that neither steps nor the API wait for any of it. */
const data: LoaderWorkerData = workerData;
const port = parentPort;
invariant(port !== null, 'the loader runs as a worker thread');
const logger = createLogger(data.log, { name: 'loader' });
const store = new FsBlobStore({ root: data.storeRoot });
const context = { shape: data.shape, backboneDigest: data.backboneDigest, limits: data.limits };

port.on('message', async ({ id, digest }: LoadRequest) => {
  try {
    const startedMs = systemClock.monotonicMs();
    const weights = await loadLoraWeights(store, digest, context);
    const packed = packAdapter(weights, data.shape, data.pageRank);
    const adapter = { ...packed, loadMs: systemClock.monotonicMs() - startedMs };
    // Pages move to the engine's thread; nothing is copied.
    const buffers = adapter.pages.flatMap(({ buffer }) => (buffer instanceof ArrayBuffer ? [buffer] : []));
    port.postMessage({ id, adapter } satisfies LoadReply, buffers);
  } catch (error) {
    logger.error({ err: error, digest }, 'An adapter could not be loaded');
    port.postMessage({ id, error: toPatchbayError(error).toPublic() } satisfies LoadReply);
  }
});
