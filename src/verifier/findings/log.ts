import type { Dossier } from '../bundle/dossier.ts';
import type { ReceiptRecord } from '../bundle/record.ts';
import { connectedWith, type Growth, headName } from '../checks/connections.ts';
import type { Trust } from '../checks/keys.ts';
import { checkHead, growthOf } from '../checks/log.ts';
import type { SignedHead } from '../input/formats.ts';
import { short } from '../shown.ts';
import type { KnownEpoch } from './epochs.ts';
import { type Finding, knownBy, shownBy } from './finding.ts';

/** A root at a size that the platform signed, and the first document that has it. */
interface SeenHead {
  readonly name: string;
  readonly size: bigint;
  readonly head: Pick<SignedHead, 'size' | 'root'>;
}

/** All signed heads of all documents, and how they hang together. */
export interface LogView {
  /** Ascending by size, each root once. */
  readonly heads: readonly SeenHead[];
  /** The largest; null without any. */
  readonly newest: SeenHead | null;
  /** Whether proofs show two heads to be of one log. */
  readonly connected: (
    one: Pick<SignedHead, 'size' | 'root'>,
    other: Pick<SignedHead, 'size' | 'root'>,
  ) => boolean;
  readonly findings: readonly Finding[];
}

/** Looks at the heads of all documents; those that are not signed are no evidence of anything. */
export function viewLog(dossier: Dossier, records: Iterable<ReceiptRecord>, trust: Trust): LogView {
  const seen = new Map<string, SeenHead>();
  const note = (name: string, head: Pick<SignedHead, 'size' | 'root'>): void => {
    const key = headName(head);
    if (!seen.has(key)) seen.set(key, { name, size: BigInt(head.size), head });
  };
  const findings: Finding[] = [];
  const growths: Growth[] = [];
  const isSigned = (log: string, head: SignedHead): boolean =>
    checkHead('head', log, head, trust).result === 'true';
  for (const { name, document } of dossier.heads) {
    const heads =
      document.format === 'patchbay-head/1' ? [document.head] : [document.firstHead, document.secondHead];
    const signed = heads.filter((head) => isSigned(document.log, head));
    for (const head of signed) note(name, head);
    if (document.format === 'patchbay-head/1' || signed.length < 2) continue;
    const growth = growthOf(document);
    if (growth === null) findings.push(notGrown(name, document));
    else growths.push(growth);
  }
  for (const { name, document } of dossier.epochs) {
    if (isSigned(document.log, document.head)) note(name, document.head);
  }
  for (const { names, place } of records) if (place !== null) note(names[0] ?? '', place.head);
  const heads = [...seen.values()].sort((a, b) => (a.size < b.size ? -1 : a.size > b.size ? 1 : 0));
  const closures = new Map<string, ReadonlySet<string>>();
  const connected: LogView['connected'] = (one, other) => {
    const name = headName(one);
    const closure = closures.get(name) ?? connectedWith(one, growths);
    closures.set(name, closure);
    return closure.has(headName(other));
  };
  return { heads, newest: heads.at(-1) ?? null, connected, findings: [...findings, ...forks(heads)] };
}

function notGrown(
  name: string,
  { first, second }: { readonly first: string; readonly second: string },
): Finding {
  const message = `the log of ${first} leaves is not the beginning of that of ${second}, as far as this proof shows: no other proof can be right when the log was rewritten`;
  return knownBy([name], 'LOG_REWRITTEN', message);
}

function* forks(heads: readonly SeenHead[]): Generator<Finding> {
  for (const [index, one] of heads.entries()) {
    const other = heads[index + 1];
    if (other === undefined || other.size !== one.size) continue;
    const roots = `${short(one.head.root)} and ${short(other.head.root)}`;
    const message = `two signed heads of ${one.size} leaves have the roots ${roots}: the log was forked or rewritten`;
    yield shownBy([one.name, other.name], 'HEADS_CONTRADICT', message);
  }
}

/**
 * Heads that the reader kept and that nothing connects with the newest one, or with that of an epoch, which may be an older one: for
 * each, a proof has to be asked for.
 */
export function* unconnected(
  dossier: Dossier,
  { newest, connected }: LogView,
  epochs: Iterable<KnownEpoch>,
): Generator<Finding> {
  const others = [
    ...(newest === null ? [] : [newest]),
    ...[...epochs].map(({ name, document }) => ({ name, head: document.head })),
  ];
  for (const { name, document } of dossier.heads) {
    if (!dossier.kept.has(name) || document.format !== 'patchbay-head/1') continue;
    const { head } = document;
    // Two heads of one size are the same one, or a fork, which is a finding of its own.
    const apart = others.filter((other) => other.head.size !== head.size && !connected(other.head, head));
    if (apart.length === 0) continue;
    const sizes = [...new Set(apart.map((other) => other.head.size))].slice(0, MOST_NAMED).join(', ');
    const message = `nothing connects the log of ${head.size} leaves, which was kept, with that of ${sizes}: ask for the proof of consistency between them; the two signed heads are the evidence when none can be given`;
    yield knownBy(
      [name, ...apart.slice(0, MOST_NAMED).map((other) => other.name)],
      'HEAD_UNCONNECTED',
      message,
    );
  }
}

const MOST_NAMED = 8;
