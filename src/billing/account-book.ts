import { PLATFORM_TENANT_ID } from '../db/platform.ts';
import type { Uuid } from '../kernel/ids.ts';
import type { LedgerService } from '../ledger/service.ts';
import type { AccountKind } from '../ledger/types.ts';

/** Most accounts whose ids are remembered; beyond it, all are forgotten and asked for again. */
const KEPT_MAX = 100_000;

/**
 * The ids of ledger accounts, opened when they are first needed. An account never changes and never goes, so an id is
 * asked for once.
 */
export class AccountBook {
  readonly #ledger: Pick<LedgerService, 'openAccount'>;
  readonly #known = new Map<string, Promise<Uuid>>();

  constructor(ledger: Pick<LedgerService, 'openAccount'>) {
    this.#ledger = ledger;
  }

  /** What a tenant pays from. */
  customer(tenantId: Uuid, currency: string): Promise<Uuid> {
    return this.#account(tenantId, 'CUSTOMER', currency);
  }

  /** What a beneficiary earns to. */
  earnings(tenantId: Uuid, currency: string): Promise<Uuid> {
    return this.#account(tenantId, 'EARNINGS', currency);
  }

  /** One of the platform's own. */
  platform(kind: Exclude<AccountKind, 'CUSTOMER' | 'EARNINGS'>, currency: string): Promise<Uuid> {
    return this.#account(PLATFORM_TENANT_ID, kind, currency);
  }

  #account(tenantId: Uuid, kind: AccountKind, currency: string): Promise<Uuid> {
    const key = `${tenantId} ${kind} ${currency}`;
    const known = this.#known.get(key);
    if (known !== undefined) return known;
    if (this.#known.size >= KEPT_MAX) this.#known.clear();
    const opened = this.#ledger.openAccount(tenantId, kind, currency);
    this.#known.set(key, opened);
    // A failure is not an answer, so the next one asks again.
    opened.catch(() => this.#known.delete(key));
    return opened;
  }
}
