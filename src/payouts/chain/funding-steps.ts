import { DISTRIBUTOR_ABI } from '../../chain/royalty-distributor.ts';
import { TOKEN_ABI } from '../../chain/token.ts';
import type { Uuid } from '../../kernel/ids.ts';
import type { Distributor, TransactionOrder, TransactionStatus } from './types.ts';

/** What is to be paid in. */
export interface FundingOrder {
  readonly id: Uuid;
  readonly units: bigint;
  /** An allowance was left, which some tokens want to be taken back before they give another. */
  readonly clears: boolean;
}

/** An allowance that was asked for, and that an earlier one was taken back for it; undefined while it is not ordered. */
export interface Allowance {
  readonly cleared: TransactionStatus | undefined;
  readonly given: TransactionStatus | undefined;
}

/** How far it has come: the allowances that were asked for, oldest first, and the payment. */
export interface FundingProgress {
  readonly allowances: readonly Allowance[];
  /** Undefined while it is not ordered. */
  readonly paid: TransactionStatus | undefined;
}

/** So many allowances are asked for: another one when the account has changed, or a contract refused one in a block. */
const ATTEMPTS: readonly number[] = [1, 2, 3, 4, 5, 6, 7, 8];

/** Every purpose that a funding may have a transaction for. */
export function fundingPurposes(id: Uuid): readonly string[] {
  return [
    paidPurpose(id),
    ...ATTEMPTS.flatMap((attempt) => [clearPurpose(id, attempt), givePurpose(id, attempt)]),
  ];
}

/** What has become of a funding, out of the states of its purposes. */
export function fundingProgress(id: Uuid, states: ReadonlyMap<string, TransactionStatus>): FundingProgress {
  const allowances = ATTEMPTS.map((attempt) => ({
    cleared: states.get(clearPurpose(id, attempt)),
    given: states.get(givePurpose(id, attempt)),
  })).filter(({ cleared, given }) => cleared !== undefined || given !== undefined);
  return { allowances, paid: states.get(paidPurpose(id)) };
}

/**
 * What is to be ordered next, each when what it follows is there for good. A payment that waited for an allowance that was
 * refused would be made when a later one is given; and gas is estimated by how things are when a transaction is signed, so
 * that an allowance that is given with the taking back on its way would run out of it.
 * @param account that sends what is ordered here; null where no key is there.
 */
export function nextOrder(
  { distributor, token }: Distributor,
  { id, units, clears }: FundingOrder,
  { allowances, paid }: FundingProgress,
  account: string | null,
): TransactionOrder | null {
  const approve = (purpose: string, amount: bigint): TransactionOrder => ({
    purpose,
    call: { to: token, data: TOKEN_ABI.encodeFunctionData('approve', [distributor, amount]) },
  });
  const attempt = allowances.length;
  const last = allowances.at(-1);
  if (paid !== undefined && paid.state !== 'QUEUED') return null;
  if (last === undefined)
    return clears ? approve(clearPurpose(id, 1), 0n) : approve(givePurpose(id, 1), units);
  if (last.given === undefined) {
    const isCleared = last.cleared?.state === 'FINAL' || last.cleared?.state === 'REVERTED';
    return isCleared ? approve(givePurpose(id, attempt), units) : null;
  }
  // What another account has allowed before is not known, so that it is always taken back.
  const another = attempt < ATTEMPTS.length ? approve(clearPurpose(id, attempt + 1), 0n) : null;
  if (last.given.state === 'REVERTED') return paid === undefined ? null : another;
  if (last.given.state !== 'FINAL') return null;
  if (account !== null && last.given.signed?.account !== account) return another;
  if (paid !== undefined) return null;
  const data = DISTRIBUTOR_ABI.encodeFunctionData('fund', [units]);
  return { purpose: paidPurpose(id), call: { to: distributor, data } };
}

function clearPurpose(id: Uuid, attempt: number): string {
  return `fund:${id}:clear:${attempt}`;
}

function givePurpose(id: Uuid, attempt: number): string {
  return `fund:${id}:approve:${attempt}`;
}

function paidPurpose(id: Uuid): string {
  return `fund:${id}`;
}
