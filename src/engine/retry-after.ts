/** Bounds of the advice to retry, in milliseconds. */
const LEAST_MS = 50;
const MOST_MS = 30_000;

/** The advice to retry after so many milliseconds, as it is given to callers. */
export function retryAfter(ms: number): number {
  return Math.min(MOST_MS, Math.max(LEAST_MS, Math.ceil(ms)));
}
