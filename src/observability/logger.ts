import { type DestinationStream, type Logger as PinoLogger, pino } from 'pino';
import type { Config } from '../config/index.ts';
import { prettyStream } from './pretty.ts';

/** The program's logger; modules take it as a dependency and never make one. */
export type Logger = PinoLogger;

/** Names of fields whose value is never logged, wherever they appear at the first two levels. */
const SECRET_FIELDS = [
  'key',
  'apiKey',
  'token',
  'secret',
  'password',
  'authorization',
  'databaseUrl',
  'prompt',
];

/**
 * Makes the logger of a process. It writes to stderr, so that the output of commands stays clean, and it writes
 * synchronously, so that the last line before an exit is not lost.
 */
export function createLogger(log: Config['log'], options: LoggerOptions = {}): Logger {
  const terminal = options.terminal ?? process.stderr.isTTY === true;
  const pretty = log.format === 'pretty' || (log.format === 'auto' && terminal);
  const destination = options.destination ?? pino.destination({ dest: 2, sync: true });
  return pino(
    {
      level: log.level,
      base: options.name === undefined ? null : { name: options.name },
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
      serializers: { err: serializeError },
      redact: {
        paths: SECRET_FIELDS.flatMap((field) => [field, `*.${field}`]),
        censor: '[masked]',
      },
    },
    pretty ? prettyStream(destination, terminal) : destination,
  );
}

/** What tests and worker threads set. */
export interface LoggerOptions {
  readonly name?: string;
  readonly destination?: DestinationStream;
  readonly terminal?: boolean;
}

/** An error with its chain of causes: what a public message hides is what a log is for. */
export function serializeError(error: unknown): unknown {
  if (!(error instanceof Error)) return error;
  const code = 'code' in error && typeof error.code === 'string' ? { code: error.code } : {};
  const cause = error.cause === undefined ? {} : { cause: serializeError(error.cause) };
  return { type: error.name, message: error.message, ...code, stack: error.stack, ...cause };
}
