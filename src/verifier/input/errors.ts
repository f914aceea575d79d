/** Why an input cannot be used at all. */
export type InputCode =
  | 'CHAIN_MISMATCH'
  | 'CHAIN_UNREACHABLE'
  | 'PROOF_EPOCH_MISSING'
  | 'PROOF_FORMAT'
  | 'PROOF_KEYS_MISSING'
  | 'PROOF_UNREADABLE';

/** An input from which nothing can be concluded, not even that something is false. */
export class InputError extends Error {
  readonly code: InputCode;
  readonly fix: string;

  constructor(code: InputCode, message: string, fix: string) {
    super(message);
    this.name = 'InputError';
    this.code = code;
    this.fix = fix;
  }
}
