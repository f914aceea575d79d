import type { CodeEntry } from './entry.ts';

/** What can go wrong everywhere, who may do what, and what the program runs on. */
export const GENERAL_CODES = {
  // General
  INTERNAL: {
    status: 500,
    meaning: 'Something unforeseen failed; the details are in the server log.',
    fix: 'Retry; if it persists, give the request id to the operator.',
  },
  BAD_INPUT: { status: 400, meaning: 'An argument is malformed.', fix: 'Correct the named field.' },
  NOT_FOUND: {
    status: 404,
    meaning: 'No such thing is visible to the caller.',
    fix: 'Check the id; the thing may belong to another tenant or be deleted.',
  },
  CONFIG_INVALID: {
    status: 500,
    meaning: 'The configuration is invalid.',
    fix: 'Correct the variables that are listed.',
  },
  IDEMPOTENCY_CONFLICT: {
    status: 409,
    meaning: 'The idempotency key was used before with other arguments.',
    fix: 'Use a new key for a new operation, or repeat the first arguments.',
  },
  IDEMPOTENCY_IN_PROGRESS: {
    status: 409,
    meaning: 'An operation with this idempotency key is still running.',
    fix: 'Wait for it, then retry with the same key.',
  },
  SHUTTING_DOWN: { status: 503, meaning: 'The server is draining.', fix: 'Retry in a moment.' },
  // Access
  UNAUTHENTICATED: {
    status: 401,
    meaning: 'No valid API key was given.',
    fix: 'Send a valid key as `Authorization: Bearer <key>`.',
  },
  FORBIDDEN: { status: 403, meaning: 'The key may not do this.', fix: 'Use a key with the needed scope.' },
  NAME_TAKEN: {
    status: 409,
    meaning: 'The name or handle is in use.',
    fix: 'Choose another name.',
  },
  KEY_STATE: {
    status: 409,
    meaning: 'The API key is revoked, expired or already rotated.',
    fix: 'Use the key that replaced it, or create a new one.',
  },
  QUOTA_EXCEEDED: {
    status: 429,
    meaning: 'A quota of the tenant is used up; the error says which, its limit and when to retry.',
    fix: 'Retry after `retryAfterMs`, or ask the operator to raise the quota.',
  },
  MEMBER_STATE: {
    status: 409,
    meaning: 'The member was removed, or is the last owner of the tenant.',
    fix: 'Read the members first; make somebody else an owner before the last one goes.',
  },
  TENANT_STATE: {
    status: 409,
    meaning: 'The tenant is closed, which is for good.',
    fix: 'Create another tenant; what the closed one had stays as it was.',
  },
  QUERY_TOO_COMPLEX: {
    status: 400,
    meaning: 'The operation exceeds a depth, alias, token or cost limit.',
    fix: 'Ask for less in one operation.',
  },
  GRAPHQL_SYNTAX: {
    status: 400,
    meaning: 'The GraphQL document cannot be parsed.',
    fix: 'Correct the document at the given location.',
  },
  GRAPHQL_INVALID: {
    status: 400,
    meaning: 'The GraphQL document does not fit the schema, or the named operation is not in it.',
    fix: 'Correct the document; the schema is in the `schema/` folder.',
  },
  REQUEST_TOO_LARGE: {
    status: 413,
    meaning: 'The request body exceeds the size limit.',
    fix: 'Send less in one request; files go to an upload URL.',
  },
  TOO_MANY_OPERATIONS: {
    status: 429,
    meaning: 'The socket already runs as many operations as it may.',
    fix: 'Wait for an operation to end, or open another socket.',
  },
  // Database and processes
  DATABASE_UNAVAILABLE: {
    status: 503,
    meaning: 'The database does not answer.',
    fix: 'Check DATABASE_URL and that Postgres runs.',
  },
  DATABASE_MIGRATION: {
    status: 500,
    meaning: 'The database schema does not match the program.',
    fix: 'Run the version of the program that matches, or restore the migration that is named.',
  },
  DATA_FOLDER_LOCKED: {
    status: 500,
    meaning: 'Another process runs an embedded database on this data folder.',
    fix: 'Stop the other process, choose another PATCHBAY_DATA_DIR, or share one DATABASE_URL.',
  },
  SERVER_UNREACHABLE: {
    status: 503,
    meaning: 'No Patchbay server answers at the URL.',
    fix: 'Start the server (`npm start`), or name another with --url or PATCHBAY_URL.',
  },
  PORT_IN_USE: { status: 500, meaning: 'The port is taken.', fix: 'Set PATCHBAY_PORT to a free port.' },
} as const satisfies Readonly<Record<string, CodeEntry>>;
