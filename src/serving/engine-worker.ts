import { parentPort, workerData } from 'node:worker_threads';
import type { AdapterLimits } from '../adapter/limits.ts';
import { readManifest } from '../backbone/manifest.ts';
import { openText } from '../backbone/text/open.ts';
import type { Config } from '../config/index.ts';
import { createInlineEngine } from '../engine/loop.ts';
import type { EngineOptions } from '../engine/options.ts';
import type { Engine } from '../engine/port.ts';
import type { EventBeatOptions } from '../engine/thread/event-beat.ts';
import { reportStartFailure, serveEngine } from '../engine/thread/serve.ts';
import { systemClock } from '../kernel/clock.ts';
import { invariant } from '../kernel/errors.ts';
import { createLogger } from '../observability/logger.ts';
import { PAGE_RANK } from './layout.ts';
import { createThreadLoader } from './loader-thread.ts';
import { openRunner, type RunnerSettings } from './open-runner.ts';

/** What an engine thread is started with. */
export interface EngineWorkerData {
  /** Folder of the imported backbone. */
  readonly backboneDir: string;
  readonly storeRoot: string;
  readonly limits: AdapterLimits;
  readonly runner: RunnerSettings;
  readonly engine: Partial<EngineOptions>;
  readonly beat: EventBeatOptions;
  readonly log: Config['log'];
}

const data: EngineWorkerData = workerData;
const port = parentPort;
invariant(port !== null, 'the engine runs as a worker thread');

const logger = createLogger(data.log, { name: 'engine' });
const report = (err: unknown): void => logger.error({ err }, 'The engine reported a failure');

try {
  serveEngine(await openEngine(), port, data.beat);
} catch (error) {
  report(error);
  reportStartFailure(port, error);
}

async function openEngine(): Promise<Engine> {
  const manifest = await readManifest(data.backboneDir);
  const text = openText(data.backboneDir, manifest);
  const runner = await openRunner(data.backboneDir, manifest, data.runner, { clock: systemClock });
  const loader = createThreadLoader({
    storeRoot: data.storeRoot,
    shape: manifest.shape,
    backboneDigest: manifest.digest,
    limits: data.limits,
    pageRank: PAGE_RANK,
    log: data.log,
  });
  return createInlineEngine(data.engine, {
    runner,
    loader,
    decoderFactory: text.decoderFactory,
    clock: systemClock,
    backboneDigest: manifest.digest,
    eosTokenIds: manifest.eosTokenIds,
    report,
  });
}
