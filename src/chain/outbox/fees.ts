import type { Fees } from './types.ts';

/** What blocks cost now. */
export interface Market {
  /** What a unit of gas costs in the newest block; null on a chain without EIP-1559. */
  readonly baseFee: bigint | null;
  /** What is usual on top of it, or the whole price where there is no base fee. */
  readonly tip: bigint;
}

/** A block's base fee grows by an eighth at most, so that twice as much lasts for six full blocks. */
const BASE_FEE_ROOM = 2n;

/** The fees of a first attempt; null when even the newest block costs more than the ceiling. */
export function firstFees({ baseFee, tip }: Market, ceiling: bigint): Fees | null {
  if (baseFee === null) return tip > ceiling ? null : { maxFee: atLeastOne(tip), priorityFee: null };
  if (baseFee > ceiling) return null;
  const maxFee = atLeastOne(smaller(BASE_FEE_ROOM * baseFee + tip, ceiling));
  return { maxFee, priorityFee: smaller(tip, maxFee) };
}

/**
 * The fees of a further attempt: what is usual now, and an eighth more than before, because nodes do not take less for a
 * replacement. Null when that is above the ceiling.
 */
export function raisedFees(before: Fees, market: Market, ceiling: bigint): Fees | null {
  const least = { maxFee: eighthMore(before.maxFee), priorityFee: before.priorityFee };
  if (least.maxFee > ceiling) return null;
  const usual = firstFees(market, ceiling);
  const maxFee = larger(least.maxFee, usual?.maxFee ?? 0n);
  if (least.priorityFee === null) return { maxFee, priorityFee: null };
  const priorityFee = larger(eighthMore(least.priorityFee), usual?.priorityFee ?? 0n);
  return { maxFee, priorityFee: smaller(priorityFee, maxFee) };
}

/** Rounded up, and more in any case. */
function eighthMore(fee: bigint): bigint {
  return fee + fee / 8n + 1n;
}

function smaller(a: bigint, b: bigint): bigint {
  return a < b ? a : b;
}

function larger(a: bigint, b: bigint): bigint {
  return a > b ? a : b;
}

/** A price of nothing is what chains for trying things out have; it would leave nothing to raise. */
function atLeastOne(fee: bigint): bigint {
  return larger(fee, 1n);
}
