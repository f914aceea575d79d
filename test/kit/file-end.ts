const endings: (() => void | Promise<void>)[] = [];

/**
 * Has something done when the running test file is over, after its own hooks. A module that several files import cannot
 * register an `afterAll` itself: files share their modules, so it would be registered for the first of them alone.
 */
export function atFileEnd(end: () => void | Promise<void>): void {
  endings.push(end);
}

/** Does what was asked for, all of it also when something fails. */
export async function endFile(): Promise<void> {
  const results = await Promise.allSettled(endings.splice(0).map(async (end) => end()));
  const failed = results.flatMap((result) => (result.status === 'rejected' ? [result.reason] : []));
  if (failed.length > 0) throw new AggregateError(failed, 'The test file did not end well.');
}
