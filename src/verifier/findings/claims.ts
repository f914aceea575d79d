import type { Named } from '../bundle/dossier.ts';
import type { ReceiptRecord } from '../bundle/record.ts';
import { checkClaim, inUnits, sameAddress } from '../checks/claim.ts';
import type { Trust } from '../checks/keys.ts';
import { digestOf } from '../hashing/canonical.ts';
import type { Claim } from '../input/claims.ts';
import { sum } from '../pricing/arithmetic.ts';
import { type Finding, knownBy, shownBy } from './finding.ts';

/** The claims that the platform signed, oldest tree first. One that is not signed is no evidence. */
export function signedClaims(given: readonly Named<Claim>[], trust: Trust): readonly Named<Claim>[] {
  return given.filter(({ document }) => checkClaim(document, trust)[0]?.result === 'true');
}

/** Signed claims that contradict each other. */
export function* claimContradictions(claims: readonly Named<Claim>[]): Generator<Finding> {
  for (const [index, one] of claims.entries()) {
    for (const other of claims.slice(index + 1)) yield* compare(one, other);
  }
}

/** Two claims of one distributor, the one with the smaller tree first. */
function* compare(one: Named<Claim>, other: Named<Claim>): Generator<Finding> {
  const [before, after] = [one.document.claim, other.document.claim];
  if (before.chainId !== after.chainId || !sameAddress(before.distributor, after.distributor)) return;
  const evidence = [one.name, other.name];
  if (before.sequence === after.sequence && before.root !== after.root) {
    const message = `tree ${before.sequence} was signed with the roots ${before.root} and ${after.root}`;
    yield shownBy(evidence, 'CLAIMS_CONTRADICT', message);
  }
  if (before.tenant !== after.tenant) return;
  if (before.sequence === after.sequence && digestOf(before) !== digestOf(after)) {
    const message = `tenant ${before.tenant} has two signed claims of tree ${before.sequence}`;
    yield shownBy(evidence, 'CLAIMS_CONTRADICT', message);
  } else if (
    sameAddress(before.account, after.account) &&
    BigInt(after.cumulative) < BigInt(before.cumulative)
  ) {
    const message = `account ${after.account} had ${before.cumulative} in tree ${before.sequence}, and has ${after.cumulative} in tree ${after.sequence}`;
    yield shownBy(evidence, 'CLAIM_FELL', message);
  }
}

/** A claim to another account than the owner expects. */
export function* unexpectedAccounts(claims: readonly Named<Claim>[], expected: string): Generator<Finding> {
  for (const { name, document } of claims) {
    const { account, sequence } = document.claim;
    if (sameAddress(account, expected)) continue;
    const message = `tree ${sequence} pays the account ${account}, not ${expected}`;
    yield knownBy([name], 'ACCOUNT_UNEXPECTED', message);
  }
}

/**
 * Compares what the newest claim of a tenant pays with what the receipts earned until then. A receipt is signed after it was posted,
 * so that one which was signed before the time has to be paid; what is less than the token's smallest unit is carried.
 */
export function* underpaidClaims(
  claims: readonly Named<Claim>[],
  records: readonly ReceiptRecord[],
): Generator<Finding> {
  const newest = new Map(claims.map((claim) => [claim.document.claim.tenant, claim]));
  for (const { name, document } of newest.values()) {
    const { tenant, currency, decimals, payouts } = document.claim;
    const until = payouts.reduce((latest, { earnedBefore }) => {
      const at = BigInt(earnedBefore);
      return at > latest ? at : latest;
    }, 0n);
    const of = records.filter((record) => record.currency === currency && record.signedAt < until);
    const earning = of.filter((record) => earnedBy(record, tenant) > 0n);
    const earned = sum(earning.map((record) => earnedBy(record, tenant)));
    const paid = sum(payouts.map(({ amount }) => BigInt(amount)));
    if (inUnits(earned > paid ? earned - paid : 0n, BigInt(decimals)).units === 0n) continue;
    const message = `tenant ${tenant} was paid ${currency} ${paid}, but the receipts that are held earned ${earned} before ${until}: ${earned - paid} are missing, unless they were paid in another way or corrected`;
    yield knownBy([name, ...earning.flatMap(({ names }) => names)], 'CLAIM_UNDERPAID', message);
  }
}

function earnedBy({ parts }: ReceiptRecord, tenant: string): bigint {
  return sum(
    parts.flatMap(({ earned }) =>
      (earned ?? []).filter((one) => one.tenant === tenant).map(({ amount }) => amount),
    ),
  );
}
