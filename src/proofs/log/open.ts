import type { Database } from '../../db/client.ts';
import type { Clock } from '../../kernel/clock.ts';
import { invariant } from '../../kernel/errors.ts';
import { HASH_BYTES } from '../merkle/hash.ts';
import { APPENDER_DEFAULTS, type AppenderOptions, LogAppender } from './appender.ts';
import { LogService } from './service.ts';
import type { DigestSigner } from './types.ts';

/** Which log it is, and how it grows. */
export interface LogOptions extends Partial<AppenderOptions> {
  /** The log's id, 32 bytes: `logIdOf` makes it. */
  readonly logId: Uint8Array;
}

/** What the log works with. */
export interface LogDeps {
  readonly database: Pick<Database, 'withSystemPg' | 'querySystem'>;
  readonly clock: Clock;
  readonly signer: DigestSigner;
}

/** The deployment's log: what it is asked, and what lets it grow. */
export interface Log {
  readonly service: LogService;
  readonly appender: LogAppender;
}

/** Puts the log together. */
export function openLog(options: LogOptions, deps: LogDeps): Log {
  invariant(options.logId.length === HASH_BYTES, 'the id of a log has 32 bytes');
  return {
    service: new LogService(options, deps),
    appender: new LogAppender({ ...APPENDER_DEFAULTS, ...options }, deps),
  };
}
