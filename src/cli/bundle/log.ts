import { z } from 'zod';
import type { Connection } from '../connection.ts';
import { remoteError, unreachable } from '../graphql-client.ts';

/** No document of the log has more. */
const MOST_BYTES = 8 * 1024 * 1024;

const wireError = z.looseObject({
  error: z.looseObject({ code: z.string(), message: z.string(), fix: z.string().optional() }),
});

/**
 * Fetches a document of the public log, as it was sent: it is kept as it is, because signatures are over what it says. The key is not
 * sent, as nothing there needs one.
 */
export async function fetchLog(
  connection: Connection,
  path: string,
  query: Readonly<Record<string, string>> = {},
): Promise<string> {
  const url = new URL(`/log/v1/${path}`, connection.url);
  url.search = new URLSearchParams(query).toString();
  let response: Response;
  let text: string;
  try {
    response = await fetch(url, { headers: { accept: 'application/json' } });
    text = await readText(response);
  } catch (cause) {
    throw unreachable(connection.url, cause);
  }
  if (response.ok) return text;
  const known = wireError.safeParse(parsed(text));
  if (known.success) throw remoteError(known.data.error);
  if (response.status === 404) {
    throw remoteError({ code: 'NOT_FOUND', message: `The server has no ${url.pathname}.` });
  }
  throw unreachable(connection.url, new Error(`It answered ${response.status}.`));
}

/** Reads an answer for as long as it may be. */
async function readText(response: Response): Promise<string> {
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of response.body ?? []) {
    bytes += chunk.byteLength;
    if (bytes > MOST_BYTES) throw new Error('The answer is too large.');
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
