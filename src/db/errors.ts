import { z } from 'zod';
import { PatchbayError } from '../kernel/errors.ts';

/** SQLSTATEs that the program reacts to. */
export const SQLSTATE = {
  uniqueViolation: '23505',
  insufficientPrivilege: '42501',
  checkViolation: '23514',
  foreignKeyViolation: '23503',
  numericValueOutOfRange: '22003',
  lockNotAvailable: '55P03',
  serializationFailure: '40001',
  deadlockDetected: '40P01',
  invalidPassword: '28P01',
  invalidAuthorization: '28000',
} as const;

// The shapes in which an error arrives: from pg directly, from the driver adapter, or wrapped by the Prisma client.
const pgError = z.object({ code: z.string() });
const adapterError = z.object({ cause: z.object({ originalCode: z.string().optional(), kind: z.string() }) });
const prismaError = z.object({ code: z.string(), meta: z.object({ driverAdapterError: adapterError }) });

/** Five characters, a digit among them: EPIPE is a socket's code. */
const SQLSTATE_PATTERN = /^(?=.*\d)[0-9A-Z]{5}$/;

/** The SQLSTATE of a database error, whichever layer threw it; null for anything else. */
export function sqlState(thrown: unknown): string | null {
  const viaPrisma = prismaError.safeParse(thrown);
  const viaAdapter = adapterError.safeParse(
    viaPrisma.success ? viaPrisma.data.meta.driverAdapterError : thrown,
  );
  if (viaAdapter.success) return viaAdapter.data.cause.originalCode ?? null;
  const direct = pgError.safeParse(thrown);
  return direct.success && SQLSTATE_PATTERN.test(direct.data.code) && !isPrismaCode(direct.data.code)
    ? direct.data.code
    : null;
}

/** Prisma's own codes (P2002) have the shape of a SQLSTATE of the class P2, which Postgres does not use. */
function isPrismaCode(code: string): boolean {
  return /^P[1-6]0\d\d$/.test(code);
}

const SOCKET_CODES = new Set([
  'ECONNREFUSED',
  'ECONNRESET',
  'EPIPE',
  'ENOTFOUND',
  'EAI_AGAIN',
  'ETIMEDOUT',
  'EHOSTUNREACH',
  'ENETUNREACH',
]);
/** Prisma: cannot reach, timed out, server closed the connection, no connection from the pool in time. */
const PRISMA_CODES = new Set(['P1001', 'P1002', 'P1008', 'P1017', 'P2024']);
const ADAPTER_KINDS = new Set([
  'DatabaseNotReachable',
  'ConnectionClosed',
  'SocketTimeout',
  'TlsConnectionError',
]);
const MESSAGES =
  /timeout exceeded when trying to connect|Connection terminated|Cannot use a pool after calling end|Client has encountered a connection error|Unable to start a transaction in the given time/;

/** Whether the failure is the connection's, not the statement's. */
export function isConnectionFailure(thrown: unknown): boolean {
  const state = sqlState(thrown);
  // Class 08 is connection exceptions, 57P01 to 57P03 a server that stops or starts, 53300 too many connections.
  if (state !== null) return state.startsWith('08') || /^57P0[123]$/.test(state) || state === '53300';
  const viaPrisma = prismaError.safeParse(thrown);
  const viaAdapter = adapterError.safeParse(
    viaPrisma.success ? viaPrisma.data.meta.driverAdapterError : thrown,
  );
  if (viaAdapter.success && ADAPTER_KINDS.has(viaAdapter.data.cause.kind)) return true;
  const direct = pgError.safeParse(thrown);
  if (direct.success && (SOCKET_CODES.has(direct.data.code) || PRISMA_CODES.has(direct.data.code)))
    return true;
  return thrown instanceof Error && MESSAGES.test(thrown.message);
}

/** Maps a connection failure to DATABASE_UNAVAILABLE and leaves everything else as it is. */
export function mapDatabaseError(thrown: unknown): unknown {
  if (thrown instanceof PatchbayError || !isConnectionFailure(thrown)) return thrown;
  return new PatchbayError('DATABASE_UNAVAILABLE', 'The database does not answer.', { cause: thrown });
}
