import type { Uuid } from '../kernel/ids.ts';

/**
 * A place in the outbox. Events are in the order of the transactions that wrote them and, within one, of their
 * positions; commits come in another order, so a reader goes only as far as every transaction is decided.
 */
export interface EventPlace {
  readonly transaction: bigint;
  readonly position: bigint;
}

/** Something that happened to a tenant, or to what it owns. */
export interface OutboxEvent {
  readonly place: EventPlace;
  /** What receivers know it by, however often they get it. */
  readonly id: Uuid;
  readonly tenantId: Uuid;
  readonly kind: string;
  /** What it is about, such as a budget or an adapter version. */
  readonly subjectId: Uuid | null;
  readonly payload: Readonly<Record<string, string | number | boolean | null>>;
  readonly createdAt: Date;
}

/** Which of a tenant's events somebody asks for and may see. */
export interface EventFilter {
  readonly kinds: readonly string[];
}
