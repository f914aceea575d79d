import { Worker } from 'node:worker_threads';
import type { AdapterLoader, PackedAdapter } from '../engine/runner.ts';
import { fromPublic, PatchbayError } from '../kernel/errors.ts';
import type { LoaderWorkerData, LoadReply, LoadRequest } from './loader-protocol.ts';

interface Pending {
  readonly digest: string;
  readonly resolve: (adapter: PackedAdapter) => void;
  readonly reject: (error: PatchbayError) => void;
}

/** An {@link AdapterLoader} that works in a thread of its own. A thread that dies fails its loads and is replaced. */
export function createThreadLoader(data: LoaderWorkerData): AdapterLoader {
  const pending = new Map<number, Pending>();
  let nextId = 1;
  let closed = false;
  let worker: Worker | null = null;

  const failAll = (ended: Worker, cause: unknown): void => {
    // A thread that fails reports it twice, as an error and as its exit; by then another may have taken its place.
    if (worker !== ended) return;
    worker = null;
    for (const { digest, reject } of pending.values()) reject(failed(digest, cause));
    pending.clear();
  };
  const settle = (reply: LoadReply): void => {
    const load = pending.get(reply.id);
    pending.delete(reply.id);
    if ('adapter' in reply) load?.resolve(reply.adapter);
    else load?.reject(fromPublic(reply.error));
  };
  const spawn = (): Worker => {
    const started = new Worker(new URL('./loader-worker.js', import.meta.url), { workerData: data });
    started.on('message', settle);
    started.on('error', (cause) => failAll(started, cause));
    started.on('exit', () => failAll(started, new Error('the loader thread ended')));
    return started;
  };

  return {
    load(digest) {
      if (closed) return Promise.reject(failed(digest, new Error('the loader is closed')));
      worker ??= spawn();
      const id = nextId++;
      const result = new Promise<PackedAdapter>((resolve, reject) =>
        pending.set(id, { digest, resolve, reject }),
      );
      worker.postMessage({ id, digest } satisfies LoadRequest);
      return result;
    },
    async close() {
      closed = true;
      await worker?.terminate();
    },
  };
}

function failed(digest: string, cause: unknown): PatchbayError {
  const message = `The adapter version ${digest} could not be loaded.`;
  return new PatchbayError('ADAPTER_LOAD_FAILED', message, { meta: { digest }, cause });
}
