/** Time as a port, so that tests decide what time it is. */
export interface Clock {
  /** Wall-clock time as milliseconds since the Unix epoch (UTC). */
  nowMs(): number;
  /** Monotonic time in milliseconds, for durations; its zero is arbitrary. */
  monotonicMs(): number;
}

/** The machine's clock. */
export const systemClock: Clock = {
  nowMs: () => Date.now(),
  monotonicMs: () => performance.now(),
};
