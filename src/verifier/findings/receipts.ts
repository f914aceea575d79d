import { type Counter, merged, type ReceiptRecord } from '../bundle/record.ts';
import { short } from '../shown.ts';
import { type Finding, shownBy } from './finding.ts';

/** All receipts that are given, each once, whatever number of views there are of it. */
export class ReceiptIndex {
  readonly #byLeaf = new Map<string, ReceiptRecord>();
  readonly #findings: Finding[] = [];

  /** Adds what a receipt says. What nobody signed for says nothing. */
  add(record: ReceiptRecord): void {
    if (!record.signed) return;
    const before = this.#byLeaf.get(record.leaf);
    if (before === undefined) {
      this.#byLeaf.set(record.leaf, record);
      return;
    }
    const [one, other] = [before.place?.index, record.place?.index];
    if (one !== undefined && other !== undefined && one !== other) {
      const message = `the receipt of request ${record.id} is in the log at ${one} and at ${other}`;
      this.#findings.push(shownBy([before.names, record.names], 'LEAF_TWICE', message));
    }
    this.#byLeaf.set(record.leaf, merged(before, record));
  }

  all(): readonly ReceiptRecord[] {
    return [...this.#byLeaf.values()];
  }

  /** Receipts that the platform signed and that cannot both be true. */
  findings(): readonly Finding[] {
    return [...this.#findings, ...this.#contradictions(), ...this.#numbersTwice()];
  }

  *#contradictions(): Generator<Finding> {
    const byId = new Map<string, ReceiptRecord>();
    for (const record of this.#byLeaf.values()) {
      const other = byId.get(record.id);
      byId.set(record.id, record);
      if (other === undefined) continue;
      const message = `request ${record.id} has two signed receipts, with the leaves ${short(other.leaf)} and ${short(record.leaf)}${differences(other, record)}`;
      yield shownBy([other.names, record.names], 'RECEIPTS_CONTRADICT', message);
    }
  }

  *#numbersTwice(): Generator<Finding> {
    const byNumber = new Map<string, ReceiptRecord>();
    for (const record of this.#byLeaf.values()) {
      for (const { kind, subject, counter } of numbersOf(record)) {
        const name = `${kind} ${subject}: ${counter.lane}:${counter.number}`;
        const other = byNumber.get(name);
        byNumber.set(name, record);
        if (other === undefined || other.id === record.id) continue;
        const message = `requests ${other.id} and ${record.id} both have the number ${counter.lane}:${counter.number} of ${kind} ${subject}`;
        yield shownBy([other.names, record.names], 'NUMBER_TWICE', message);
      }
    }
  }
}

/** The numbers of a receipt that are open, and whose they are. */
export function* numbersOf(record: ReceiptRecord): Generator<{
  readonly kind: 'tenant' | 'version';
  readonly subject: string;
  readonly counter: Counter;
}> {
  const { tenant, counter, parts } = record;
  if (tenant !== undefined && counter !== undefined) yield { kind: 'tenant', subject: tenant, counter };
  for (const part of parts) {
    if (part.version === undefined || part.version === '' || part.counter === undefined) continue;
    yield { kind: 'version', subject: part.version, counter: part.counter };
  }
}

/** Which of the open values two receipts of one request differ in. */
function differences(one: ReceiptRecord, other: ReceiptRecord): string {
  const names = ['promptTokens', 'cachedPromptTokens', 'completionTokens', 'amount'] as const;
  const found = names.flatMap((name) =>
    one[name] === other[name] ? [] : [`${name} ${one[name] ?? 'not open'} and ${other[name] ?? 'not open'}`],
  );
  return found.length === 0 ? '' : `: ${found.join(', ')}`;
}
