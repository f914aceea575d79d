import { z } from 'zod';
import { type Listener, listen } from '../db/listen.ts';
import type { Uuid } from '../kernel/ids.ts';

const CHANNEL = 'patchbay_adapter_state';
const payload = z.object({ tenantId: z.string(), versionId: z.string() });

/** One watcher's interest in one tenant. It holds a flag, not a queue: a slow watcher sees the newest state. */
interface FeedSubscription {
  readonly closed: boolean;
  /** Resolves when something of the tenant changed since the last call, the time is over, or it is closed. */
  wait(timeoutMs: number): Promise<void>;
  close(): void;
}

class Subscription implements FeedSubscription {
  closed = false;
  #changed = false;
  #wake: (() => void) | undefined;
  readonly #onClose: (subscription: Subscription) => void;

  constructor(onClose: (subscription: Subscription) => void) {
    this.#onClose = onClose;
  }

  signal(): void {
    this.#changed = true;
    this.#wake?.();
  }

  async wait(timeoutMs: number): Promise<void> {
    if (!this.#changed && !this.closed) {
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, timeoutMs);
        this.#wake = () => {
          clearTimeout(timer);
          resolve();
        };
      });
      this.#wake = undefined;
    }
    this.#changed = false;
  }

  close(): void {
    if (this.closed) return;
    this.closed = true;
    this.#wake?.();
    this.#onClose(this);
  }
}

/**
 * Hears of state changes of adapter versions, whichever process made them. A notification only says that something of
 * a tenant changed; watchers read the state themselves, as the tenant that they are.
 */
export class AdapterStateFeed {
  readonly #connectionString: string;
  readonly #onError: (error: unknown) => void;
  readonly #subscriptions = new Map<Uuid, Set<Subscription>>();
  readonly #anyListeners = new Set<() => void>();
  #listener: Listener | undefined;

  constructor(
    options: { readonly connectionString: string },
    dependencies: { readonly onError?: (error: unknown) => void } = {},
  ) {
    this.#connectionString = options.connectionString;
    this.#onError = dependencies.onError ?? (() => {});
  }

  /** Connects. A connection that breaks later is made again by itself; meanwhile watchers poll. */
  async start(): Promise<void> {
    this.#listener = await listen(
      { url: this.#connectionString, channels: [CHANNEL] },
      {
        notified: (_channel, text) => this.#receive(text),
        reconnected: () => this.#signalAll(),
        failed: this.#onError,
      },
    );
    this.#signalAll();
  }

  /** Follows the changes of one tenant. */
  subscribe(tenantId: Uuid): FeedSubscription {
    const set = this.#subscriptions.get(tenantId) ?? new Set();
    this.#subscriptions.set(tenantId, set);
    const subscription = new Subscription((closing) => {
      set.delete(closing);
      if (set.size === 0 && this.#subscriptions.get(tenantId) === set) this.#subscriptions.delete(tenantId);
    });
    set.add(subscription);
    return subscription;
  }

  /** Calls back on every change of any tenant, for background work. Returns how to stop. */
  onAny(listener: () => void): () => void {
    this.#anyListeners.add(listener);
    return () => this.#anyListeners.delete(listener);
  }

  /** Ends the connection and every subscription. */
  async close(): Promise<void> {
    for (const set of [...this.#subscriptions.values()])
      for (const subscription of [...set]) subscription.close();
    await this.#listener?.close();
  }

  /** What was sent while nobody listened is unknown, so everybody looks again. */
  #signalAll(): void {
    for (const set of this.#subscriptions.values()) for (const subscription of set) subscription.signal();
    for (const listener of this.#anyListeners) listener();
  }

  #receive(text: string): void {
    let tenantId: Uuid;
    try {
      tenantId = payload.parse(JSON.parse(text)).tenantId;
    } catch (error) {
      this.#onError(error);
      return;
    }
    for (const subscription of this.#subscriptions.get(tenantId) ?? []) subscription.signal();
    for (const listener of this.#anyListeners) listener();
  }
}
