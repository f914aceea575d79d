import type { ReceiptFacts } from '../../src/proofs/receipts/fields.ts';
import type { Json } from '../unit/verifier/vectors.ts';
import { Books, type Closing } from './books.ts';
import { HOUR, type Issued, Operator, OWNER, START, TENANT_A, TENANT_B, VERSION } from './operator.ts';

/** Documents by their names. */
export type Documents = { [name: string]: Json };

/** What an operator does otherwise than it should. */
export interface Plan {
  readonly operator?: Operator;
  /** Changes what a request says, by its place from 0, before it is signed. */
  readonly lie?: (facts: ReceiptFacts, place: number) => ReceiptFacts;
  /** Leaves out of the log, by place. */
  readonly unlogged?: readonly number[];
  /** By the numbers of the epochs. */
  readonly closings?: Readonly<Record<number, (entries: readonly Issued[]) => Closing>>;
}

/** Whose requests they are, epoch by epoch: the version has the numbers 1 to 4, 5 and 6, and 7. */
const EPOCHS = [[TENANT_A, TENANT_B, TENANT_A, TENANT_B], [TENANT_A, TENANT_B], [TENANT_A]];

/** An operator with three epochs that are an hour apart, and all that it can hand out of them. */
export class Scenario {
  readonly operator: Operator;
  readonly books: Books;
  readonly entries: readonly Issued[];
  readonly epochs: readonly Json[];

  private constructor(operator: Operator, books: Books, entries: readonly Issued[], epochs: readonly Json[]) {
    this.operator = operator;
    this.books = books;
    this.entries = entries;
    this.epochs = epochs;
  }

  static async play({
    operator = new Operator(),
    lie,
    unlogged = [],
    closings = {},
  }: Plan = {}): Promise<Scenario> {
    const books = new Books(operator);
    const entries: Issued[] = [];
    const epochs: Json[] = [];
    for (const [index, tenants] of EPOCHS.entries()) {
      for (const [number, tenant] of tenants.entries()) {
        const place = entries.length;
        const at = START + index * HOUR + (number + 1) * 60_000;
        const usage = { tenant, promptTokens: 1_000 + 7 * place, completionTokens: 300 + 11 * place, at };
        const entry = operator.settle(usage, (facts) => lie?.(facts, place) ?? facts);
        entries.push(entry);
        if (!unlogged.includes(place)) operator.append(entry);
      }
      epochs.push(await books.close(closings[index + 1]?.(entries)));
    }
    return new Scenario(operator, books, entries, epochs);
  }

  /** A receipt of the place, as one of its parties gets it. */
  receipt(place: number, reader: string): Promise<Json> {
    const entry = this.entries[place];
    if (entry === undefined) throw new Error('There is no such receipt.');
    const logged = this.operator.leaves.some((leaf) => leaf.equals(entry.leaf));
    return this.operator.receipt(entry, reader, logged ? this.operator.leaves.length : null);
  }

  /** Keys, epochs, and the proofs that connect their heads: what everybody can get. */
  async public(): Promise<Documents> {
    const documents: Documents = { keys: this.operator.keys(), head: await this.operator.headDocument() };
    for (const [index, epoch] of this.epochs.entries()) documents[`epoch-${index + 1}`] = epoch;
    for (const size of [4, 6]) documents[`growth-${size}`] = await this.operator.consistency(size);
    return documents;
  }

  /** What the owner of the version gets. */
  async owner(places: readonly number[] = [0, 1, 2, 3, 4, 5, 6]): Promise<Documents> {
    return this.#party(VERSION, OWNER, places);
  }

  /** What the first tenant gets. */
  async tenant(places: readonly number[] = [0, 2, 4, 6]): Promise<Documents> {
    return this.#party(TENANT_A, TENANT_A, places);
  }

  async #party(subject: string, reader: string, places: readonly number[]): Promise<Documents> {
    const documents = await this.public();
    for (const number of this.epochs.keys()) {
      documents[`statement-${number + 1}`] = await this.books.statement(number + 1, subject);
    }
    for (const place of places) documents[`receipt-${place}`] = await this.receipt(place, reader);
    return documents;
  }
}

/** Documents without those whose names begin so. */
export function without(documents: Documents, ...names: readonly string[]): Documents {
  return Object.fromEntries(
    Object.entries(documents).filter(
      ([name]) => !names.some((one) => name === one || name.startsWith(`${one}-`)),
    ),
  );
}

/** Facts with another charge of their part. */
export function recharged(
  facts: ReceiptFacts,
  change: (
    charge: NonNullable<ReceiptFacts['parts'][number]['charge']>,
  ) => Partial<NonNullable<ReceiptFacts['parts'][number]['charge']>>,
): ReceiptFacts {
  const parts = facts.parts.map((part) =>
    part.charge === null ? part : { ...part, charge: { ...part.charge, ...change(part.charge) } },
  );
  const amount = parts.reduce((sum, { charge }) => {
    if (charge === null) return sum;
    return sum + charge.input + charge.cached + charge.output + charge.rankAmount + charge.royalty;
  }, 0n);
  return { ...facts, parts, amount };
}

/** Facts with another number of the adapter version. */
export function renumbered(facts: ReceiptFacts, number: bigint): ReceiptFacts {
  const parts = facts.parts.map((part) =>
    part.adapter === null ? part : { ...part, adapter: { ...part.adapter, counter: { lane: 0, number } } },
  );
  return { ...facts, parts };
}
