import type { ReceiptRecord } from '../bundle/record.ts';
import { countOf, type Range, rangesText, united, without } from '../checks/ranges.ts';
import { counts, type KnownStatement, type Subject } from './accounts.ts';
import { type KnownEpoch, quarantineOf } from './epochs.ts';
import { type Audit, type Finding, knownBy, shownBy } from './finding.ts';
import type { LogView } from './log.ts';
import { numbersOf } from './receipts.ts';
import { compareSums } from './sums.ts';

/** A receipt with the number that a tenant or an adapter version has for it. */
export interface Numbered {
  readonly record: ReceiptRecord;
  readonly lane: string;
  readonly number: bigint;
}

/** What the holder has, beside the epoch that is audited. */
export interface Holding {
  readonly records: readonly ReceiptRecord[];
  readonly epochs: ReadonlyMap<bigint, KnownEpoch>;
  readonly log: LogView;
}

/** Receipts by whose number they have. */
export function bySubject(records: readonly ReceiptRecord[]): ReadonlyMap<string, readonly Numbered[]> {
  const found = new Map<string, Numbered[]>();
  for (const record of records) {
    for (const { kind, subject, counter } of numbersOf(record)) {
      const name = `${kind} ${subject}`;
      const known = found.get(name);
      const numbered = { record, lane: counter.lane, number: counter.number };
      if (known === undefined) found.set(name, [numbered]);
      else known.push(numbered);
    }
  }
  return found;
}

/** Compares the account of a subject in an epoch with the receipts that are held. */
export function auditAccount(
  subject: Subject,
  statement: KnownStatement,
  held: readonly Numbered[],
  holding: Holding,
): Audit {
  const { epoch, account } = statement;
  const evidence = [statement.name, epoch.name];
  const findings = [...misplaced(subject, statement, held, holding)];
  const missing = missingOf(statement, held);
  for (const [lane, ranges] of missing) {
    const message = `epoch ${epoch.number} counts ${countOf(ranges)} receipts of ${subject.kind} ${subject.subject} that are not held: lane ${lane}, numbers ${rangesText(ranges)}`;
    findings.push(knownBy(evidence, 'RECEIPT_MISSING', message));
  }
  const complete = missing.size === 0;
  if (complete) findings.push(...unnumbered(subject, statement, held, holding));
  if (account === null) return { findings, notes: [] };
  const sums = compareSums({ statement, account, held, complete });
  return { findings: [...findings, ...sums.findings], notes: sums.notes };
}

function missingOf(
  { lanes }: KnownStatement,
  held: readonly Numbered[],
): ReadonlyMap<string, readonly Range[]> {
  const found = new Map<string, readonly Range[]>();
  const numbered = rangesByLane(held);
  for (const [lane, { numbers }] of lanes) {
    const missing = without(numbers, numbered.get(lane) ?? []);
    if (missing.length > 0) found.set(lane, missing);
  }
  return found;
}

/** Receipts that are in the epoch's part of the log but not in its account, or the other way round. */
function* misplaced(
  { kind, subject }: Subject,
  statement: KnownStatement,
  held: readonly Numbered[],
  { log }: Holding,
): Generator<Finding> {
  const { epoch } = statement;
  const { firstSize, size } = epoch.document.epoch;
  const evidence = [statement.name, epoch.name];
  for (const { record, lane, number } of held) {
    const { place, id, names } = record;
    if (place === null || !log.connected(epoch.document.head, place.head)) continue;
    const inside = BigInt(firstSize) <= place.index && place.index < BigInt(size);
    const counted = counts(statement, lane, number);
    const what = `receipt ${lane}:${number} of ${kind} ${subject}, request ${id}, is in the log at ${place.index}`;
    if (inside && !counted) {
      const message = `${what}, which is in the range of epoch ${epoch.number}, but the account does not count it`;
      yield shownBy([names, evidence], 'RECEIPT_NOT_COUNTED', message);
    } else if (!inside && counted) {
      const message = `${what}, which is not in the range of epoch ${epoch.number}, but the account counts it`;
      yield shownBy([names, evidence], 'NUMBER_MISPLACED', message);
    }
    const last = statement.lanes.get(lane)?.last;
    if (place.index < BigInt(size) && last !== undefined && number > last) {
      const message = `${what}, but epoch ${epoch.number} says that the last number is ${last}`;
      yield shownBy([names, evidence], 'LAST_FALSE', message);
    }
  }
}

/**
 * Receipts of others that ran on an adapter version, of which its owner has no number. They do not open it; but when all numbers of
 * the account belong to receipts that are held, none of them is theirs.
 */
function* unnumbered(
  { kind, subject }: Subject,
  statement: KnownStatement,
  held: readonly Numbered[],
  { records, log }: Holding,
): Generator<Finding> {
  if (kind !== 'version') return;
  const { epoch } = statement;
  const { firstSize, size } = epoch.document.epoch;
  const own = new Set(held.map(({ record }) => record));
  for (const record of records) {
    const { place, parts, id, names } = record;
    if (own.has(record) || !parts.some(({ version }) => version === subject)) continue;
    if (place === null || !log.connected(epoch.document.head, place.head)) continue;
    if (place.index < BigInt(firstSize) || place.index >= BigInt(size)) continue;
    const counted = held.filter(({ lane, number }) => counts(statement, lane, number));
    const message = `request ${id} ran on version ${subject} and is in the log at ${place.index}, in the range of epoch ${epoch.number}, but every number that the account counts belongs to another receipt`;
    const evidence = [names, statement.name, epoch.name, ...counted.map((one) => one.record.names)];
    yield shownBy(evidence, 'RECEIPT_NOT_COUNTED', message);
  }
}

/**
 * Numbers between those of receipts that are held, which no account that is given has either. Without any statement of the subject
 * nothing says that its receipts were collected: an owner's own requests open numbers of its versions, too. Then it is a note.
 */
export function gaps(name: string, held: readonly Numbered[], statements: readonly KnownStatement[]): Audit {
  const findings: Finding[] = [];
  const notes: string[] = [];
  for (const [lane, ranges] of rangesByLane(held)) {
    const [first, last] = [ranges[0]?.first, ranges.at(-1)?.last];
    if (first === undefined || last === undefined) continue;
    const counted = statements.flatMap((statement) => statement.lanes.get(lane)?.numbers ?? []);
    const missing = without([{ first, last }], [...ranges, ...counted]);
    if (missing.length === 0) continue;
    const what = `of lane ${lane} of ${name}, the numbers ${rangesText(missing)} are between those of receipts that are held`;
    if (statements.length === 0) {
      notes.push(`${what}; no statement of it is given, so that they may never have been collected`);
      continue;
    }
    const ends = new Set(missing.flatMap((hole) => [hole.first - 1n, hole.last + 1n]));
    const edges = held.filter((one) => one.lane === lane && ends.has(one.number));
    findings.push(
      knownBy(
        edges.slice(0, 8).flatMap(({ record }) => record.names),
        'RECEIPT_MISSING',
        `${what}, but neither a receipt nor an account has them`,
      ),
    );
  }
  return { findings, notes };
}

/** Requests of the holder that are not paid for, because something in them did not match. */
export function* quarantines(epoch: KnownEpoch, { records, epochs }: Holding): Generator<Finding> {
  for (const { request, id, names } of records) {
    const found = quarantineOf(request, epochs);
    if (found?.epoch.number !== epoch.number) continue;
    const message = `epoch ${epoch.number} quarantines request ${id} as ${found.reason}, and no later epoch that is given releases it`;
    yield knownBy([names, found.epoch.name], 'QUARANTINED', message);
  }
}

function rangesByLane(held: readonly Numbered[]): ReadonlyMap<string, readonly Range[]> {
  const numbers = new Map<string, Range[]>();
  for (const { lane, number } of held) {
    const known = numbers.get(lane);
    if (known === undefined) numbers.set(lane, [{ first: number, last: number }]);
    else known.push({ first: number, last: number });
  }
  return new Map([...numbers].map(([lane, ranges]) => [lane, united(ranges)]));
}
