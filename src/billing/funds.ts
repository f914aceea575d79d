import { z } from 'zod';
import { type Actor, requireOperatorScope } from '../auth/principal.ts';
import type { Database, Tx } from '../db/client.ts';
import { hashRequest, type Json, runIdempotent } from '../db/idempotency.ts';
import { PLATFORM_TENANT_ID } from '../db/platform.ts';
import type { Clock } from '../kernel/clock.ts';
import { invariant, PatchbayError } from '../kernel/errors.ts';
import { newId, type Uuid } from '../kernel/ids.ts';
import { balancesOn, openAccountOn, setBalanceAlertOn, setLimitOn } from '../ledger/accounts.ts';
import { ledgerConflict } from '../ledger/errors.ts';
import { businessKey } from '../ledger/keys.ts';
import { lockAccounts, postAll, runInTx } from '../ledger/statements.ts';
import { AMOUNT_MAX, type Balance, type Run } from '../ledger/types.ts';
import { requireCurrency } from '../pricing/currency.ts';
import { auditDenied, type DeniedEntry, type RequestContext, recordAudit } from '../tenant/audit.ts';
import { type CustomerBalance, checkMove, MOVES, type MoveInput, toCustomerBalance } from './funds-terms.ts';

/** What a change of a tenant's money came to. */
export interface FundsChange {
  /** The transfer that moved it; null where none was needed. */
  readonly transferId: Uuid | null;
  /** The balance right after. */
  readonly balance: CustomerBalance;
}

/** How far a tenant's balance may go below zero. */
export interface CreditLimitInput {
  readonly idempotencyKey: string;
  readonly tenantId: Uuid;
  readonly creditLimit: bigint;
  /** Below which credit limit and posted the tenant is told that it runs low; 0 is never, null leaves it. */
  readonly alertBelow?: bigint | null;
}

const text = z.string();
const answer = z.object({
  transferId: z.string().nullable(),
  currency: text,
  posted: text,
  held: text,
  creditLimit: text,
  // Answers of older programs do not have it.
  alertBelow: text.default('0'),
  available: text,
});

/** Furthest that the ledger lets a balance go from zero. */
const BALANCE_MAX = 4n * AMOUNT_MAX;

/** One change, once its account is open and locked. */
interface Opened {
  readonly tx: Tx;
  readonly run: Run;
  readonly at: Date;
  readonly before: Balance;
}

/** What operators do with the money of tenants: pay in, refund, correct, and let them owe. */
export class FundsService {
  readonly #deps: { readonly database: Database; readonly clock: Clock };

  constructor(dependencies: { readonly database: Database; readonly clock: Clock }) {
    this.#deps = dependencies;
  }

  /** Moves an amount into a tenant's balance, or with a correction out of it. */
  async move(actor: Actor, input: MoveInput, context: RequestContext = {}): Promise<FundsChange> {
    const { tenantId, amount, kind, reason } = input;
    const { operation, action, referenceType, from } = MOVES[kind];
    const entry = { actor, action, targetType: 'tenant', targetId: tenantId, context };
    const args = { tenantId, kind, amount: amount.toString(), reason };
    return this.#change(
      entry,
      operation,
      input,
      args,
      () => checkMove(input),
      async ({ tx, run, at, before }) => {
        const { clock } = this.#deps;
        if (before.available + amount < 0n) {
          throw new PatchbayError('BUDGET_EXCEEDED', 'The balance has less available than this would take.', {
            field: 'amount',
            fix: 'Take less, or raise the credit limit first.',
            meta: { amount: (-amount).toString(), available: before.available.toString() },
          });
        }
        if (before.posted + amount > BALANCE_MAX) {
          throw new PatchbayError('LEDGER_INVALID', 'The balance would be larger than the ledger can hold.', {
            field: 'amount',
          });
        }
        const source = { id: newId(clock), tenantId: PLATFORM_TENANT_ID, kind: from, asset: before.asset };
        const counter = await openAccountOn(run, source, at);
        const transfer = {
          id: newId(clock),
          tenantId,
          asset: before.asset,
          key: businessKey(referenceType, input.idempotencyKey),
          referenceType,
          referenceId: null,
          lines: [
            { accountId: counter, amount: -amount, subjectId: null },
            { accountId: before.accountId, amount, subjectId: null },
          ],
        };
        const [posted] = await postAll(run, [transfer], at);
        invariant(posted !== undefined && posted.outcome !== 'UNKNOWN', 'both accounts were opened just now');
        if (posted.outcome === 'CONFLICT') {
          throw ledgerConflict('The idempotency key moved another amount before.', posted.id);
        }
        if (posted.outcome === 'POSTED') {
          const facts = {
            kind,
            currency: before.asset,
            amountNano: amount.toString(),
            reason,
            transferId: posted.id,
          };
          await tx.$executeRaw`SELECT patchbay.emit_event(
          ${tenantId}::uuid, 'balance.adjusted', ${before.accountId}::uuid, ${JSON.stringify(facts)}::jsonb)`;
        }
        const after = { kind, amount: amount.toString(), reason, transferId: posted.id };
        return { transferId: posted.id, changed: posted.outcome === 'POSTED', after };
      },
    );
  }

  /** Lets a tenant's balance go this far below zero: nothing for prepaid, more for postpaid. */
  async setCreditLimit(
    actor: Actor,
    input: CreditLimitInput,
    context: RequestContext = {},
  ): Promise<FundsChange> {
    const { tenantId, creditLimit } = input;
    const alertBelow = input.alertBelow ?? null;
    const entry = { actor, action: 'creditLimit.set', targetType: 'tenant', targetId: tenantId, context };
    const args = {
      tenantId,
      creditLimit: creditLimit.toString(),
      // Absent as before where there is none, so that retries of older programs stay retries.
      ...(alertBelow === null ? {} : { alertBelow: alertBelow.toString() }),
    };
    const check = (): void => {
      for (const [field, amount] of [
        ['creditLimit', creditLimit] as const,
        ['alertBelow', alertBelow ?? 0n] as const,
      ]) {
        if (amount >= 0n && amount <= AMOUNT_MAX) continue;
        throw new PatchbayError('BAD_INPUT', `It is 0 to ${AMOUNT_MAX} nano-units.`, { field });
      }
    };
    return this.#change(entry, 'setCreditLimit', input, args, check, async ({ run, at, before }) => {
      const used = before.held - before.posted;
      if (creditLimit < used) {
        throw new PatchbayError('BUDGET_EXCEEDED', 'The tenant owes or holds more than this limit already.', {
          field: 'creditLimit',
          fix: 'Set a limit that covers what is used, or let the tenant pay first.',
          meta: { used: used.toString(), creditLimit: creditLimit.toString() },
        });
      }
      const isOtherLimit =
        before.creditLimit !== creditLimit && (await this.#writeLimit(run, before.accountId, input, at));
      const isOtherAlert = alertBelow !== null && alertBelow !== before.alertBelow;
      // After the limit, because what is left by the new one is what may be low.
      if (isOtherAlert) {
        const known = await setBalanceAlertOn(run, before.accountId, alertBelow);
        invariant(known, 'the account was opened just now');
      }
      return { transferId: null, changed: isOtherLimit || isOtherAlert, after: {} };
    });
  }

  /** Whether this wrote the limit, and not a change under the same key before. */
  async #writeLimit(
    run: Run,
    accountId: Uuid,
    { creditLimit, idempotencyKey }: CreditLimitInput,
    at: Date,
  ): Promise<boolean> {
    const key = businessKey('credit_limit', idempotencyKey);
    const outcome = await setLimitOn(run, { id: newId(this.#deps.clock), accountId, creditLimit, key }, at);
    invariant(outcome !== 'UNKNOWN', 'the account was opened just now');
    if (outcome === 'CONFLICT') {
      throw ledgerConflict('The idempotency key set another limit before.', accountId);
    }
    return outcome === 'WRITTEN';
  }

  /**
   * Runs a change of a tenant's balance once for each idempotency key: with its audit record, in one transaction that
   * holds the balance from before it is read. The ledger has the key too, and refuses to move money twice for it even
   * when the record of the first time is no longer kept.
   */
  async #change(
    entry: DeniedEntry,
    operation: string,
    { idempotencyKey, tenantId }: { readonly idempotencyKey: string; readonly tenantId: Uuid },
    args: { readonly [name: string]: Json },
    check: () => void,
    work: (opened: Opened) => Promise<{
      readonly transferId: Uuid | null;
      readonly changed: boolean;
      readonly after: { readonly [name: string]: Json };
    }>,
  ): Promise<FundsChange> {
    const { database, clock } = this.#deps;
    await auditDenied(this.#deps, entry, () => requireOperatorScope(entry.actor, 'billing:write'));
    check();
    const request = {
      scope: { tenantId: PLATFORM_TENANT_ID, actor: entry.actor.kind },
      operation,
      key: idempotencyKey,
      requestHash: hashRequest(args),
    };
    const { value } = await database.withSystem((tx) =>
      runIdempotent(request, tx, { codec: answer, clock }, async () => {
        await requireTenant(tx, tenantId);
        const at = new Date(clock.nowMs());
        const run = runInTx(tx);
        const asset = await requireCurrency(tx);
        const account = { id: newId(clock), tenantId, kind: 'CUSTOMER' as const, asset };
        const accountId = await openAccountOn(run, account, at);
        await lockAccounts(run, [accountId]);
        const before = await balanceOf(run, accountId);
        const { transferId, changed, after } = await work({ tx, run, at, before });
        const balance = asText(toCustomerBalance(await balanceOf(run, accountId)));
        if (changed) {
          const was = asText(toCustomerBalance(before));
          await recordAudit(tx, clock, { ...entry, tenantId, before: was, after: { ...balance, ...after } });
        }
        return { transferId, ...balance };
      }),
    );
    const { transferId, currency, posted, held, creditLimit, alertBelow, available } = value;
    return {
      transferId,
      balance: {
        currency,
        posted: BigInt(posted),
        held: BigInt(held),
        creditLimit: BigInt(creditLimit),
        alertBelow: BigInt(alertBelow),
        available: BigInt(available),
      },
    };
  }
}

async function requireTenant(tx: Tx, tenantId: Uuid): Promise<void> {
  const isTenant = tenantId !== PLATFORM_TENANT_ID;
  if (isTenant && (await tx.tenant.count({ where: { id: tenantId } })) === 1) return;
  throw new PatchbayError('NOT_FOUND', 'No such tenant is visible to you.', { field: 'tenant' });
}

async function balanceOf(run: Run, accountId: Uuid): Promise<Balance> {
  const [balance] = await balancesOn(run, [accountId]);
  invariant(balance !== undefined, 'the account was opened just now');
  return balance;
}

function asText(balance: CustomerBalance) {
  return {
    currency: balance.currency,
    posted: balance.posted.toString(),
    held: balance.held.toString(),
    creditLimit: balance.creditLimit.toString(),
    alertBelow: balance.alertBelow.toString(),
    available: balance.available.toString(),
  };
}
