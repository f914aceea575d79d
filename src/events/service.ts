import { type Actor, reaches } from '../auth/principal.ts';
import type { Database } from '../db/client.ts';
import { type Page, type PageRequest, requirePageSize } from '../db/page.ts';
import { PatchbayError } from '../kernel/errors.ts';
import type { Uuid } from '../kernel/ids.ts';
import type { EventFeed } from './feed.ts';
import { filterFor } from './kinds.ts';
import { readBefore, startingPlace } from './outbox.ts';
import { parsePlace } from './place.ts';
import type { OutboxEvent } from './types.ts';

interface EventServiceDependencies {
  readonly database: Database;
  readonly feed: EventFeed;
}

/** Events of a tenant, as its keys may see them: looked back on, or followed. */
export class EventService {
  readonly #deps: EventServiceDependencies;

  constructor(dependencies: EventServiceDependencies) {
    this.#deps = dependencies;
  }

  /** Events that are kept, the newest first; of the actor's own tenant when none is named. */
  async list(
    actor: Actor,
    query: { readonly tenantId: Uuid | null; readonly kinds: readonly string[] | null },
    page: PageRequest,
  ): Promise<Page<OutboxEvent>> {
    const tenantId = query.tenantId ?? actor.tenantId;
    const filter = filterFor(actor, query.kinds);
    if (!reaches(actor, tenantId)) {
      throw new PatchbayError('NOT_FOUND', 'No such tenant is visible to you.', { field: 'tenant' });
    }
    requirePageSize(page.first);
    const before = page.after === null ? null : parsePlace(page.after);
    const found = await readBefore(this.#deps.database, tenantId, filter, before, page.first + 1);
    return { items: found.slice(0, page.first), hasNextPage: found.length > page.first };
  }

  /**
   * Follows the events of the actor's own tenant: those behind a cursor, or those that come from now on. What is thrown
   * before it begins is `BAD_INPUT`, `FORBIDDEN`, or `EVENTS_EXPIRED` for a cursor that is older than what is kept.
   */
  async follow(
    actor: Actor,
    query: { readonly after: string | null; readonly kinds: readonly string[] | null },
  ): Promise<AsyncIterableIterator<OutboxEvent>> {
    const { database, feed } = this.#deps;
    const filter = filterFor(actor, query.kinds);
    const after = query.after === null ? null : parsePlace(query.after);
    const place = await startingPlace(database, actor.tenantId, after);
    return feed.watch(actor.tenantId, filter, place);
  }
}
