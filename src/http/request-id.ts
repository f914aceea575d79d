import type { IncomingMessage } from 'node:http';
import type { Clock } from '../kernel/clock.ts';
import { newId } from '../kernel/ids.ts';

/** Header in which a request id comes and goes. */
export const REQUEST_ID_HEADER = 'x-request-id';

/** What a caller's request id may look like: nothing that could break a log line or a header. */
const ACCEPTED = /^[A-Za-z0-9][A-Za-z0-9_.-]{7,63}$/;

/** The caller's request id when it is well-formed, otherwise a new uuidv7. */
export function requestIdOf(request: IncomingMessage, clock: Clock): string {
  const given = request.headers[REQUEST_ID_HEADER];
  return typeof given === 'string' && ACCEPTED.test(given) ? given : newId(clock);
}
