import type { LoadedConfig } from '../config/index.ts';
import type { Clock } from '../kernel/clock.ts';
import { toPatchbayError } from '../kernel/errors.ts';
import type { Logger } from '../observability/logger.ts';
import type { Progress } from '../observability/progress.ts';
import type { CreateApp, DrainReason, StartReport } from './app-port.ts';
import { EXIT, exitCodeOf } from './exit-codes.ts';

/** The part of `process` that a server needs; a test gives an `EventEmitter`. */
interface ProcessEvents {
  on(event: string, listener: (...args: unknown[]) => void): unknown;
  off(event: string, listener: (...args: unknown[]) => void): unknown;
}

/** What {@link runServer} needs. */
interface ServerProcess {
  readonly loaded: LoadedConfig;
  readonly createApp: CreateApp;
  readonly events: ProcessEvents;
  readonly logger: Logger;
  readonly progress: Progress;
  readonly clock: Clock;
  /** Prints what there is to say when the server is ready. */
  readonly onReady: (report: StartReport, readyMs: number) => void;
  /** Prints an error that kept the server from starting. */
  readonly onStartError: (error: unknown) => void;
  /** Ends the process at once: a second signal asked for it. */
  readonly exitNow: (code: number) => void;
}

/**
 * npm passes a terminal's Ctrl-C on to the program that also got it from the terminal; what comes this soon after
 * the first signal is the same key press, not a second one.
 */
const SAME_SIGNAL_MS = 750;

/** Runs a server from start to drain, and says with which code the process should end. */
export async function runServer(env: ServerProcess): Promise<number> {
  const { logger, clock } = env;
  const started = clock.monotonicMs();
  const stop = stopRequest(env);
  for (const warning of env.loaded.warnings) logger.warn(warning);
  try {
    const app = await env.createApp(env.loaded.config, {
      logger,
      progress: env.progress,
      clock,
      onFatal: (error) => stop.request('failure', error),
    });
    const startup = app.start();
    const first = await Promise.race([
      startup.then((report) => ({ report })),
      stop.requested.then(() => ({ report: null })),
    ]);
    // Once a stop is asked for, how the start ends no longer matters; drain waits for what it needs.
    startup.catch(() => {});
    if (first.report !== null) env.onReady(first.report, clock.monotonicMs() - started);
    const reason = await stop.requested;
    logger.info({ reason }, 'Draining');
    const drainStarted = clock.monotonicMs();
    await app.drain(reason);
    logger.info({ ms: Math.round(clock.monotonicMs() - drainStarted) }, 'Stopped');
    return reason === 'failure' ? EXIT.failed : EXIT.ok;
  } catch (error) {
    env.onStartError(error);
    return exitCodeOf(toPatchbayError(error).code);
  } finally {
    stop.release();
  }
}

interface StopRequest {
  /** Resolves at the first reason to stop. */
  readonly requested: Promise<DrainReason>;
  request(reason: DrainReason, error?: unknown): void;
  release(): void;
}

function stopRequest(env: ServerProcess): StopRequest {
  let resolve: (reason: DrainReason) => void = () => {};
  const requested = new Promise<DrainReason>((settle) => {
    resolve = settle;
  });
  let signalledAtMs: number | null = null;
  const request = (reason: DrainReason, error?: unknown): void => {
    if (reason === 'failure')
      env.logger.fatal({ err: error }, 'Stopping after a failure that cannot be mended');
    resolve(reason);
  };
  const onSignal = (signal: 'SIGINT' | 'SIGTERM'): void => {
    const nowMs = env.clock.monotonicMs();
    if (signalledAtMs === null) {
      signalledAtMs = nowMs;
      request(signal);
    } else if (nowMs - signalledAtMs >= SAME_SIGNAL_MS) {
      env.logger.warn({ signal }, 'Second signal: ending at once, without draining');
      env.exitNow(signal === 'SIGINT' ? EXIT.interrupted : EXIT.terminated);
    }
  };
  const listeners = new Map<string, (...args: unknown[]) => void>([
    ['SIGINT', () => onSignal('SIGINT')],
    ['SIGTERM', () => onSignal('SIGTERM')],
    ['unhandledRejection', (error) => request('failure', error)],
    ['uncaughtException', (error) => request('failure', error)],
  ]);
  for (const [event, listener] of listeners) env.events.on(event, listener);
  return {
    requested,
    request,
    release: () => {
      for (const [event, listener] of listeners) env.events.off(event, listener);
    },
  };
}
