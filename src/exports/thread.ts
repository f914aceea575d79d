import { Worker } from 'node:worker_threads';
import type { RoleUrls } from '../db/roles.ts';
import { fromPublic, type PublicError } from '../kernel/errors.ts';
import type { Checkpoint, Resume } from './checkpoint.ts';
import type { RunExport } from './queue.ts';
import type { ExportSpec } from './rows.ts';
import type { ExportProgress, WrittenExport } from './write.ts';

/** What the thread of an export is started with. */
export interface ExportWorkerData {
  /** Secret. */
  readonly urls: RoleUrls;
  readonly spec: ExportSpec;
  readonly path: string;
  readonly resume: Resume | null;
}

/** What it says. */
export type ExportWorkerMessage =
  | { readonly kind: 'progress'; readonly progress: ExportProgress }
  | { readonly kind: 'checkpoint'; readonly checkpoint: Checkpoint }
  | { readonly kind: 'written'; readonly written: WrittenExport }
  | { readonly kind: 'failed'; readonly error: PublicError; readonly detail: string };

/** Said to it when it is to stop. */
export const STOP = 'stop';

/** Most that a thread may hold: several times what it needs, and far from what ten million rows would take. */
const HEAP_MB = 256;

/** Writes each export in a thread of its own, with connections of its own, so that nothing of the API waits for it. */
export function threadRunner(urls: RoleUrls): RunExport {
  return (spec, path, { signal, onProgress, onCheckpoint, resume }) =>
    new Promise<WrittenExport>((resolve, reject) => {
      signal.throwIfAborted();
      const worker = new Worker(new URL('./worker.js', import.meta.url), {
        workerData: { urls, spec, path, resume } satisfies ExportWorkerData,
        resourceLimits: { maxOldGenerationSizeMb: HEAP_MB },
      });
      const stop = (): void => worker.postMessage(STOP);
      signal.addEventListener('abort', stop, { once: true });
      worker.on('message', (message: ExportWorkerMessage) => {
        if (message.kind === 'progress') onProgress(message.progress);
        else if (message.kind === 'checkpoint') onCheckpoint(message.checkpoint);
        else if (message.kind === 'written') resolve(message.written);
        else reject(signal.aborted ? signal.reason : thrown(message));
      });
      worker.on('error', reject);
      worker.on('exit', (code) => {
        signal.removeEventListener('abort', stop);
        reject(new Error(`the thread of an export ended with ${code}`));
      });
    });
}

function thrown({ error, detail }: Extract<ExportWorkerMessage, { readonly kind: 'failed' }>): Error {
  return error.code === 'INTERNAL' ? new Error(detail) : fromPublic(error);
}
