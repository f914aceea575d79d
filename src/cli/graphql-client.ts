import { z } from 'zod';
import { isErrorCode } from '../kernel/codes.ts';
import { PatchbayError } from '../kernel/errors.ts';
import type { Connection } from './connection.ts';

const wireError = z.object({
  message: z.string(),
  extensions: z
    .object({ code: z.string().optional(), fix: z.string().optional(), requestId: z.string().optional() })
    .optional(),
});
const wireResponse = z.object({ data: z.unknown().optional(), errors: z.array(wireError).optional() });

/** Sends one operation over HTTP and checks the shape of its answer. */
export async function request<T>(
  connection: Connection,
  query: string,
  variables: Readonly<Record<string, unknown>>,
  shape: z.ZodType<T>,
): Promise<T> {
  let body: unknown;
  try {
    const response = await fetch(connection.url, {
      method: 'POST',
      headers: {
        'content-type': 'application/json',
        accept: 'application/graphql-response+json, application/json',
        authorization: `Bearer ${connection.key}`,
      },
      body: JSON.stringify({ query, variables }),
    });
    body = await response.json();
  } catch (cause) {
    throw unreachable(connection.url, cause);
  }
  return readResult(body, shape);
}

/** Takes the data out of a GraphQL answer, or throws what its errors say. */
export function readResult<T>(body: unknown, shape: z.ZodType<T>): T {
  const parsed = wireResponse.safeParse(body);
  if (!parsed.success) throw notPatchbay(parsed.error);
  const [first] = parsed.data.errors ?? [];
  if (first !== undefined) throw fromWire(first);
  const data = shape.safeParse(parsed.data.data);
  if (!data.success) throw notPatchbay(data.error);
  return data.data;
}

/** GraphQL errors as they come over HTTP or a websocket. */
export function fromWireErrors(errors: unknown): PatchbayError {
  const parsed = z.array(wireError).min(1).safeParse(errors);
  const first = parsed.success ? parsed.data[0] : undefined;
  return first === undefined ? notPatchbay(errors) : fromWire(first);
}

function fromWire(error: z.infer<typeof wireError>): PatchbayError {
  const extensions = error.extensions ?? {};
  return remoteError({
    code: extensions.code ?? 'INTERNAL',
    message: error.message,
    fix: extensions.fix,
    requestId: extensions.requestId,
  });
}

/** An error that the server reported, with its own code where this program knows it. */
export function remoteError(error: {
  readonly code: string;
  readonly message: string;
  readonly fix?: string | null | undefined;
  readonly field?: string | null | undefined;
  readonly requestId?: string | undefined;
}): PatchbayError {
  const known = isErrorCode(error.code);
  return new PatchbayError(
    known ? error.code : 'BAD_INPUT',
    printable(known ? error.message : `${error.code}: ${error.message}`),
    {
      ...(error.fix ? { fix: printable(error.fix) } : {}),
      ...(error.field ? { field: printable(error.field) } : {}),
      ...(error.requestId === undefined ? {} : { meta: { requestId: error.requestId } }),
      cause: new Error('The server reported this; its log has the details.'),
    },
  );
}

/** What a server says, without what commands a terminal or turns a line around. */
function printable(text: string): string {
  return text.replaceAll(
    /[\p{C}\p{Zl}\p{Zp}]/gu,
    (character) => `\\u{${(character.codePointAt(0) ?? 0).toString(16)}}`,
  );
}

/** Nothing answers at the URL. */
export function unreachable(url: string, cause: unknown): PatchbayError {
  return new PatchbayError('SERVER_UNREACHABLE', `No server answers at ${url}.`, { cause });
}

function notPatchbay(cause: unknown): PatchbayError {
  return new PatchbayError('SERVER_UNREACHABLE', 'What answers there does not speak Patchbay’s GraphQL.', {
    fix: 'Check --url: it should end in /graphql and belong to a server of this version.',
    cause,
  });
}
