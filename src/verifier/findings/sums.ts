import type { ReceiptRecord } from '../bundle/record.ts';
import type { Account } from '../input/epochs.ts';
import { counts, type KnownStatement } from './accounts.ts';
import { type Finding, type FindingCode, shownBy } from './finding.ts';
import type { Numbered } from './holder.ts';

/** An account beside the receipts of its subject that are held. */
interface Comparison {
  readonly statement: KnownStatement;
  readonly account: Account;
  readonly held: readonly Numbered[];
  /** Whether a receipt is held for every number of the account. */
  readonly complete: boolean;
}

/** Sums by what they are of, such as `earned USD <tenant>`. */
type Sums = ReadonlyMap<string, bigint>;

/**
 * Compares what an account sums up with the sums over the receipts that belong to it. With all of them, both have to be the same;
 * with some of them, the account has at least as much.
 */
export function* compareSums({ statement, account, held, complete }: Comparison): Generator<Finding> {
  const { epoch } = statement.epoch.document;
  const quarantined = new Set(epoch.quarantined.map(({ request }) => request));
  // What was quarantined without a leaf is counted by its number when the leaf comes.
  const released = new Set(epoch.released.flatMap(({ request, leaf }) => (leaf === null ? [] : [request])));
  const own = held
    .filter(
      ({ record: { request }, lane, number }) =>
        (counts(statement, lane, number) && !quarantined.has(request)) || released.has(request),
    )
    .map(({ record }) => record);
  // What was released and is not held may be somebody else's, or the holder's.
  const ownRequests = new Set(own.map(({ request }) => request));
  const allKnown = complete && [...released].every((request) => ownRequests.has(request));
  const [said, due] = [saidBy(account), sumOf(own, account)];
  if (due === null) return;
  const evidence = [statement.name, statement.epoch.name, ...own.flatMap(({ names }) => names)];
  const who = `epoch ${epoch.number}: ${account.kind} ${account.subject}`;
  for (const name of new Set([...said.keys(), ...due.keys()])) {
    const [has, should] = [said.get(name) ?? 0n, due.get(name) ?? 0n];
    if (has === should || (!allKnown && has > should)) continue;
    const of = allKnown ? 'its receipts give' : 'the receipts that are held alone give';
    yield shownBy(evidence, codeOf(name, has > should), `${who} has ${name} ${has}, but ${of} ${should}`);
  }
  yield* compareOwners(account, own, evidence, who);
  yield* compareDocuments(account, own, evidence, who);
}

function codeOf(name: string, more: boolean): FindingCode {
  if (name.startsWith('charged')) return more ? 'OVERCHARGED' : 'ACCOUNT_DIFFERS';
  if (name.startsWith('fee')) return more ? 'UNDERPAID' : 'ACCOUNT_DIFFERS';
  if (name.startsWith('royalty') || name.startsWith('earned')) return more ? 'ACCOUNT_DIFFERS' : 'UNDERPAID';
  return 'COUNTS_DIFFER';
}

function saidBy(account: Account): Sums {
  const found = new Map([
    ['receipts', BigInt(account.receipts)],
    ['promptTokens', BigInt(account.promptTokens)],
    ['cachedPromptTokens', BigInt(account.cachedPromptTokens)],
    ['completionTokens', BigInt(account.completionTokens)],
  ]);
  if (account.kind === 'tenant') {
    for (const { currency, amount } of account.charged) found.set(`charged ${currency}`, BigInt(amount));
    return found;
  }
  for (const { currency, royalty, fee, earned } of account.royalties) {
    found.set(`royalty ${currency}`, BigInt(royalty)).set(`fee ${currency}`, BigInt(fee));
    for (const { tenant, amount } of earned) found.set(`earned ${currency} ${tenant}`, BigInt(amount));
  }
  return found;
}

/** The same sums over receipts; null when a receipt does not open what it takes. */
function sumOf(records: readonly ReceiptRecord[], { kind, subject }: Account): Sums | null {
  const found = new Map<string, bigint>([['receipts', BigInt(records.length)]]);
  const add = (name: string, amount: bigint): void => {
    if (amount !== 0n) found.set(name, (found.get(name) ?? 0n) + amount);
  };
  for (const record of records) {
    const { promptTokens, cachedPromptTokens, completionTokens, currency } = record;
    if (promptTokens === undefined || cachedPromptTokens === undefined || completionTokens === undefined)
      return null;
    add('promptTokens', promptTokens);
    add('cachedPromptTokens', cachedPromptTokens);
    add('completionTokens', completionTokens);
    if (currency === undefined) return null;
    if (currency === '') continue;
    if (kind === 'tenant') {
      if (record.amount === undefined) return null;
      add(`charged ${currency}`, record.amount);
      continue;
    }
    const part = record.parts.find(({ version }) => version === subject);
    if (part?.royalty === undefined || part.fee === undefined || part.earned === undefined) return null;
    add(`royalty ${currency}`, part.royalty);
    add(`fee ${currency}`, part.fee);
    for (const { tenant, amount } of part.earned) add(`earned ${currency} ${tenant}`, amount);
  }
  return found;
}

function* compareOwners(
  account: Account,
  own: readonly ReceiptRecord[],
  evidence: readonly string[],
  who: string,
): Generator<Finding> {
  if (account.kind !== 'version') return;
  const owners = own.flatMap(
    ({ parts }) => parts.find(({ version }) => version === account.subject)?.owner ?? [],
  );
  const other = owners.find((owner) => owner !== account.owner);
  if (other === undefined) return;
  yield shownBy(
    [evidence],
    'UNDERPAID',
    `${who} belongs to ${account.owner}, but its receipts say to ${other}`,
  );
}

/** An account may list more than its subject can see: splits are open to owners alone. */
function* compareDocuments(
  account: Account,
  own: readonly ReceiptRecord[],
  evidence: readonly string[],
  who: string,
): Generator<Finding> {
  const named = new Set(
    own.flatMap(({ parts }) =>
      parts
        .filter(({ version }) => account.kind === 'tenant' || version === account.subject)
        .flatMap(({ documents }) => documents),
    ),
  );
  const listed = new Set(account.documents);
  const missing = [...named].filter((digest) => !listed.has(digest));
  if (missing.length === 0) return;
  const message = `${who} does not list ${missing.slice(0, 3).join(', ')}, which its receipts name`;
  yield shownBy([evidence], 'ACCOUNT_DIFFERS', message);
}
