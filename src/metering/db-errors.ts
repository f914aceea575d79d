import { isConnectionFailure, sqlState } from '../db/errors.ts';
import { PatchbayError } from '../kernel/errors.ts';

const QUERY_CANCELED = '57014';

/** SQLSTATEs of a statement that may succeed when the same transaction is run again. */
const TRANSIENT_STATES = new Set([
  '40001', // serialization_failure
  '40P01', // deadlock_detected
  '55P03', // lock_not_available
  QUERY_CANCELED, // here by a statement timeout
  '57P05', // idle_session_timeout
  '25P03', // idle_in_transaction_session_timeout
  '25006', // read_only_sql_transaction, as a standby answers during a failover
]);

/** Whether a failure of the database or the way to it may be over when the same transaction is tried again. */
export function isTransientDatabaseError(error: unknown): boolean {
  if (error instanceof PatchbayError) return error.code === 'DATABASE_UNAVAILABLE';
  if (isConnectionFailure(error)) return true;
  const state = sqlState(error);
  // Class 53 is insufficient resources: memory, disk, connections.
  return state !== null && (TRANSIENT_STATES.has(state) || state.startsWith('53'));
}

/** Whether a statement took too long: less of it may be done in time. */
export function isStatementTimeout(error: unknown): boolean {
  return sqlState(error) === QUERY_CANCELED;
}
