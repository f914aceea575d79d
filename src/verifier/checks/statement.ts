import { accountCommitment, accountKey, accountLeaf } from '../hashing/accounts.ts';
import { EMPTY_ROOT, rootFromInclusion } from '../hashing/merkle.ts';
import type { Account, Epoch, Neighbour, Statement } from '../input/epochs.ts';
import { sum } from '../pricing/arithmetic.ts';
import { judged, type Step, unchecked } from '../step.ts';
import { ascends } from './epoch.ts';
import { countOf, parseRange } from './ranges.ts';

/** Checks that an epoch has the account, or none, and that what the account says is possible. */
export function checkStatement(statement: Statement, epoch: Epoch | null): readonly Step[] {
  const { present } = statement;
  const sense =
    present === null
      ? []
      : [
          judged(
            'statement.account',
            [...accountFaults(statement, present.account, epoch)],
            described(present.account),
          ),
        ];
  if (epoch === null) {
    return [
      unchecked('statement.path', `epoch ${statement.epoch} is not given, to whose accounts it should lead`),
      ...sense,
    ];
  }
  const step =
    present === null
      ? judged('statement.path', [...absenceFaults(statement, epoch)], `no account is between its neighbours`)
      : judged(
          'statement.path',
          [...presenceFaults(statement, epoch)],
          `place ${present.index} of ${epoch.epoch.accounts.size} leads to the root of the accounts of epoch ${statement.epoch}`,
        );
  return [step, ...sense];
}

function* presenceFaults(
  { log, epoch: number, kind, subject, present }: Statement,
  { epoch }: Epoch,
): Generator<string> {
  if (present === null) return;
  const { salt, account, index, path } = present;
  const key = accountKey(log, BigInt(number), { kind, subject });
  const leaf = accountLeaf(key, accountCommitment(salt, account));
  const size = BigInt(epoch.accounts.size);
  const root = rootFromInclusion({ leaf, index: BigInt(index), size, path });
  if (root !== epoch.accounts.root) {
    yield `place ${index} of ${size} leads to ${root ?? 'no root'}, but epoch ${number} has the root ${epoch.accounts.root}`;
  }
}

/** The subject's key lies between those of two leaves that follow each other, or before the first, or behind the last. */
function* absenceFaults(
  { log, epoch: number, kind, subject, absent }: Statement,
  { epoch }: Epoch,
): Generator<string> {
  if (absent === null) return;
  const { before, after } = absent;
  const { root, size: count } = epoch.accounts;
  const key = accountKey(log, BigInt(number), { kind, subject });
  const size = BigInt(count);
  for (const neighbour of [before, after]) {
    if (neighbour !== null && rootOf(neighbour, size) !== root) {
      yield `the neighbour at place ${neighbour.index} of ${size} does not lead to the root ${root}`;
    }
  }
  if (before !== null && before.key >= key)
    yield 'the key of the neighbour before it is not smaller than its own';
  if (after !== null && after.key <= key)
    yield 'the key of the neighbour after it is not larger than its own';
  if (before !== null && after !== null && BigInt(after.index) !== BigInt(before.index) + 1n) {
    yield `places ${before.index} and ${after.index} do not follow each other`;
  }
  if (before === null && after !== null && after.index !== '0')
    yield `nothing is before place ${after.index}`;
  if (after === null && before !== null && BigInt(before.index) !== size - 1n)
    yield `nothing is after place ${before.index}`;
  if (before === null && after === null && (size !== 0n || root !== EMPTY_ROOT)) {
    yield `the epoch has ${size} accounts, but neither neighbour is given`;
  }
}

function rootOf({ index, key, commitment, path }: Neighbour, size: bigint): string | null {
  return rootFromInclusion({ leaf: accountLeaf(key, commitment), index: BigInt(index), size, path });
}

function* accountFaults(
  { kind, subject }: Statement,
  account: Account,
  epoch: Epoch | null,
): Generator<string> {
  if (account.kind !== kind || account.subject !== subject) {
    yield `the account is of ${account.kind} ${account.subject}, the statement of ${kind} ${subject}`;
  }
  yield* laneFaults(account);
  if (BigInt(account.cachedPromptTokens) > BigInt(account.promptTokens))
    yield 'more prompt tokens were reused than there were';
  if (!ascends(account.documents)) yield 'its documents do not ascend';
  const money =
    account.kind === 'tenant'
      ? account.charged.flatMap(({ amount }) => amount)
      : account.royalties.flatMap(({ royalty }) => royalty);
  const empty = [account.promptTokens, account.completionTokens, ...money].every((text) => text === '0');
  if (account.receipts === '0' && (!empty || account.documents.length > 0))
    yield 'it has amounts, but no receipts';
  yield* account.kind === 'tenant' ? chargeFaults(account.charged) : royaltyFaults(account.royalties);
  if (epoch !== null) yield* leafFaults(account, epoch);
}

function* laneFaults({ lanes }: Account): Generator<string> {
  for (const [index, { lane, last, numbers }] of lanes.entries()) {
    const before = lanes[index - 1];
    if (before !== undefined && BigInt(before.lane) >= BigInt(lane))
      yield `lane ${lane} follows lane ${before.lane}`;
    const ranges = numbers.map(parseRange);
    for (const [place, { first }] of ranges.entries()) {
      const previous = ranges[place - 1];
      if (previous !== undefined && first <= previous.last + 1n)
        yield `in lane ${lane}, ${first} follows ${previous.last}`;
    }
    const highest = ranges.at(-1)?.last ?? 0n;
    if (highest > BigInt(last)) yield `lane ${lane} has the number ${highest}, but its last is ${last}`;
  }
}

function* chargeFaults(
  charged: readonly { readonly currency: string; readonly amount: string }[],
): Generator<string> {
  if (
    !charged.every(
      ({ currency }, index) => index === 0 || currency > (charged[index - 1]?.currency ?? currency),
    )
  ) {
    yield 'its currencies do not ascend';
  }
  for (const { currency, amount } of charged) if (amount === '0') yield `${currency} is listed with nothing`;
}

function* royaltyFaults(royalties: Extract<Account, { kind: 'version' }>['royalties']): Generator<string> {
  if (
    !royalties.every(
      ({ currency }, index) => index === 0 || currency > (royalties[index - 1]?.currency ?? currency),
    )
  ) {
    yield 'its currencies do not ascend';
  }
  for (const { currency, royalty, fee, earned } of royalties) {
    if (royalty === '0') yield `${currency} is listed with nothing`;
    if (!ascends(earned.map(({ tenant }) => tenant))) yield `those who earn ${currency} do not ascend`;
    if (earned.some(({ amount }) => amount === '0')) yield `somebody is listed who earns no ${currency}`;
    const total = sum(earned.map(({ amount }) => BigInt(amount)));
    if (total !== BigInt(royalty) - BigInt(fee)) {
      yield `${currency} ${royalty} less the fee of ${fee} is not ${total}, which is what is earned`;
    }
  }
}

/** What the epoch as a whole leaves room for. */
function* leafFaults(account: Account, { epoch }: Epoch): Generator<string> {
  const numbers = sum(account.lanes.map(({ numbers }) => countOf(numbers.map(parseRange))));
  const leaves = BigInt(epoch.size) - BigInt(epoch.firstSize);
  if (numbers > leaves) yield `it has ${numbers} numbers, but the epoch ${leaves} leaves`;
  const receipts = BigInt(account.receipts);
  const quarantined = BigInt(epoch.quarantined.filter(({ leaf }) => leaf !== null).length);
  const released = BigInt(epoch.released.filter(({ leaf }) => leaf !== null).length);
  if (receipts > numbers + released)
    yield `it sums up ${receipts} receipts, but has ${numbers} numbers, and ${released} are released`;
  if (receipts + quarantined < numbers)
    yield `it sums up ${receipts} receipts of ${numbers} numbers, but ${quarantined} are quarantined`;
}

function described(account: Account): string {
  const money =
    account.kind === 'tenant'
      ? account.charged.map(({ currency, amount }) => `charged ${currency} ${amount}`)
      : account.royalties.map(({ currency, royalty, fee }) => `royalty ${currency} ${royalty}, fee ${fee}`);
  const lanes = account.lanes.map(
    ({ lane, last, numbers }) => `${lane}:${numbers.slice(0, 4).join(',')} of ${last}`,
  );
  return [
    `${account.kind} ${account.subject}: ${account.receipts} receipts`,
    ...(lanes.length === 0 ? [] : [`numbers ${lanes.slice(0, 4).join(' ')}`]),
    ...money.slice(0, 4),
  ].join(', ');
}
