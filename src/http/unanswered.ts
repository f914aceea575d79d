import type { ServerResponse } from 'node:http';

/** A signal that fires when a response closes before all of it was written: nobody waits for the answer any more. */
export function closedUnanswered(response: ServerResponse): AbortSignal {
  const closed = new AbortController();
  response.once('close', () => {
    if (!response.writableEnded) closed.abort();
  });
  return closed.signal;
}
