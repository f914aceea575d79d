import { ERROR_CODES, type ErrorCode } from './codes.ts';

/** Options of a {@link PatchbayError}. */
export interface PatchbayErrorOptions {
  /** What the reader can do about it; defaults to the registry's fix for the code. */
  readonly fix?: string;
  /** Dotted path of the offending input field, when one field is to blame. */
  readonly field?: string;
  /** Typed facts for programs: limits, measured values, names. Must be safe to show to the caller. */
  readonly meta?: Readonly<Record<string, string | number | boolean | null>>;
  /** Internal cause: logged, never shown to a caller. */
  readonly cause?: unknown;
}

/**
 * The one error class of the domain: a stable code from the registry, a public message that says what
 * happened, a fix that says what to do, and an internal cause that is only ever logged.
 */
export class PatchbayError extends Error {
  readonly code: ErrorCode;
  readonly fix: string;
  readonly field: string | undefined;
  readonly meta: Readonly<Record<string, string | number | boolean | null>>;

  constructor(code: ErrorCode, message: string, options: PatchbayErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = 'PatchbayError';
    this.code = code;
    this.fix = options.fix ?? ERROR_CODES[code].fix;
    this.field = options.field;
    this.meta = options.meta ?? {};
  }

  /** HTTP status that a transport answers with for this code. */
  get status(): number {
    return ERROR_CODES[this.code].status;
  }

  /** The public, serialisable part: what a tenant, a log line or a CLI may print. */
  toPublic(): PublicError {
    return {
      code: this.code,
      message: this.message,
      fix: this.fix,
      ...(this.field === undefined ? {} : { field: this.field }),
      ...(Object.keys(this.meta).length === 0 ? {} : { meta: this.meta }),
    };
  }
}

/** What leaves the process of an error. It survives a structured clone, so it also crosses threads. */
export interface PublicError {
  readonly code: ErrorCode;
  readonly message: string;
  readonly fix: string;
  readonly field?: string;
  readonly meta?: Readonly<Record<string, string | number | boolean | null>>;
}

/** Rebuilds an error that crossed a thread or process boundary as {@link PublicError}. */
export function fromPublic(error: PublicError): PatchbayError {
  return new PatchbayError(error.code, error.message, {
    fix: error.fix,
    ...(error.field === undefined ? {} : { field: error.field }),
    ...(error.meta === undefined ? {} : { meta: error.meta }),
  });
}

/**
 * Turns anything thrown into a public error: a {@link PatchbayError} as it is, anything else masked as
 * `INTERNAL`, because an unknown failure's text may carry another tenant's data.
 */
export function toPatchbayError(thrown: unknown): PatchbayError {
  if (thrown instanceof PatchbayError) return thrown;
  return new PatchbayError('INTERNAL', 'An unexpected error happened.', { cause: thrown });
}

/** Throws when an invariant that the program itself must keep is broken. */
export function invariant(condition: unknown, message: string): asserts condition {
  if (!condition) throw new Error(`Invariant broken: ${message}`);
}
