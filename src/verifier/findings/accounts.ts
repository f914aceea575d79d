import type { Named } from '../bundle/dossier.ts';
import {
  countOf,
  includes,
  parseRange,
  type Range,
  rangesText,
  shared,
  united,
  without,
} from '../checks/ranges.ts';
import { checkStatement } from '../checks/statement.ts';
import { digestOf } from '../hashing/canonical.ts';
import type { Account, Statement } from '../input/epochs.ts';
import type { KnownEpoch } from './epochs.ts';
import { type Finding, knownBy, shownBy } from './finding.ts';

/** Who was counted, lane by lane; null in the place of an account that an epoch shows not to have. */
export interface KnownStatement extends Named<Statement> {
  readonly epoch: KnownEpoch;
  readonly account: Account | null;
  readonly lanes: ReadonlyMap<string, Lane>;
}

interface Lane {
  readonly last: bigint;
  readonly numbers: readonly Range[];
}

/** All statements of one tenant or adapter version that epochs confirm, by the numbers of the epochs. */
export interface Subject {
  readonly kind: 'tenant' | 'version';
  readonly subject: string;
  readonly statements: ReadonlyMap<bigint, KnownStatement>;
}

/** What statements say together. */
export interface AccountView {
  readonly subjects: readonly Subject[];
  readonly findings: readonly Finding[];
  /** What could not be compared, because epochs or statements are not given. */
  readonly gaps: readonly string[];
}

/** The log has a receipt, or an epoch says that it has not, ten minutes after the request ended. */
const LATEST_MS = 600_000n;

/** Orders statements by whom they are of, and finds what contradicts what in them. */
export function viewAccounts(
  given: readonly Named<Statement>[],
  epochs: ReadonlyMap<bigint, KnownEpoch>,
): AccountView {
  const found = new Map<string, Subject & { readonly statements: Map<bigint, KnownStatement> }>();
  const findings: Finding[] = [];
  for (const { name, document } of given) {
    const epoch = epochs.get(BigInt(document.epoch));
    const [path] = epoch === undefined ? [] : checkStatement(document, epoch.document);
    if (epoch === undefined || path?.result !== 'true') continue;
    const { kind, subject, present } = document;
    const key = `${kind} ${subject}`;
    const of = found.get(key) ?? { kind, subject, statements: new Map<bigint, KnownStatement>() };
    found.set(key, of);
    const before = of.statements.get(epoch.number);
    const account = present?.account ?? null;
    if (
      before !== undefined &&
      (before.account === null ? '' : digestOf(before.account)) !==
        (account === null ? '' : digestOf(account))
    ) {
      const message = `epoch ${epoch.number} has two accounts of ${key} that differ`;
      findings.push(shownBy([before.name, name, epoch.name], 'ACCOUNTS_CONTRADICT', message));
    }
    if (before === undefined)
      of.statements.set(epoch.number, { name, document, epoch, account, lanes: lanesOf(account) });
  }
  const subjects = [...found.values()];
  const left = subjects.map((subject) => unaccounted(subject, epochs));
  return {
    subjects,
    findings: [
      ...findings,
      ...subjects.flatMap((subject) => [...acrossEpochs(subject)]),
      ...left.flatMap((one) => one.findings),
    ],
    gaps: [
      ...subjects.flatMap((subject) => [...missingStatements(subject, epochs)]),
      ...left.flatMap((one) => one.gaps),
    ],
  };
}

/** Of which epochs nothing is known of a subject. What is not given can have the numbers that the others lack. */
function* missingStatements(
  { kind, subject, statements }: Subject,
  epochs: ReadonlyMap<bigint, KnownEpoch>,
): Generator<string> {
  const latest = [...epochs.keys()].at(-1) ?? 0n;
  const missing = without([{ first: 1n, last: latest }], rangesOf(statements.keys()));
  if (missing.length === 0) return;
  yield `no statement of ${kind} ${subject} is given for the epochs ${rangesText(missing)}: whether a number was left out cannot be said`;
}

function rangesOf(numbers: Iterable<bigint>): readonly Range[] {
  return [...numbers].map((number) => ({ first: number, last: number }));
}

function lanesOf(account: Account | null): ReadonlyMap<string, Lane> {
  return new Map(
    (account?.lanes ?? []).map(({ lane, last, numbers }) => [
      lane,
      { last: BigInt(last), numbers: united(numbers.map(parseRange)) },
    ]),
  );
}

/** The statements of earlier epochs that have a lane, and all numbers of it that they count. */
interface Earlier {
  readonly statements: readonly KnownStatement[];
  readonly numbers: readonly Range[];
}

/** No number comes twice, and the last number does not fall. */
function* acrossEpochs({ kind, subject, statements }: Subject): Generator<Finding> {
  const who = `${kind} ${subject}`;
  const before = new Map<string, Earlier>();
  for (const statement of statements.values()) {
    yield* lostLanes(who, statement, before);
    for (const [name, lane] of statement.lanes) {
      const earlier = before.get(name) ?? { statements: [], numbers: [] };
      if (shared(lane.numbers, earlier.numbers).length > 0) {
        yield* countedTwice(who, name, statement, earlier.statements);
      }
      const highest = earlier.statements.at(-1);
      const fell = highest?.lanes.get(name)?.last ?? 0n;
      if (highest !== undefined && fell > lane.last) {
        const message = `the last number of lane ${name} of ${who} fell from ${fell} in epoch ${highest.epoch.number} to ${lane.last} in epoch ${statement.epoch.number}`;
        yield shownBy(
          [highest.name, highest.epoch.name, statement.name, statement.epoch.name],
          'LAST_FALSE',
          message,
        );
      }
      before.set(name, {
        statements: [...earlier.statements, statement],
        numbers: united([...earlier.numbers, ...lane.numbers]),
      });
    }
  }
}

/** An account has all lanes in which its subject was ever counted. */
function* lostLanes(
  who: string,
  statement: KnownStatement,
  before: ReadonlyMap<string, Earlier>,
): Generator<Finding> {
  if (statement.account === null) return;
  for (const [name, { statements }] of before) {
    const by = statements.at(-1);
    if (by === undefined || statement.lanes.has(name)) continue;
    const message = `epoch ${by.epoch.number} has lane ${name} of ${who}, and the account of epoch ${statement.epoch.number} leaves it out`;
    yield shownBy([by.name, by.epoch.name, statement.name, statement.epoch.name], 'LAST_FALSE', message);
  }
}

function* countedTwice(
  who: string,
  lane: string,
  statement: KnownStatement,
  earlier: readonly KnownStatement[],
): Generator<Finding> {
  for (const by of earlier) {
    const twice = shared(statement.lanes.get(lane)?.numbers ?? [], by.lanes.get(lane)?.numbers ?? []);
    if (twice.length === 0) continue;
    const message = `epochs ${by.epoch.number} and ${statement.epoch.number} both count the numbers ${rangesText(twice)} of lane ${lane} of ${who}`;
    yield shownBy(
      [by.name, by.epoch.name, statement.name, statement.epoch.name],
      'NUMBER_COUNTED_TWICE',
      message,
    );
  }
}

/**
 * Numbers that were given out and that no epoch has, although one ends at a head that was signed later than a receipt may be late:
 * what that epoch has is what the log had then, however late it closed. Only where every epoch from the first to that one shows its
 * account, as the numbers could be in another one.
 */
function unaccounted(
  { kind, subject, statements }: Subject,
  epochs: ReadonlyMap<bigint, KnownEpoch>,
): Pick<AccountView, 'findings' | 'gaps'> {
  const findings: Finding[] = [];
  const gaps: string[] = [];
  let newest = 0n;
  while (statements.has(newest + 1n)) newest += 1n;
  const all = [...statements.values()].filter(({ epoch }) => epoch.number <= newest);
  const shownUntil = all.reduce((latest, { epoch }) => larger(latest, headAt(epoch)), 0n);
  const due = all.filter(({ epoch }) => closedAt(epoch) + LATEST_MS <= shownUntil);
  const waiting = missingLeaves(epochs, newest);
  const evidence = all.flatMap((statement) => [statement.name, statement.epoch.name]);
  for (const name of new Set(all.flatMap((statement) => [...statement.lanes.keys()]))) {
    const counted = all.flatMap((statement) => statement.lanes.get(name)?.numbers ?? []);
    const missingOf = (last: bigint): readonly Range[] =>
      last === 0n ? [] : without([{ first: 1n, last }], counted);
    const dueLast = lastOf(due, name);
    const [missing, early] = [missingOf(dueLast), missingOf(lastOf(all, name))];
    const text = (ranges: readonly Range[]): string =>
      `the numbers ${rangesText(ranges)} of lane ${name} of ${kind} ${subject} were given out`;
    const late = without(early, missing);
    if (late.length > 0) {
      const message = `${text(late)}, and no epoch to ${newest} has them: they are due when one ends at a head that is signed ten minutes after the epoch that says so`;
      gaps.push(message);
    }
    if (missing.length === 0) continue;
    const by = due.find(({ lanes }) => lanes.get(name)?.last === dueLast)?.epoch.number;
    const what = `${text(missing)} before epoch ${by} closed, and no epoch to ${newest} has them`;
    const maybe = `${what}; ${waiting} requests are quarantined as LEAF_MISSING, which may be these`;
    findings.push(
      waiting < countOf(missing)
        ? shownBy(evidence, 'USAGE_UNACCOUNTED', what)
        : knownBy(evidence, 'USAGE_UNACCOUNTED', maybe),
    );
  }
  return { findings, gaps };
}

/** The highest last number of a lane that statements say: what one of them leaves out was given out all the same. */
function lastOf(statements: readonly KnownStatement[], lane: string): bigint {
  return statements.reduce((most, { lanes }) => larger(most, lanes.get(lane)?.last ?? 0n), 0n);
}

/** Requests without a leaf that epochs quarantine and have not released. */
function missingLeaves(epochs: ReadonlyMap<bigint, KnownEpoch>, until: bigint): bigint {
  const waiting = new Set<string>();
  for (const { number, document } of epochs.values()) {
    if (number > until) break;
    for (const { request } of document.epoch.released) waiting.delete(request);
    for (const { request, leaf } of document.epoch.quarantined) if (leaf === null) waiting.add(request);
  }
  return BigInt(waiting.size);
}

function closedAt({ document }: KnownEpoch): bigint {
  return BigInt(document.epoch.closedAt);
}

function headAt({ document }: KnownEpoch): bigint {
  return BigInt(document.head.signedAt);
}

function larger(one: bigint, other: bigint): bigint {
  return one > other ? one : other;
}

/** Whether a statement counts a number. */
export function counts({ lanes }: KnownStatement, lane: string, number: bigint): boolean {
  return includes(lanes.get(lane)?.numbers ?? [], number);
}
