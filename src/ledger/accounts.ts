/**
 * Accounts, limits and balances, on whatever connection {@link Run} stands for, like the batches of statements.ts.
 */
import type { Uuid } from '../kernel/ids.ts';
import type { AccountKind, Balance, Run } from './types.ts';

/** An account to open. */
export interface NewAccount {
  /** Of the account when it is new. */
  readonly id: Uuid;
  readonly tenantId: Uuid;
  readonly kind: AccountKind;
  readonly asset: string;
}

/** How far a customer's balance may go below zero from now on. */
export interface NewLimit {
  readonly id: Uuid;
  readonly accountId: Uuid;
  readonly creditLimit: bigint;
  /** Unique within the tenant. */
  readonly key: string;
}

interface BalanceRow {
  readonly account_id: Uuid;
  readonly tenant_id: Uuid;
  readonly kind: AccountKind;
  readonly asset: string;
  readonly posted: string;
  readonly held: string;
  readonly credit_limit: string;
  readonly alert_below: string;
  readonly available: string;
}

const BALANCE_COLUMNS = `b.account_id, b.tenant_id, b.kind, b.asset, b.posted::text, b.held::text,
  b.credit_limit::text, coalesce(l.below_nano, 0)::text AS alert_below, b.available::text`;
const WITH_ALERT = 'b LEFT JOIN balance_alert l ON l.account_id = b.account_id';

/** The account of this tenant, kind and asset; opened when there is none. */
export async function openAccountOn(
  run: Run,
  { id, tenantId, kind, asset }: NewAccount,
  at: Date,
): Promise<Uuid> {
  const [row] = await run<{ readonly id: Uuid }>({
    name: 'ledger_open_account',
    text: 'SELECT patchbay.ledger_open_account($1::uuid, $2::uuid, $3, $4, $5::timestamptz) AS id',
    values: [id, tenantId, kind, asset, at.toISOString()],
  });
  if (row === undefined) throw new Error('Opening an account returned no row');
  return row.id;
}

/** Sets a limit. One below what is used already breaks a rule of the database. */
export async function setLimitOn(
  run: Run,
  { id, accountId, creditLimit, key }: NewLimit,
  at: Date,
): Promise<'WRITTEN' | 'REPLAYED' | 'CONFLICT' | 'UNKNOWN'> {
  const [row] = await run<{ readonly outcome: 'WRITTEN' | 'REPLAYED' | 'CONFLICT' | 'UNKNOWN' }>({
    name: 'ledger_set_limit',
    text: 'SELECT patchbay.ledger_set_limit($1::uuid, $2::uuid, $3::bigint, $4, $5::timestamptz) AS outcome',
    values: [id, accountId, String(creditLimit), key, at.toISOString()],
  });
  if (row === undefined) throw new Error('Setting a limit returned no row');
  return row.outcome;
}

/** Sets below which amount the tenant is told that its balance runs low; 0 is never. False for no customer's account. */
export async function setBalanceAlertOn(run: Run, accountId: Uuid, below: bigint): Promise<boolean> {
  const [row] = await run<{ readonly known: boolean }>({
    name: 'set_balance_alert',
    text: 'SELECT patchbay.set_balance_alert($1::uuid, nullif($2::bigint, 0)) AS known',
    values: [accountId, String(below)],
  });
  return row?.known ?? false;
}

/** Balances across tenants, for the system role. */
export async function balancesOn(run: Run, accountIds: readonly Uuid[]): Promise<readonly Balance[]> {
  const rows = await run<BalanceRow>({
    name: 'ledger_balances',
    text: `SELECT ${BALANCE_COLUMNS} FROM patchbay.ledger_balances($1::uuid[]) ${WITH_ALERT}`,
    values: [accountIds],
  });
  return rows.map(toBalance);
}

/** All balances of the tenant that is set. */
export async function ownBalancesOn(run: Run): Promise<readonly Balance[]> {
  const rows = await run<BalanceRow>({
    name: 'ledger_own_balances',
    text: `SELECT ${BALANCE_COLUMNS} FROM patchbay.ledger_own_balances() ${WITH_ALERT}`,
    values: [],
  });
  return rows.map(toBalance);
}

function toBalance(row: BalanceRow): Balance {
  return {
    accountId: row.account_id,
    tenantId: row.tenant_id,
    kind: row.kind,
    asset: row.asset,
    posted: BigInt(row.posted),
    held: BigInt(row.held),
    creditLimit: BigInt(row.credit_limit),
    alertBelow: BigInt(row.alert_below),
    available: BigInt(row.available),
  };
}
