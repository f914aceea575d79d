import { setTimeout as delay } from 'node:timers/promises';
import pg from 'pg';

/** What to listen to. */
export interface ListenOptions {
  /** Any role's URL: notifications are not subject to row-level security, so their payloads hold ids alone. */
  readonly url: string;
  readonly channels: readonly string[];
  readonly reconnectMs?: number;
}

/** What happens on notifications. */
export interface ListenHandlers {
  notified(channel: string, payload: string): void;
  /** Connected again after a loss: notifications in between are gone, so read the state afresh. */
  reconnected?(): void;
  failed?(error: unknown): void;
}

/** A running listener. */
export interface Listener {
  close(): Promise<void>;
}

/**
 * Listens on a connection of its own until closed, and reconnects when it breaks. Returns once the channels are
 * subscribed. A pooler in transaction mode cannot carry LISTEN: the URL must reach the server itself.
 */
export async function listen(options: ListenOptions, handlers: ListenHandlers): Promise<Listener> {
  const closing = new AbortController();
  let client = await subscribe(options, handlers);
  const keep = async () => {
    while (!closing.signal.aborted) {
      await client.ended;
      if (closing.signal.aborted) return;
      try {
        await delay(options.reconnectMs ?? 250, undefined, { signal: closing.signal, ref: false });
        client = await subscribe(options, handlers);
        handlers.reconnected?.();
      } catch (error) {
        if (!closing.signal.aborted) handlers.failed?.(error);
      }
    }
  };
  const kept = keep();
  return {
    async close() {
      closing.abort();
      await client.end();
      await kept;
      // A reconnection may have completed while we closed.
      await client.end();
    },
  };
}

interface Subscription {
  readonly ended: Promise<void>;
  end(): Promise<void>;
}

async function subscribe(options: ListenOptions, handlers: ListenHandlers): Promise<Subscription> {
  const client = new pg.Client({
    connectionString: options.url,
    application_name: 'patchbay-listen',
    connectionTimeoutMillis: 5_000,
    keepAlive: true,
  });
  const ended = new Promise<void>((resolve) => client.once('end', () => resolve()));
  client.on('error', (error) => handlers.failed?.(error));
  client.on('notification', ({ channel, payload }) => handlers.notified(channel, payload ?? ''));
  try {
    await client.connect();
    for (const channel of options.channels) await client.query(`LISTEN ${pg.escapeIdentifier(channel)}`);
  } catch (error) {
    await client.end().catch(() => {});
    throw error;
  }
  let ending: Promise<void> | undefined;
  return {
    ended,
    end() {
      ending ??= client.end().catch(() => {});
      return ending;
    },
  };
}
