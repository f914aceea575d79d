import type { Config } from '../config/index.ts';
import { PatchbayError } from '../kernel/errors.ts';
import { readKeyFile } from './key-file.ts';

/** Where a client command connects, and as whom. */
export interface Connection {
  readonly url: string;
  readonly key: string;
}

/** What the command line may say about it. */
interface ConnectionFlags {
  readonly url?: string;
  readonly key?: string;
}

/**
 * Decides on server and key: the command line first, then the environment, then what the server of this data folder
 * left behind, so that the examples which a server prints work as they are.
 */
export async function resolveConnection(config: Config, flags: ConnectionFlags): Promise<Connection> {
  const givenUrl = flags.url ?? config.client.url;
  const givenKey = flags.key ?? config.client.key;
  if (givenUrl !== null && givenKey !== null) return { url: withPath(givenUrl), key: givenKey };
  const stored = await readKeyFile(config.data.dir);
  // The stored key belongs to the server on this machine; a named server elsewhere must never see it.
  const key = givenKey ?? (givenUrl === null || isLocal(givenUrl) ? stored.demo?.key : undefined);
  if (key === undefined) {
    throw new PatchbayError(
      'UNAUTHENTICATED',
      `No API key was given, and ${config.data.dir} holds none for this server.`,
      {
        fix: 'Give --key or set PATCHBAY_KEY, or start a server here first (`npm start`).',
      },
    );
  }
  const { host, port } = config.server;
  const reachable = host === '0.0.0.0' || host === '::' ? '127.0.0.1' : host;
  const fallback = `http://${reachable.includes(':') ? `[${reachable}]` : reachable}:${port}/graphql`;
  return { url: withPath(givenUrl ?? stored.graphqlUrl ?? fallback), key };
}

/** Accepts `http://host:4000` for `http://host:4000/graphql`. */
function withPath(text: string): string {
  if (!URL.canParse(text) || !/^https?:$/.test(new URL(text).protocol)) {
    throw new PatchbayError('BAD_INPUT', `${JSON.stringify(text)} is not an http or https URL.`, {
      fix: 'Give a URL such as http://127.0.0.1:4000/graphql.',
    });
  }
  const url = new URL(text);
  if (url.pathname === '/') url.pathname = '/graphql';
  return url.toString();
}

function isLocal(url: string): boolean {
  return URL.canParse(url) && ['127.0.0.1', 'localhost', '[::1]'].includes(new URL(url).hostname);
}

/** The websocket address of the same endpoint. */
export function socketUrl(url: string): string {
  return url.replace(/^http/, 'ws');
}
