import type { Named } from '../bundle/dossier.ts';
import type { ReceiptRecord } from '../bundle/record.ts';
import { checkClaim, inUnits, sameAddress } from '../checks/claim.ts';
import type { Trust } from '../checks/keys.ts';
import { digestOf } from '../hashing/canonical.ts';
import type { Claim } from '../input/claims.ts';
import { sum } from '../pricing/arithmetic.ts';
import { type Audit, type Finding, knownBy, shownBy } from './finding.ts';

/** The claims that the platform signed, oldest tree first. One that is not signed is no evidence. */
export function signedClaims(given: readonly Named<Claim>[], trust: Trust): readonly Named<Claim>[] {
  return given.filter(({ document }) => checkClaim(document, trust)[0]?.result === 'true');
}

/** Signed claims that contradict each other, oldest tree first. */
export function* claimContradictions(claims: readonly Named<Claim>[]): Generator<Finding> {
  const trees = new Map<string, Named<Claim>>();
  const leaves = new Map<string, Named<Claim>>();
  const accounts = new Map<string, Named<Claim>>();
  for (const claim of claims) {
    const { claim: after } = claim.document;
    const place = `${after.chainId} ${nameOf(after.distributor)}`;
    const account = nameOf(after.account);
    const tree = firstOf(trees, `${place} ${after.sequence}`, claim);
    if (tree.document.claim.root !== after.root) {
      const message = `tree ${after.sequence} was signed with the roots ${tree.document.claim.root} and ${after.root}`;
      yield shownBy([tree.name, claim.name], 'CLAIMS_CONTRADICT', message);
    }
    const leaf = firstOf(leaves, `${place} ${after.sequence} ${after.tenant} ${account}`, claim);
    if (digestOf(leaf.document.claim) !== digestOf(after)) {
      const message = `tenant ${after.tenant} has two signed claims of tree ${after.sequence} to the account ${after.account}`;
      yield shownBy([leaf.name, claim.name], 'CLAIMS_CONTRADICT', message);
    }
    // The one with the most so far: what fell once is not found again with each that follows.
    const most = accounts.get(`${place} ${account}`);
    const before = most?.document.claim;
    if (before === undefined || BigInt(after.cumulative) >= BigInt(before.cumulative)) {
      accounts.set(`${place} ${account}`, claim);
    } else if (most !== undefined && before.sequence !== after.sequence) {
      const message = `account ${after.account} had ${before.cumulative} in tree ${before.sequence}, and has ${after.cumulative} in tree ${after.sequence}`;
      yield shownBy([most.name, claim.name], 'CLAIM_FELL', message);
    }
  }
}

/** What came first under a name, or the one that is given. */
function firstOf<T>(found: Map<string, T>, name: string, given: T): T {
  const before = found.get(name);
  if (before === undefined) found.set(name, given);
  return before ?? given;
}

/** An address by which others can be compared, however it was written. */
function nameOf(address: string): string {
  return address.toLowerCase();
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

/** What a tenant was paid in a currency, by the newest claim of each of its accounts. */
interface Paid {
  readonly tenant: string;
  readonly currency: string;
  readonly claims: readonly Named<Claim>[];
}

/** The newest claims by tenant and currency: of each account at each distributor one, as it has all payouts to the account. */
function newestClaims(claims: readonly Named<Claim>[]): readonly Paid[] {
  const newest = new Map<string, Named<Claim>>();
  for (const claim of claims) {
    const { tenant, chainId, distributor, account, currency } = claim.document.claim;
    newest.set([tenant, chainId, nameOf(distributor), nameOf(account), currency].join(' '), claim);
  }
  const found = new Map<string, Paid>();
  for (const claim of newest.values()) {
    const { tenant, currency } = claim.document.claim;
    const before = found.get(`${tenant} ${currency}`);
    const together = [...(before?.claims ?? []), claim];
    found.set(`${tenant} ${currency}`, { tenant, currency, claims: together });
  }
  return [...found.values()];
}

/**
 * Compares what the newest claims of a tenant pay with what the receipts earned until then. A receipt is signed after it was posted,
 * so that one which was signed before the time has to be paid; what is less than the token's smallest unit is carried. Of the others
 * a note says how much they earned: a claim can name any time, and leave out any currency.
 */
export function underpaidClaims(claims: readonly Named<Claim>[], records: readonly ReceiptRecord[]): Audit {
  const findings: Finding[] = [];
  const notes: string[] = [];
  const all = newestClaims(claims);
  for (const { tenant, currency, claims: own } of all) {
    const payouts = new Map(
      own.flatMap(({ document }) => document.claim.payouts.map((payout) => [payout.payout, payout] as const)),
    );
    const until = [...payouts.values()].reduce((latest, { earnedBefore }) => {
      const at = BigInt(earnedBefore);
      return at > latest ? at : latest;
    }, 0n);
    const earning = records.filter((record) => record.currency === currency && earnedBy(record, tenant) > 0n);
    const due = earning.filter(({ signedAt }) => signedAt < until);
    const later = earning.filter(({ signedAt }) => signedAt >= until);
    if (later.length > 0) {
      notes.push(
        `${later.length} receipts that earned tenant ${tenant} ${currency} ${total(later, tenant)} at or after ${until} are in no payout of a claim`,
      );
    }
    const earned = total(due, tenant);
    const paid = sum([...payouts.values()].map(({ amount }) => BigInt(amount)));
    // Each claim rounds by itself.
    const carried = (nano: bigint): boolean =>
      own.some(({ document }) => inUnits(nano, BigInt(document.claim.decimals)).units === 0n);
    if (earned <= paid || carried(earned - paid)) continue;
    const message = `tenant ${tenant} was paid ${currency} ${paid}, but the receipts that are held earned ${earned} before ${until}: ${earned - paid} are missing, unless they were paid in another way, to another account or corrected`;
    const evidence = [...own.map(({ name }) => name), ...due.flatMap(({ names }) => names)];
    findings.push(knownBy(evidence, 'CLAIM_UNDERPAID', message));
  }
  return { findings, notes: [...notes, ...unpaidCurrencies(all, records)] };
}

/** Currencies in which somebody who has claims earned, and of which no claim is given. */
function* unpaidCurrencies(paid: readonly Paid[], records: readonly ReceiptRecord[]): Generator<string> {
  const known = new Set(paid.map(({ tenant, currency }) => `${tenant} ${currency}`));
  for (const tenant of new Set(paid.map((one) => one.tenant))) {
    for (const currency of new Set(records.map((record) => record.currency))) {
      if (currency === undefined || currency === '' || known.has(`${tenant} ${currency}`)) continue;
      const of = records.filter((record) => record.currency === currency && earnedBy(record, tenant) > 0n);
      if (of.length > 0)
        yield `${of.length} receipts that earned tenant ${tenant} ${currency} ${total(of, tenant)} are in no payout of a claim`;
    }
  }
}

function total(records: readonly ReceiptRecord[], tenant: string): bigint {
  return sum(records.map((record) => earnedBy(record, tenant)));
}

function earnedBy({ parts }: ReceiptRecord, tenant: string): bigint {
  return sum(
    parts.flatMap(({ earned }) =>
      (earned ?? []).filter((one) => one.tenant === tenant).map(({ amount }) => amount),
    ),
  );
}
