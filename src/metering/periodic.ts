/** A task that runs again and again until it is stopped; see {@link every}. */
export interface Periodic {
  /** Stops it and waits for a run that is under way. */
  stop(): Promise<void>;
}

/**
 * Runs a task at an interval, never twice at once: the pause starts when a run has ended. The timer does not keep the
 * process alive.
 */
export function every(ms: number, task: () => Promise<void>): Periodic {
  let stopped = false;
  let running: Promise<void> = Promise.resolve();
  let timer = setTimeout(run, ms).unref();

  function run(): void {
    running = task().finally(() => {
      if (!stopped) timer = setTimeout(run, ms).unref();
    });
  }

  return {
    stop: async () => {
      stopped = true;
      clearTimeout(timer);
      await running;
    },
  };
}

/** Resolves after the time, or at once when the signal fires. */
export function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) {
      resolve();
      return;
    }
    const done = (): void => {
      clearTimeout(timer);
      signal.removeEventListener('abort', done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    signal.addEventListener('abort', done);
  });
}
