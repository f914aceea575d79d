/** What an audit can find. docs/concepts/auditing.md says what each means. */
export type FindingCode =
  | 'ACCOUNT_DIFFERS'
  | 'ACCOUNT_UNEXPECTED'
  | 'ACCOUNTS_CONTRADICT'
  | 'ANCHOR_DIFFERS'
  | 'ANCHOR_MISSING'
  | 'CLAIM_FALSE'
  | 'CLAIM_FELL'
  | 'CLAIM_NOT_PUBLISHED'
  | 'CLAIM_UNDERPAID'
  | 'CLAIMS_CONTRADICT'
  | 'COUNTS_DIFFER'
  | 'DOCUMENT_FALSE'
  | 'EPOCH_FALSE'
  | 'EPOCHS_CONTRADICT'
  | 'HEAD_UNCONNECTED'
  | 'HEADS_CONTRADICT'
  | 'KEY_NOT_VALID'
  | 'LAST_FALSE'
  | 'LEAF_TWICE'
  | 'LOG_REWRITTEN'
  | 'NOT_SIGNED'
  | 'NUMBER_COUNTED_TWICE'
  | 'NUMBER_MISPLACED'
  | 'NUMBER_TWICE'
  | 'OVERCHARGED'
  | 'QUARANTINED'
  | 'RECEIPT_FALSE'
  | 'RECEIPT_MISSING'
  | 'RECEIPT_NOT_COUNTED'
  | 'RECEIPTS_CONTRADICT'
  | 'RELEASE_FALSE'
  | 'STATEMENT_FALSE'
  | 'UNDERPAID'
  | 'USAGE_UNACCOUNTED';

/** Something that is not as it should be, and what shows it. */
export interface Finding {
  readonly code: FindingCode;
  readonly message: string;
  /** Names of the documents that show it. */
  readonly evidence: readonly string[];
  /**
   * `anyone`: signatures of the platform contradict each other, or what one of them covers contradicts itself.
   * `holder`: it rests on what the holder says too, such as that they were given no other receipt.
   */
  readonly convinces: 'anyone' | 'holder';
}

/** What was found, and what could not be looked at. */
export interface Audit {
  readonly findings: readonly Finding[];
  readonly notes: readonly string[];
}

/** A finding that documents show to everybody. */
export function shownBy(
  evidence: readonly (string | readonly string[])[],
  code: FindingCode,
  message: string,
): Finding {
  return { code, message, evidence: [...new Set(evidence.flat())], convinces: 'anyone' };
}

/** A finding of which the holder alone can be sure. */
export function knownBy(
  evidence: readonly (string | readonly string[])[],
  code: FindingCode,
  message: string,
): Finding {
  return { code, message, evidence: [...new Set(evidence.flat())], convinces: 'holder' };
}
