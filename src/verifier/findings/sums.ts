import type { ReceiptRecord } from '../bundle/record.ts';
import type { Account } from '../input/epochs.ts';
import { counts, type KnownStatement } from './accounts.ts';
import { type Audit, type Finding, type FindingCode, shownBy } from './finding.ts';
import type { Numbered } from './holder.ts';

/** An account beside the receipts of its subject that are held. */
interface Comparison {
  readonly statement: KnownStatement;
  readonly account: Account;
  readonly held: readonly Numbered[];
  /** Whether a receipt is held for every number of the account. */
  readonly complete: boolean;
}

/** What receipts add up to. */
interface Sums {
  /** By what they are of, such as `earned USD <tenant>`. */
  readonly amounts: ReadonlyMap<string, bigint>;
  /** What a sum lacks, by how its name begins: which receipt does not open which field. */
  readonly closed: ReadonlyMap<string, string>;
}

/**
 * Compares what an account sums up with the sums over the receipts that belong to it. With all of them, both have to be the same;
 * with some of them, or when one does not open what a sum takes, the account has at least as much.
 */
export function compareSums({ statement, account, held, complete }: Comparison): Audit {
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
  // What was released and is not held may be somebody else's: then the account sums up no more receipts than these.
  const ownRequests = new Set(own.map(({ request }) => request));
  const allReleased = [...released].every((request) => ownRequests.has(request));
  const allKnown = complete && (allReleased || BigInt(account.receipts) === BigInt(own.length));
  const [said, due] = [saidBy(account), sumOf(own, account)];
  const evidence = [statement.name, statement.epoch.name, ...own.flatMap(({ names }) => names)];
  const who = `epoch ${epoch.number}: ${account.kind} ${account.subject}`;
  const findings: Finding[] = [];
  for (const name of new Set([...said.keys(), ...due.amounts.keys()])) {
    const [has, should] = [said.get(name) ?? 0n, due.amounts.get(name) ?? 0n];
    const exact = allKnown && ![...due.closed.keys()].some((closed) => isOf(name, closed));
    if (has === should || (!exact && has > should)) continue;
    const of = exact ? 'its receipts give' : 'the receipts that are held alone give';
    const message = `${who} has ${name} ${has}, but ${of} ${should}`;
    findings.push(shownBy(evidence, codeOf(name, has > should), message));
  }
  const notes = [...due.closed].map(([name, what]) => `${who}: ${name} is no exact comparison, as ${what}`);
  if (complete && !allKnown && BigInt(account.receipts) > BigInt(own.length)) {
    notes.push(
      `${who} sums up ${account.receipts} receipts, of which ${own.length} are held: others may have been released, and its sums are compared with what is held alone`,
    );
  }
  findings.push(
    ...compareOwners(account, own, evidence, who),
    ...compareDocuments(account, own, evidence, who),
  );
  return { findings, notes };
}

/** Whether a sum is of a kind, such as `earned USD <tenant>` of `earned USD`. */
function isOf(name: string, kind: string): boolean {
  return name === kind || name.startsWith(`${kind} `);
}

function codeOf(name: string, more: boolean): FindingCode {
  if (name.startsWith('charged')) return more ? 'OVERCHARGED' : 'ACCOUNT_DIFFERS';
  if (name.startsWith('fee')) return more ? 'UNDERPAID' : 'ACCOUNT_DIFFERS';
  if (name.startsWith('royalty') || name.startsWith('earned')) return more ? 'ACCOUNT_DIFFERS' : 'UNDERPAID';
  return 'COUNTS_DIFFER';
}

function saidBy(account: Account): ReadonlyMap<string, bigint> {
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

/** The same sums over receipts, as far as these open what it takes. */
function sumOf(records: readonly ReceiptRecord[], { kind, subject }: Account): Sums {
  const amounts = new Map<string, bigint>([['receipts', BigInt(records.length)]]);
  const closed = new Map<string, string>();
  for (const record of records) {
    const add = (name: string, amount: bigint | undefined, field: string, currency = ''): void => {
      const sum = currency === '' ? name : `${name} ${currency}`;
      if (amount === undefined) {
        if (!closed.has(sum)) closed.set(sum, `the receipt of request ${record.id} does not open ${field}`);
      } else if (amount !== 0n) amounts.set(sum, (amounts.get(sum) ?? 0n) + amount);
    };
    for (const name of ['promptTokens', 'cachedPromptTokens', 'completionTokens'] as const)
      add(name, record[name], name);
    const { currency } = record;
    if (currency === '') continue;
    if (kind === 'tenant') {
      add(
        'charged',
        currency === undefined ? undefined : record.amount,
        fieldOf(currency, 'amount'),
        currency,
      );
      continue;
    }
    const part = currency === undefined ? undefined : record.parts.find(({ version }) => version === subject);
    add('royalty', part?.royalty, fieldOf(currency, 'royalty'), currency);
    add('fee', part?.fee, fieldOf(currency, 'fee'), currency);
    if (part?.earned === undefined) add('earned', undefined, fieldOf(currency, 'what is earned'), currency);
    for (const { tenant, amount } of part?.earned ?? [])
      add(`earned ${currency} ${tenant}`, amount, 'earned');
  }
  return { amounts, closed };
}

/** Which field a sum lacks: without the currency, nobody knows to which sum an amount belongs. */
function fieldOf(currency: string | undefined, field: string): string {
  return currency === undefined ? 'currency' : field;
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

/** An account may list more than its subject can see: splits are open to owners alone, and no tenant's account names them. */
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
        .flatMap(({ documents, split }) =>
          account.kind === 'tenant' || split === null ? documents : [...documents, split],
        ),
    ),
  );
  const listed = new Set(account.documents);
  const missing = [...named].filter((digest) => !listed.has(digest));
  if (missing.length === 0) return;
  const message = `${who} does not list ${missing.slice(0, 3).join(', ')}, which its receipts name`;
  yield shownBy([evidence], 'ACCOUNT_DIFFERS', message);
}
