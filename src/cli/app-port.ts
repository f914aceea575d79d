import type { Config } from '../config/index.ts';
import type { Clock } from '../kernel/clock.ts';
import type { MemoryReport } from '../kernel/memory.ts';
import type { Logger } from '../observability/logger.ts';
import type { Progress } from '../observability/progress.ts';

/** The whole server, as the process around it sees it. Made by `createApp` in src/app.ts. */
export interface App {
  /** Resolves when requests are admitted. Rejects when starting failed, after releasing whatever was taken. */
  start(): Promise<StartReport>;
  /**
   * Stops admitting, lets running streams end until `config.server.drainMs`, flushes metering, stops Postgres. May be
   * called once, also while `start` is still running: `start` then rejects or resolves soon, and neither matters.
   */
  drain(reason: DrainReason): Promise<void>;
}

/** Why a server stops. */
export type DrainReason = 'SIGINT' | 'SIGTERM' | 'failure';

/** What the process gives to the server. */
export interface AppDeps {
  readonly logger: Logger;
  readonly progress: Progress;
  readonly clock: Clock;
  /** Reports that something the server cannot live without is gone; the process then drains and exits with 1. */
  readonly onFatal: (error: unknown) => void;
}

/** The composition root's entry. */
export type CreateApp = (config: Config, deps: AppDeps) => App | Promise<App>;

/** `describeMemory` of src/app/memory.ts: what a start would do with the memory. */
export type DescribeMemory = (config: Config) => Promise<MemoryReport>;

/** What there is to say when the server is ready. */
export interface StartReport {
  /** Such as `http://127.0.0.1:4000/graphql`, with the port that was really taken. */
  readonly graphqlUrl: string;
  readonly backbone: { readonly name: string; readonly digest: string; readonly parameters: number };
  readonly memory: MemoryReport;
  readonly database: { readonly kind: 'embedded' | 'external'; readonly location: string };
  readonly operatorKey: KeyReport;
  readonly demoKey: KeyReport;
  /** What the printed examples use; null when no starter adapter is registered. */
  readonly example: ExampleReport | null;
}

/** A key just made, which is shown once, or one that was made earlier. */
export type KeyReport =
  | { readonly kind: 'new'; readonly key: string }
  | { readonly kind: 'stored'; readonly prefix: string };

/** Something that is certain to work on this server. */
export interface ExampleReport {
  /** Name of an adapter of the demo tenant that is READY. */
  readonly adapter: string;
  /** A prompt in the form that it was trained on. */
  readonly prompt: string;
  /** Folder of its files, as one would type it from the current folder. */
  readonly folder: string;
}
