/** What one pass over a row of logits tells. */
export interface LogitStats {
  /** Index of the largest logit; the lowest wins ties. */
  readonly best: number;
  /** The largest logit. */
  readonly max: number;
  /** Natural logarithm of the sum of the exponentials relative to the largest: see {@link logprob}. */
  readonly logSum: number;
}

/**
 * Summarises raw logits in float64 with the maximum subtracted, so that neither overflow nor cancellation costs
 * digits. Returns null when any logit is NaN or infinite: such a row means that the model failed.
 */
export function logitStats(logits: Float32Array): LogitStats | null {
  let best = 0;
  let max = logits[0] ?? Number.NaN;
  // x - x is 0 for every finite x and NaN otherwise, and NaN survives the sum: a test without a branch.
  let check = 0;
  for (let i = 0; i < logits.length; i++) {
    const x = logits[i] ?? 0;
    check += x - x;
    if (x > max) {
      max = x;
      best = i;
    }
  }
  if (check !== 0 || logits.length === 0) return null;
  let sum = 0;
  for (let i = 0; i < logits.length; i++) sum += Math.exp((logits[i] ?? 0) - max);
  return { best, max, logSum: Math.log(sum) };
}

/** Log-probability of a token with this logit. Subtracts the maximum first, so that large logits lose no digits. */
export function logprob(logit: number, { max, logSum }: LogitStats): number {
  return logit - max - logSum;
}
