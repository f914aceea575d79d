// A process that writes exports as a server does, but slowly. It says how many rows it has written, until it is killed.
import { Database } from '../../../src/db/client.ts';
import { ExportQueue, type RunExport } from '../../../src/exports/queue.ts';
import { SOURCES } from '../../../src/exports/sources.ts';
import { writeExport } from '../../../src/exports/write.ts';
import { systemClock } from '../../../src/kernel/clock.ts';
import { newId } from '../../../src/kernel/ids.ts';
import { SMALL } from './kit.ts';

const [, , appUrl = '', systemUrl = '', folder = ''] = process.argv;
const database = new Database({ appUrl, systemUrl, applicationName: 'export-writer' });
const slowly: RunExport = async ({ source, format, reach, from, until }, path, how) =>
  writeExport(
    {
      async withTenantPg(tenantId, work) {
        await new Promise((resolve) => setTimeout(resolve, 50));
        return database.withTenantPg(tenantId, work);
      },
      withSystemPg: (work) => database.withSystemPg(work),
    },
    { source: SOURCES[source], reach, from, until },
    {
      path,
      format,
      ...how,
      ...SMALL,
      onProgress: (progress) => {
        how.onProgress(progress);
        process.stdout.write(`rows ${progress.rows}\n`);
      },
    },
  );
const queue = new ExportQueue(
  {
    instanceId: newId(systemClock),
    folder,
    concurrency: 1,
    leaseMs: 600,
    maxAttempts: 5,
    pollMs: 100,
    keepMs: 60_000,
  },
  { database, clock: systemClock, run: slowly },
);
queue.start();
