/**
 * Why the server closes a websocket. Codes up to 4429 and 4500 are those of the graphql-transport-ws protocol;
 * 4450 and up are Patchbay's own. All are listed in src/http/README.md.
 */
export const CLOSE_CODES = {
  /** 1001: the server is stopping. Reconnect, elsewhere if possible. */
  GOING_AWAY: { code: 1001, reason: 'Going away' },
  /** 4401: no valid API key came with the connection, or an operation came before it was acknowledged. */
  UNAUTHORIZED: { code: 4401, reason: 'Unauthorized' },
  /** 4450: the client read too slowly and its buffer did not drain in time; its streams were cancelled. */
  SLOW_CONSUMER: { code: 4450, reason: 'SLOW_CONSUMER: the client read too slowly' },
  /** 4451: the API key was revoked or expired; its streams were cancelled. */
  KEY_REVOKED: { code: 4451, reason: 'KEY_REVOKED: the API key is no longer valid' },
  /** 4452: no operation ran for a long time. Reconnect when there is something to do. */
  IDLE: { code: 4452, reason: 'IDLE: no operation ran for a long time' },
  /** 4500: a failure of the server, logged. */
  INTERNAL: { code: 4500, reason: 'Internal server error' },
} as const;

/** A code and its reason. */
export type CloseCode = (typeof CLOSE_CODES)[keyof typeof CLOSE_CODES];
