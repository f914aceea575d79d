import type { Database } from '../db/client.ts';
import type { Uuid } from '../kernel/ids.ts';
import { every, type Periodic } from '../metering/periodic.ts';
import { readAfter } from './outbox.ts';
import type { EventFilter, EventPlace, OutboxEvent } from './types.ts';
import { Watcher } from './watcher.ts';

/** How events are followed. */
export interface EventFeedOptions {
  /** Pause between two looks for new events: about the most that one of them is late. */
  readonly pollMs: number;
  /** Most events that a watcher reads ahead of its consumer. */
  readonly pageMax: number;
}

/** Values that suit a server. */
export const EVENT_FEED_DEFAULTS: EventFeedOptions = { pollMs: 500, pageMax: 50 };

interface EventFeedDependencies {
  readonly database: Pick<Database, 'querySystem' | 'withTenantPg'>;
  /** Told when a look for new events failed; the next one makes up for it. */
  readonly onError?: (error: unknown) => void;
}

/**
 * Follows the outbox for everybody of this process. One statement at an interval asks for which of the watching tenants
 * something is new; only those read it, as the tenant that they are. A watcher holds its place and the page that it is
 * at, not a queue: who reads slowly makes nobody wait and takes no more memory. While nobody watches, nothing is asked.
 */
export class EventFeed {
  readonly #options: EventFeedOptions;
  readonly #deps: EventFeedDependencies;
  readonly #watchers = new Map<Uuid, Set<Watcher>>();
  #poller: Periodic | undefined;
  #stopping: Promise<void> | undefined;
  /** Everything before this transaction was told; undefined before the first look. */
  #told: string | undefined;
  #closed = false;

  constructor(options: EventFeedOptions, dependencies: EventFeedDependencies) {
    this.#options = options;
    this.#deps = dependencies;
  }

  /** How many watch. */
  get watchers(): number {
    return [...this.#watchers.values()].reduce((sum, set) => sum + set.size, 0);
  }

  /** Whether the database is asked. */
  get isPolling(): boolean {
    return this.#poller !== undefined;
  }

  /** The tenant's events behind the place, in order and without an end, each once. */
  watch(tenantId: Uuid, filter: EventFilter, after: EventPlace): AsyncIterableIterator<OutboxEvent> {
    const watcher = this.#add(tenantId);
    const events = this.#read(tenantId, filter, after, watcher);
    return {
      [Symbol.asyncIterator]() {
        return this;
      },
      next: () => events.next(),
      // Closing first wakes a pending next, so that a client that leaves is not waited for.
      return: async () => {
        watcher.close();
        await events.return(undefined);
        return { done: true, value: undefined };
      },
    };
  }

  /** Ends every watcher. */
  async close(): Promise<void> {
    this.#closed = true;
    for (const set of [...this.#watchers.values()]) for (const watcher of [...set]) watcher.close();
    await this.#stopping;
  }

  #add(tenantId: Uuid): Watcher {
    const set = this.#watchers.get(tenantId) ?? new Set();
    const watcher = new Watcher(() => {
      set.delete(watcher);
      if (set.size === 0 && this.#watchers.get(tenantId) === set) this.#watchers.delete(tenantId);
      if (this.#watchers.size === 0) this.#stop();
    });
    if (this.#closed) {
      watcher.close();
      return watcher;
    }
    set.add(watcher);
    this.#watchers.set(tenantId, set);
    this.#poller ??= every(this.#options.pollMs, () => this.#look());
    return watcher;
  }

  #stop(): void {
    this.#stopping = this.#poller?.stop();
    this.#poller = undefined;
    this.#told = undefined;
  }

  async *#read(
    tenantId: Uuid,
    filter: EventFilter,
    after: EventPlace,
    watcher: Watcher,
  ): AsyncGenerator<OutboxEvent, undefined> {
    let place = after;
    try {
      while (!watcher.closed) {
        const { events, next } = await readAfter(
          this.#deps.database,
          tenantId,
          filter,
          place,
          this.#options.pageMax,
        );
        for (const event of events) {
          if (watcher.closed) return;
          yield event;
        }
        place = next;
        if (events.length < this.#options.pageMax) await watcher.wait();
      }
    } finally {
      watcher.close();
    }
  }

  /** Wakes those for whom something was decided since the last look, and those whom it was not asked for. */
  async #look(): Promise<void> {
    const poller = this.#poller;
    const tenants = [...this.#watchers.keys()];
    try {
      const [row] = await this.#deps.database.querySystem<{
        readonly horizon: string;
        readonly tenants: readonly Uuid[];
      }>(
        `SELECT h.horizon::text, ARRAY(
           SELECT DISTINCT e.tenant_id FROM outbox_event e
           WHERE e.transaction >= $1::bigint AND e.transaction < h.horizon AND e.tenant_id = ANY ($2::uuid[])
         ) AS tenants
         FROM (SELECT patchbay.outbox_horizon() AS horizon) h`,
        // Before the first look nobody knows since when something may be new.
        [this.#told ?? MAX, tenants],
      );
      if (row === undefined || poller !== this.#poller) return;
      // Of those that came while the database was asked nobody knows what it would have said.
      const asked = new Set(this.#told === undefined ? [] : tenants);
      const news = new Set(row.tenants);
      this.#told = row.horizon;
      for (const [tenant, watchers] of this.#watchers) {
        if (asked.has(tenant) && !news.has(tenant)) continue;
        for (const watcher of watchers) watcher.signal();
      }
    } catch (error) {
      this.#deps.onError?.(error);
    }
  }
}

/** Behind every transaction. */
const MAX = '9223372036854775807';
