import type { AppDeps } from '../cli/app-port.ts';
import type { Config } from '../config/index.ts';
import type { Database } from '../db/client.ts';
import type { RoleUrls } from '../db/roles.ts';
import { DEFAULT_EXPORT_QUEUE, ExportQueue } from '../exports/queue.ts';
import { ExportService } from '../exports/service.ts';
import { sweepExports } from '../exports/sweep.ts';
import { threadRunner } from '../exports/thread.ts';
import { newId } from '../kernel/ids.ts';
import { every } from '../metering/periodic.ts';
import { folders } from './engine.ts';
import type { Lifecycle } from './lifecycle.ts';

const SWEEP_MS = 60_000;

/** What exports are made of. */
interface ExportParts {
  readonly config: Config;
  readonly secret: string;
  readonly database: Database;
  readonly roleUrls: RoleUrls;
  /** Base of the addresses of files; known once the server listens. */
  readonly exportUrl: () => string;
}

/** Starts the writing and the sweeping of exports; the lifecycle learns how to stop them. */
export function startExports(parts: ExportParts, deps: AppDeps, lifecycle: Lifecycle): ExportService {
  const { config, secret, database, roleUrls, exportUrl } = parts;
  const { clock, logger } = deps;
  const folder = folders(config).exports;
  const { keepMs, ...bounds } = config.exports;
  const queue = new ExportQueue(
    { ...DEFAULT_EXPORT_QUEUE, instanceId: newId(clock), folder, keepMs },
    {
      database,
      clock,
      run: threadRunner(roleUrls),
      onError: (err, exportId) => logger.warn({ err, exportId }, 'The writing of exports will try again'),
    },
  );
  queue.start();
  lifecycle.add('exports', () => queue.close());
  const sweep = every(SWEEP_MS, async () => {
    await sweepExports({ database, clock, folder }).catch((err: unknown) =>
      logger.warn({ err }, 'The sweeping of exports will try again'),
    );
  });
  lifecycle.add('clean-up of exports', () => sweep.stop());
  return new ExportService(
    { ...bounds, secret, baseUrl: exportUrl },
    { database, clock, onCreated: () => queue.wake() },
  );
}
