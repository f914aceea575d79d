import { parentPort, workerData } from 'node:worker_threads';
import { Database } from '../db/client.ts';
import { invariant, toPatchbayError } from '../kernel/errors.ts';
import { SOURCES } from './sources.ts';
import { type ExportWorkerData, type ExportWorkerMessage, STOP } from './thread.ts';
import { writeExport } from './write.ts';

/** Writes one export and ends. */
const { urls, spec, path, resume }: ExportWorkerData = workerData;
const port = parentPort;
invariant(port !== null, 'an export is written in a worker thread');
const stopping = new AbortController();
port.on('message', (message: unknown) => {
  if (message === STOP) stopping.abort();
});
const tell = (message: ExportWorkerMessage): void => port.postMessage(message);
const database = new Database({ ...urls, applicationName: 'patchbay-export' });
try {
  const { source, format, reach, from, until } = spec;
  const written = await writeExport(
    database,
    { source: SOURCES[source], reach, from, until },
    {
      path,
      format,
      signal: stopping.signal,
      resume,
      onProgress: (progress) => tell({ kind: 'progress', progress }),
      onCheckpoint: (checkpoint) => tell({ kind: 'checkpoint', checkpoint }),
    },
  );
  tell({ kind: 'written', written });
} catch (error) {
  const detail = error instanceof Error ? (error.stack ?? error.message) : String(error);
  tell({ kind: 'failed', error: toPatchbayError(error).toPublic(), detail });
} finally {
  await database.close();
  port.close();
}
