import { type Environment, type LoadedConfig, loadProcessConfig, runsInCi } from '../config/index.ts';
import { PatchbayError, toPatchbayError } from '../kernel/errors.ts';
import { type Progress, plainProgress, silentProgress, terminalProgress } from '../observability/progress.ts';
import { EXIT, exitCodeOf } from './exit-codes.ts';

/** The terminal, the environment and the signals of a command: everything that a test replaces. */
export interface CliIo {
  readonly out: (text: string) => void;
  readonly err: (text: string) => void;
  /** Whether somebody watches stderr, so that live lines make sense. */
  readonly live: boolean;
  readonly columns: number;
  /** All of stdin, or null when it is a terminal, where nothing was piped. */
  readonly readStdin: () => Promise<string | null>;
  readonly loadConfig: (overrides?: Environment) => LoadedConfig;
  /** Calls the handler at Ctrl-C or SIGTERM until the returned function is called. */
  readonly onInterrupt: (handler: () => void) => () => void;
  readonly nowMs: () => number;
}

/** The real terminal of this process. */
export function processIo(): CliIo {
  return {
    out: (text) => process.stdout.write(text),
    err: (text) => process.stderr.write(text),
    live: process.stderr.isTTY === true && !runsInCi(),
    columns: process.stderr.columns ?? 100,
    readStdin: async () => (process.stdin.isTTY === true ? null : readAll(process.stdin)),
    loadConfig: loadProcessConfig,
    onInterrupt: (handler) => {
      process.on('SIGINT', handler);
      process.on('SIGTERM', handler);
      return () => {
        process.off('SIGINT', handler);
        process.off('SIGTERM', handler);
      };
    },
    nowMs: () => performance.now(),
  };
}

async function readAll(stream: NodeJS.ReadStream): Promise<string> {
  stream.setEncoding('utf8');
  let text = '';
  for await (const chunk of stream) text += String(chunk);
  return text;
}

/** Progress that fits the terminal; none with `--json`, where stderr carries errors for programs. */
export function progressFor(io: CliIo, json: boolean): Progress {
  if (json) return silentProgress;
  const output = { write: io.err, columns: io.columns };
  return io.live
    ? terminalProgress(output, io.nowMs)
    : plainProgress(output, { quietMs: 1_000, nowMs: io.nowMs });
}

/** Prints an error as code, message and fix, and returns the exit code that stands for it. */
export function reportError(io: CliIo, thrown: unknown, json: boolean): number {
  const error = toPatchbayError(thrown);
  if (json) {
    io.err(`${JSON.stringify({ error: error.toPublic() })}\n`);
  } else {
    const field = error.field === undefined ? '' : ` (${error.field})`;
    io.err(`${error.code}: ${error.message}${field}\n${error.fix === '' ? '' : `Fix: ${error.fix}\n`}`);
    // On the operator's own terminal nothing is masked: the cause of an unforeseen failure is what they need.
    if (error.code === 'INTERNAL') io.err(`${describeCause(error.cause)}\n`);
  }
  return exitCodeOf(error.code);
}

/** Everything there is to say of a failure, for the operator's own terminal. */
export function describeCause(cause: unknown): string {
  return cause instanceof Error ? (cause.stack ?? cause.message) : String(cause);
}

/** Failures inside an engine that a command runs: their callers only learn that something failed. */
export function reportTo(io: CliIo): (error: unknown) => void {
  return (error) => io.err(`The engine reported a failure: ${describeCause(error)}\n`);
}

/** A wrong command line that the parser itself cannot see. */
export class UsageError extends PatchbayError {
  constructor(message: string, fix: string) {
    super('BAD_INPUT', message, { fix });
  }
}

/** Runs a command's action: whatever it throws becomes a printed error and an exit code. */
export async function runAction(io: CliIo, json: boolean, action: () => Promise<number>): Promise<number> {
  try {
    return await action();
  } catch (error) {
    const code = reportError(io, error, json);
    return error instanceof UsageError ? EXIT.usage : code;
  }
}

/** An abort signal that fires at the first Ctrl-C, for as long as the work runs. */
export async function interruptible<T>(io: CliIo, work: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const controller = new AbortController();
  const release = io.onInterrupt(() => controller.abort());
  try {
    return await work(controller.signal);
  } finally {
    release();
  }
}
