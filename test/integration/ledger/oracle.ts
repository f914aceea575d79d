import type { Uuid } from '../../../src/kernel/ids.ts';
import type { Capture, Hold } from '../../../src/ledger/types.ts';

interface OracleAccount {
  posted: bigint;
  held: bigint;
  limit: bigint;
  readonly limited: boolean;
}

interface OracleHold {
  readonly id: Uuid;
  readonly accountId: Uuid;
  readonly amount: bigint;
  readonly expiresAtMs: number | null;
  resolution: Capture | 'VOID' | 'EXPIRE' | null;
}

const POSTED_MAX = 4n * 10n ** 18n;

/** The ledger as one would write it down in memory, one operation after another: what the database is compared with. */
export class Oracle {
  readonly accounts = new Map<Uuid, OracleAccount>();
  readonly holds = new Map<Uuid, OracleHold>();
  /** What keys stand for, as text that says everything that must be the same in a retry. */
  private readonly keys = new Map<string, { readonly said: string; readonly id: Uuid }>();

  open(id: Uuid, limited: boolean): void {
    this.accounts.set(id, { posted: 0n, held: 0n, limit: 0n, limited });
  }

  account(id: Uuid): OracleAccount {
    const account = this.accounts.get(id);
    if (account === undefined) throw new Error(`The oracle knows no account ${id}`);
    return account;
  }

  available(id: Uuid): bigint {
    const { posted, held, limit } = this.account(id);
    return limit + posted - held;
  }

  holdAll(holds: readonly Hold[]): { readonly id: Uuid; readonly outcome: string }[] {
    const batch = new Map<string, Hold>();
    return holds.map((hold) => {
      const key = `${hold.accountId} ${hold.key}`;
      const said = `hold ${hold.amount}`;
      const known = this.keys.get(key);
      const sibling = batch.get(key);
      if (known !== undefined && (sibling === undefined || known.id !== sibling.id)) {
        return { id: known.id, outcome: known.said === said ? 'REPLAYED' : 'CONFLICT' };
      }
      if (sibling !== undefined && sibling.amount !== hold.amount) {
        return { id: sibling.id, outcome: 'CONFLICT' };
      }
      if (sibling !== undefined) {
        return { id: sibling.id, outcome: known === undefined ? 'REFUSED' : 'REPLAYED' };
      }
      batch.set(key, hold);
      if (hold.amount > this.available(hold.accountId)) return { id: hold.id, outcome: 'REFUSED' };
      this.account(hold.accountId).held += hold.amount;
      this.keys.set(key, { said, id: hold.id });
      this.holds.set(hold.id, {
        id: hold.id,
        accountId: hold.accountId,
        amount: hold.amount,
        expiresAtMs: hold.expiresAt?.getTime() ?? null,
        resolution: null,
      });
      return { id: hold.id, outcome: 'HELD' };
    });
  }

  captureAll(captures: readonly Capture[]): string[] {
    return captures.map((capture) => {
      const hold = this.holds.get(capture.holdId);
      if (hold === undefined) return 'UNKNOWN';
      if (capture.amount > hold.amount) return 'EXCEEDS';
      const { resolution } = hold;
      if (resolution !== null) {
        const same = typeof resolution !== 'string' && describe(resolution) === describe(capture);
        return same ? 'REPLAYED' : 'RESOLVED';
      }
      hold.resolution = capture;
      const payer = this.account(hold.accountId);
      payer.held -= hold.amount;
      payer.posted -= capture.amount;
      for (const credit of capture.credits) this.account(credit.accountId).posted += credit.amount;
      return 'POSTED';
    });
  }

  void(holdId: Uuid): string {
    const hold = this.holds.get(holdId);
    if (hold === undefined) return 'UNKNOWN';
    if (hold.resolution !== null) return hold.resolution === 'VOID' ? 'REPLAYED' : 'RESOLVED';
    hold.resolution = 'VOID';
    this.account(hold.accountId).held -= hold.amount;
    return 'RELEASED';
  }

  expire(nowMs: number): Uuid[] {
    const due = [...this.holds.values()].filter(
      (hold) => hold.resolution === null && hold.expiresAtMs !== null && hold.expiresAtMs <= nowMs,
    );
    for (const hold of due) {
      hold.resolution = 'EXPIRE';
      this.account(hold.accountId).held -= hold.amount;
    }
    return due.map((hold) => hold.id).sort();
  }

  /** A transfer between a limited account and another. Null: it is made or repeated; else the code of the refusal. */
  post(id: Uuid, customerId: Uuid, otherId: Uuid, key: string, amount: bigint): string | null {
    const known = this.keys.get(`${customerId} ${key}`);
    const said = `post ${otherId} ${amount}`;
    if (known !== undefined) return known.said === said ? null : 'LEDGER_CONFLICT';
    const posted = this.account(customerId).posted + amount;
    if (posted > POSTED_MAX || posted < -POSTED_MAX) return 'LEDGER_INVALID';
    if (amount < 0n && -amount > this.available(customerId)) return 'BUDGET_EXCEEDED';
    this.account(customerId).posted = posted;
    this.account(otherId).posted -= amount;
    this.keys.set(`${customerId} ${key}`, { said, id });
    return null;
  }

  setLimit(id: Uuid, limit: bigint): string | null {
    const account = this.account(id);
    if (limit + account.posted - account.held < 0n) return 'BUDGET_EXCEEDED';
    account.limit = limit;
    return null;
  }
}

function describe(capture: Capture): string {
  return JSON.stringify(capture.credits.map(({ accountId, amount }) => [accountId, String(amount)]).sort());
}
