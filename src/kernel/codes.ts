import { GENERAL_CODES } from './codes/general.ts';
import { MODELS_CODES } from './codes/models.ts';
import { MONEY_CODES } from './codes/money.ts';
import { PROOFS_CODES } from './codes/proofs.ts';

/**
 * The one registry of error codes: GraphQL, HTTP, the command line and the reference documentation all read it.
 * A code, once released, keeps its meaning.
 */
export const ERROR_CODES = { ...GENERAL_CODES, ...MODELS_CODES, ...MONEY_CODES, ...PROOFS_CODES };

/** A code of the registry. */
export type ErrorCode = keyof typeof ERROR_CODES;

/** Whether something that came from elsewhere is a code of the registry. */
export function isErrorCode(value: unknown): value is ErrorCode {
  return typeof value === 'string' && Object.hasOwn(ERROR_CODES, value);
}
