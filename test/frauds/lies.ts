import type { ChainView } from '../../src/verifier/chain/view.ts';
import { at } from '../unit/verifier/vectors.ts';
import type { Account } from './books.ts';
import { HOUR, type Issued, START, TENANT_A, TENANT_B, uuid, VERSION } from './operator.ts';
import type { Documents, Scenario } from './scenario.ts';

export const amount = (account: Account, change: (amount: bigint) => bigint): Account => {
  const charged = JSON.parse(JSON.stringify(account['charged']));
  charged[0].amount = String(change(BigInt(charged[0].amount)));
  return { ...account, charged };
};
export const ofVersion = (change: (account: Account) => readonly Account[]) => (account: Account) =>
  account['subject'] === VERSION ? change(account) : [account];
export const ofTenant = (change: (account: Account) => readonly Account[]) => (account: Account) =>
  account['subject'] === TENANT_A ? change(account) : [account];
/** The second request: its id follows from its place. */
export const SECOND = uuid(1_002);
export const allBut = (place: number) => (entries: readonly Issued[]) =>
  entries.filter((_, index) => index !== place);
export const signedAnew = (
  scenario: Scenario,
  place: number,
  change: (entry: Issued) => Issued['facts'],
): Issued => {
  const entry = scenario.entries[place];
  if (entry === undefined) throw new Error('There is no such receipt.');
  return scenario.operator.issue(change(entry), entry.signedAt);
};
/** Contracts that have what they are given. */
export const chainWith = (
  answers: Readonly<Record<string, unknown>>,
  time = START + 10 * HOUR,
): ChainView => ({
  chainId: 31_337n,
  block: 100n,
  time: BigInt(time),
  read: (_address, _abi, name) => Promise.resolve(name in answers ? [answers[name]] : null),
});
export const earnedBy = (scenario: Scenario, tenant: string): bigint =>
  scenario.entries.reduce(
    (sum, { earned }) => sum + (earned.find((one) => one.tenant === tenant)?.amount ?? 0n),
    0n,
  );
export const paid = (sum: bigint) => [{ amount: sum, earnedBefore: START + 4 * HOUR }];

/** A history of which every receipt is another one. */
export function rewritten(facts: Issued['facts']): Issued['facts'] {
  return { ...facts, finish: 'cancelled' };
}

export function objectOf(document: Documents[string]): Documents {
  if (typeof document !== 'object' || document === null || Array.isArray(document))
    throw new Error('It is no object.');
  return document;
}

/** What an owner holds when the second request is hidden, and what its tenant shows them. */
export async function hidden(scenario: Scenario): Promise<Documents> {
  return { ...(await scenario.owner([0, 2, 3, 4, 5, 6])), shown: await scenario.receipt(1, TENANT_B) };
}

/** A receipt of which a field is not opened. */
export function closed(receipt: Documents[string] | undefined, name: string): Documents[string] {
  const opened = at(receipt ?? null, 'opened');
  if (!Array.isArray(opened)) throw new Error('It is no receipt.');
  return { ...objectOf(receipt ?? null), opened: opened.filter((field) => at(field, 'name') !== name) };
}
