import type { ErrorCode } from '../kernel/codes.ts';
import { ERROR_CODES } from '../kernel/codes.ts';

/** The exit codes of every command: what a script may rely on. */
export const EXIT = {
  ok: 0,
  failed: 1,
  usage: 2,
  refused: 3,
  unreachable: 4,
  access: 5,
  config: 6,
  busy: 7,
  taken: 8,
  interrupted: 130,
  terminated: 143,
} as const;

/** The table that `--help` prints and the documentation repeats. */
export const EXIT_TABLE: readonly (readonly [number, string])[] = [
  [EXIT.ok, 'It worked.'],
  [EXIT.failed, 'It failed; the message says why.'],
  [EXIT.usage, 'The command line is wrong, or `verify` or `audit` cannot use its files.'],
  [EXIT.refused, 'The input was refused: a checkpoint, an adapter, a request or a line of a batch.'],
  [EXIT.unreachable, 'The server, the database or the chain does not answer.'],
  [EXIT.access, 'The API key is missing, wrong or not allowed to do this.'],
  [EXIT.config, 'The configuration is invalid.'],
  [EXIT.busy, 'The server is full or stopping; try again later.'],
  [EXIT.taken, 'The port or the data folder is in use.'],
  [EXIT.interrupted, 'Interrupted by Ctrl-C.'],
  [EXIT.terminated, 'A server was ended by a second SIGTERM, without draining.'],
];

const SPECIAL: Partial<Record<ErrorCode, number>> = {
  CONFIG_INVALID: EXIT.config,
  PORT_IN_USE: EXIT.taken,
  DATA_FOLDER_LOCKED: EXIT.taken,
  SERVER_UNREACHABLE: EXIT.unreachable,
  DATABASE_UNAVAILABLE: EXIT.unreachable,
  CHAIN_UNREACHABLE: EXIT.unreachable,
  UNAUTHENTICATED: EXIT.access,
  FORBIDDEN: EXIT.access,
  ENGINE_FULL: EXIT.busy,
  UPLOAD_LIMIT: EXIT.busy,
  EXPORT_LIMIT: EXIT.busy,
  EXPORT_UNSETTLED: EXIT.busy,
  SHUTTING_DOWN: EXIT.busy,
  PROOF_EPOCH_MISSING: EXIT.usage,
  PROOF_UNREADABLE: EXIT.usage,
  PROOF_FORMAT: EXIT.usage,
  PROOF_KEYS_MISSING: EXIT.usage,
  REPLAY_NOT_GREEDY: EXIT.usage,
};

/** The exit code that stands for an error code. */
export function exitCodeOf(code: ErrorCode): number {
  const special = SPECIAL[code];
  if (special !== undefined) return special;
  const { status } = ERROR_CODES[code];
  return status >= 400 && status < 500 ? EXIT.refused : EXIT.failed;
}
