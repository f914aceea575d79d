/** What the demonstration showed. */
export interface Proven {
  /** Requests that were served. */
  readonly answers: number;
  /** Epochs that were closed and anchored. */
  readonly epochs: number;
  /** What each owner claimed, in the token's smallest unit. */
  readonly paid: readonly { readonly slug: string; readonly units: string }[];
  /** Receipts that the independent tool found to hold, in the bundles of all parties. */
  readonly verified: number;
  /** Frauds that were planted, and what the independent tool said. */
  readonly frauds: readonly { readonly fraud: string; readonly found: string }[];
}

/** Runs the demonstration in an empty folder. */
export function prove(options: {
  readonly folder: string;
  readonly say: (line: string) => void;
}): Promise<Proven>;
