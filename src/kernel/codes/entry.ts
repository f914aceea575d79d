/** One row of the error registry. */
export interface CodeEntry {
  /** HTTP status for transports that have one. */
  readonly status: number;
  /** What the code means, one sentence; feeds docs/reference/errors.md. */
  readonly meaning: string;
  /** The default fix, one sentence in the imperative. */
  readonly fix: string;
}
