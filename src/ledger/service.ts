import { SQLSTATE, sqlState } from '../db/errors.ts';
import { PatchbayError } from '../kernel/errors.ts';
import { newId, type Uuid } from '../kernel/ids.ts';
import { balancesOn, openAccountOn, ownBalancesOn, setLimitOn } from './accounts.ts';
import { budgetExceeded, ledgerConflict, mapLedgerError } from './errors.ts';
import { captureAll, holdAll, postAll, runAlone, runOn, voidAll } from './statements.ts';
import type {
  AccountKind,
  Balance,
  Capture,
  CaptureResult,
  Hold,
  HoldResult,
  LedgerDeps,
  Release,
  ReleaseResult,
  Run,
  Transfer,
  TransferResult,
} from './types.ts';

/** How the ledger runs. */
export interface LedgerOptions {
  /** Most holds that one transaction releases because they ran out. */
  readonly expireBatch: number;
}

/** Values that suit a server. */
export const LEDGER_DEFAULTS: LedgerOptions = { expireBatch: 500 };

/** A hold that ran out and was released. */
export interface ExpiredHold {
  readonly holdId: Uuid;
  readonly tenantId: Uuid;
}

/**
 * The ledger for those who write one thing at a time: each call is a transaction of its own, and what the database
 * refuses is thrown. Batches inside of another transaction use statements.ts.
 */
export class LedgerService {
  private readonly options: LedgerOptions;
  private readonly deps: LedgerDeps;
  private readonly run: Run;

  constructor(options: LedgerOptions, deps: LedgerDeps) {
    this.options = options;
    this.deps = deps;
    this.run = runAlone(deps.database);
  }

  /** The account of this tenant, kind and asset; opened when there is none. */
  async openAccount(tenantId: Uuid, kind: AccountKind, asset: string): Promise<Uuid> {
    const account = { id: newId(this.deps.clock), tenantId, kind, asset };
    return this.attempt(() => openAccountOn(this.run, account, this.at()));
  }

  /** Lets a customer's balance go this far below zero. Refused when more than that is used already. */
  async setCreditLimit(accountId: Uuid, creditLimit: bigint, key: string): Promise<void> {
    const limit = { id: newId(this.deps.clock), accountId, creditLimit, key };
    const outcome = await this.attempt(() => setLimitOn(this.run, limit, this.at()));
    if (outcome === 'UNKNOWN') throw unknownAccount();
    if (outcome === 'CONFLICT') throw ledgerConflict('The key set another limit before.', accountId);
  }

  /** Reserves an amount; throws BUDGET_EXCEEDED when it does not fit. */
  async hold(hold: Hold, referenceType: string): Promise<HoldResult> {
    const result = await this.one(() => holdAll(this.run, [hold], referenceType, this.at()));
    if (result.outcome === 'UNKNOWN') throw unknownAccount();
    if (result.outcome === 'CONFLICT') throw ledgerConflict('The key stands for something else.', result.id);
    if (result.outcome === 'REFUSED') {
      throw budgetExceeded(hold.amount, result.available, { accountId: hold.accountId });
    }
    return result;
  }

  /** Moves a part of a hold, and releases the rest. */
  async capture(capture: Capture): Promise<CaptureResult> {
    const result = await this.one(() => captureAll(this.run, [capture], this.at()));
    requireHold(result.outcome, capture.holdId);
    if (result.outcome === 'EXCEEDS') {
      throw new PatchbayError('LEDGER_INVALID', 'The capture exceeds what is held.', {
        meta: { holdId: capture.holdId, amount: String(capture.amount) },
      });
    }
    return result;
  }

  /** Releases a hold whole. */
  async void(release: Release): Promise<ReleaseResult> {
    const result = await this.one(() => voidAll(this.run, [release], this.at()));
    requireHold(result.outcome, release.holdId);
    return result;
  }

  /** Moves money at once; throws BUDGET_EXCEEDED when a debit of a customer does not fit. */
  async post(transfer: Transfer): Promise<TransferResult> {
    const result = await this.one(() => postAll(this.run, [transfer], this.at()));
    if (result.outcome === 'UNKNOWN') throw unknownAccount();
    if (result.outcome === 'CONFLICT') throw ledgerConflict('The key stands for something else.', result.id);
    return result;
  }

  /** Releases the holds that have run out by the injected clock, batch by batch. */
  async expireDue(): Promise<readonly ExpiredHold[]> {
    const expired: ExpiredHold[] = [];
    for (;;) {
      const ids = Array.from({ length: this.options.expireBatch }, () => newId(this.deps.clock));
      const rows = await this.deps.database.querySystem<{
        readonly pending_id: Uuid;
        readonly tenant_id: Uuid;
      }>('SELECT pending_id, tenant_id FROM patchbay.ledger_expire($1, $2)', [ids, this.now()]);
      expired.push(...rows.map((row) => ({ holdId: row.pending_id, tenantId: row.tenant_id })));
      // Less than a full batch: the rest, if any, was resolved by somebody else, or comes with the next call.
      if (rows.length < ids.length) return expired;
    }
  }

  /** Balances across tenants, for background work and operators. */
  async balances(accountIds: readonly Uuid[]): Promise<readonly Balance[]> {
    return balancesOn(this.run, accountIds);
  }

  /** All balances of a tenant, read as the tenant. */
  async ownBalances(tenantId: Uuid): Promise<readonly Balance[]> {
    return this.deps.database.withTenantPg(tenantId, (client) => ownBalancesOn(runOn(client)));
  }

  private async one<T>(work: () => Promise<readonly T[]>): Promise<T> {
    const [result] = await this.attempt(work);
    if (result === undefined) throw new Error('The ledger returned no result');
    return result;
  }

  /** Of two that use a key at once on different accounts, the second one fails, and finds the first when it retries. */
  private async attempt<T>(work: () => Promise<T>): Promise<T> {
    try {
      try {
        return await work();
      } catch (error) {
        if (sqlState(error) !== SQLSTATE.uniqueViolation) throw error;
        return await work();
      }
    } catch (error) {
      throw mapLedgerError(error);
    }
  }

  private at(): Date {
    return new Date(this.deps.clock.nowMs());
  }

  private now(): string {
    return this.at().toISOString();
  }
}

function requireHold(outcome: string, holdId: Uuid): void {
  if (outcome === 'UNKNOWN')
    throw new PatchbayError('NOT_FOUND', 'There is no such hold.', { meta: { holdId } });
  if (outcome === 'RESOLVED') throw ledgerConflict('The hold was resolved otherwise before.', holdId);
}

function unknownAccount(): PatchbayError {
  return new PatchbayError('NOT_FOUND', 'There is no such account.');
}
