import type { Tx } from '../db/client.ts';
import { PatchbayError } from '../kernel/errors.ts';
import type { Uuid } from '../kernel/ids.ts';
import { type BankResult, fileError } from './results.ts';
import { toPayout } from './rows.ts';
import type { PayoutState, ResultState } from './types.ts';

/** A payout with what decides about it. */
export type PayoutRow = Awaited<ReturnType<typeof readPayouts>>[number];

/** A payout with what it becomes. */
export interface Change {
  readonly payout: PayoutRow;
  readonly state: ResultState;
  /** What the bank calls the payment; of what came back, the payment with which it came. */
  readonly reference: string | null;
  /** Of a file; null for what was said of one payout. */
  readonly line: number | null;
}

const RESULTS_OF: Readonly<Record<PayoutState, readonly ResultState[]>> = {
  PENDING: [],
  SENDING: ['PAID', 'FAILED', 'UNKNOWN'],
  UNKNOWN: ['PAID', 'FAILED'],
  PAID: ['RETURNED'],
  FAILED: [],
  RETURNED: [],
  CANCELLED: [],
};

/** What payouts on a chain have for a reference: the number of a tree, and the transaction that published it. */
const TREE_REFERENCE = /^[0-9]+:0x[0-9a-f]{64}$/;

/** What frees the money of a payout, so that it is paid again. */
const RELEASES: ReadonlySet<ResultState> = new Set(['FAILED', 'RETURNED']);

/** The payouts with these keys. */
export function readPayouts(tx: Tx, keys: readonly Uint8Array<ArrayBuffer>[]) {
  return tx.payout.findMany({
    where: { paymentKey: { in: [...keys] } },
    include: { destination: true, batch: true },
  });
}

/** What a result changes: nothing when it says what is known. Throws when it contradicts. */
export function changeOf(result: BankResult, payout: PayoutRow | undefined): readonly Change[] {
  const { key, line, state, amount, reference } = result;
  if (payout === undefined) throw fileError(`No payout has the key ${key}.`, line);
  if (payout.amountNano !== amount) {
    throw fileError('The amount is not the one of the payout.', line);
  }
  if (payout.batch.rail === 'CHAIN') {
    throw fileError(
      'The payout is claimed on a chain, which says itself what became of it.',
      line,
      'PAYOUT_STATE',
    );
  }
  const known = toPayout(payout);
  if (isKnown(known, state, reference)) return [];
  if (RESULTS_OF[known.state].includes(state)) return [{ payout, state, reference, line }];
  const reported = known.bankReference === null ? '' : ` with the reference ${known.bankReference}`;
  const hint =
    known.state === 'PAID' && state === 'FAILED' ? ' What was paid and came back is RETURNED.' : '';
  const message = `The payout is ${known.state}${reported}, and the file says ${state}.${hint}`;
  throw fileError(message, line, 'PAYOUT_STATE');
}

/** Whether it was said before; that it was paid stays true of what came back later. */
function isKnown(known: ReturnType<typeof toPayout>, state: ResultState, reference: string | null): boolean {
  if (state === 'RETURNED') return known.state === state && known.returnReference === reference;
  const stood = known.state === 'RETURNED' ? 'PAID' : known.state;
  return stood === state && known.bankReference === reference;
}

/** Throws when a payment of the bank would pay two payouts. */
export async function requireUnusedReferences(tx: Tx, changes: readonly Change[]): Promise<void> {
  const first = new Map<string, Change>();
  for (const change of changes) {
    const { state, reference, line } = change;
    if (state !== 'PAID' || reference === null) continue;
    if (TREE_REFERENCE.test(reference)) throw noPayment(line);
    if (first.has(reference)) throw usedTwice(reference, line);
    first.set(reference, change);
  }
  const used = await tx.payout.findFirst({
    where: { bankReference: { in: [...first.keys()] }, state: { in: ['PAID', 'RETURNED'] } },
    select: { bankReference: true },
  });
  if (used === null) return;
  const reference = used.bankReference ?? '';
  throw usedTwice(reference, first.get(reference)?.line ?? null);
}

function noPayment(line: number | null): PatchbayError {
  const message = 'The reference is that of a tree on a chain, and no payment of a bank.';
  if (line !== null) return fileError(message, line);
  return new PatchbayError('BAD_INPUT', message, { field: 'bankReference' });
}

function usedTwice(reference: string, line: number | null): PatchbayError {
  const message = `The bank’s payment ${reference} has paid another payout.`;
  if (line !== null) return fileError(message, line, 'PAYOUT_STATE');
  return new PatchbayError('PAYOUT_STATE', message, {
    field: 'bankReference',
    fix: 'Give the reference of the payment that paid this payout.',
  });
}

/** Whether changes free money of a batch for which one person is not enough. */
export function needSecondPerson(changes: readonly Change[]): boolean {
  return changes.some(
    ({ state, payout: { batch } }) => RELEASES.has(state) && batch.totalNano > batch.secondPersonAboveNano,
  );
}

/** The batches that the payouts are in. */
export function batchesOf(changes: readonly Change[]): readonly Uuid[] {
  return [...new Set(changes.map(({ payout }) => payout.batchId))];
}

/** The payouts by what they have become, for the audit log. */
export function idsByState(changes: readonly Change[]): Readonly<Record<string, readonly Uuid[]>> {
  const those = (state: ResultState): readonly Uuid[] =>
    changes.filter((change) => change.state === state).map(({ payout }) => payout.id);
  return {
    ...{ paid: those('PAID'), failed: those('FAILED') },
    ...{ unknown: those('UNKNOWN'), returned: those('RETURNED') },
  };
}
