import { readdirSync, readFileSync } from 'node:fs';
import { InputError } from '../../../src/verifier/input/errors.ts';
import { type NamedBytes, readHead, readKeyList, readReceipt } from '../../../src/verifier/input/read.ts';
import type { Step } from '../../../src/verifier/step.ts';
import { verify } from '../../../src/verifier/verify.ts';

const FOLDER = 'test/vectors/proofs';

/** A document as JSON that a test may bend. */
export type Json = string | number | boolean | null | Json[] | { [name: string]: Json };

/** A file of vectors, as test/vectors/proofs/make writes it. */
export interface Vector {
  readonly about: string;
  readonly log: { readonly uuid: string; readonly id: string };
  readonly privateKeys: readonly string[];
  readonly keys: Json;
  readonly documents: readonly { readonly digest: string; readonly canonical: string }[];
  readonly receipts: readonly {
    readonly id: string;
    readonly secret: string;
    readonly fields: readonly {
      readonly index: number;
      readonly name: string;
      readonly value: string;
      readonly salt: string;
      readonly commitment: string;
    }[];
    readonly body: string;
    readonly leaf: string;
    readonly parts: readonly {
      readonly earnings: readonly { readonly tenant: string; readonly amount: string }[] | null;
    }[];
  }[];
  readonly batches: readonly (Signed & { readonly receipts: readonly number[] })[];
  readonly heads: readonly (Signed & { readonly leaves: readonly string[] })[];
  readonly consistency: readonly Json[];
  readonly views: readonly { readonly reader: string; readonly receipt: number; readonly document: Json }[];
  /** Of `epochs.json` alone. */
  readonly accounts?: readonly (readonly AccountLeaf[])[];
  readonly epochs?: readonly { readonly digest: string; readonly signed: string; readonly document: Json }[];
  readonly statements?: readonly Json[];
  readonly claims?: readonly { readonly leaf: string; readonly signed: string; readonly document: Json }[];
}

/** A leaf of the accounts of an epoch. */
interface AccountLeaf {
  readonly key: string;
  readonly commitment: string;
  readonly salt: string;
  readonly account: { readonly kind: 'tenant' | 'version'; readonly subject: string };
  readonly leaf: string;
}

interface Signed {
  readonly root: string;
  readonly size: string;
  readonly signedAt: string;
  readonly digest: string;
  readonly signature: string;
  readonly paths: readonly (readonly string[])[];
}

export const VECTORS: ReadonlyMap<string, Vector> = new Map(
  readdirSync(FOLDER)
    .filter((file) => file.endsWith('.json'))
    .map((file) => [file.slice(0, -'.json'.length), JSON.parse(readFileSync(`${FOLDER}/${file}`, 'utf8'))]),
);

export function vector(name: string): Vector {
  const found = VECTORS.get(name);
  if (found === undefined) throw new Error(`There is no vector ${name}.`);
  return found;
}

/** The receipt as one of its readers gets it: a copy that may be bent. */
export function viewed(from: Vector, reader = 'tenant', receipt = 0): Json {
  const found = from.views.find((view) => view.reader.startsWith(reader) && view.receipt === receipt);
  if (found === undefined) throw new Error(`There is no view of ${reader}.`);
  return structuredClone(found.document);
}

/** A document as the file that holds it. */
export function bytesOf(document: Json): NamedBytes {
  return { name: 'the document', bytes: Buffer.from(JSON.stringify(document)) };
}

export interface Given {
  readonly receipt: Json;
  readonly keys?: Json;
  readonly pinned?: readonly string[];
  readonly heads?: readonly Json[];
}

/** What the verifier says of documents: its steps, or the code with which it refuses them. */
export function verdictOf({ receipt, keys, pinned = [], heads = [] }: Given): readonly Step[] | string {
  try {
    return verify({
      receipt: readReceipt(bytesOf(receipt)),
      keys: keys === undefined ? null : readKeyList(bytesOf(keys)),
      pinned,
      heads: heads.map((head) => readHead(bytesOf(head))),
    });
  } catch (error) {
    // Anything else than a typed refusal fails the test that asks.
    if (!(error instanceof InputError)) throw error;
    return error.code;
  }
}

/** The steps of documents that can be used. */
export function stepsOf(given: Given): readonly Step[] {
  const verdict = verdictOf(given);
  if (typeof verdict === 'string') throw new Error(`The documents are refused: ${verdict}`);
  return verdict;
}

/** Names of the steps with a result. */
export function named(steps: readonly Step[], result: Step['result']): readonly string[] {
  return steps.filter((step) => step.result === result).map(({ step }) => step);
}

/** `false` steps, or the code of a refusal: why documents are not verified; empty when they are. */
export function faults(given: Given): readonly string[] {
  const verdict = verdictOf(given);
  return typeof verdict === 'string' ? [verdict] : named(verdict, 'false');
}

/** What is at a place of a document. */
export function at(document: Json, ...place: readonly (string | number)[]): Json {
  let found: Json = document;
  for (const step of place) {
    const next: Json | undefined = isObject(found)
      ? found[String(step)]
      : Array.isArray(found)
        ? found[Number(step)]
        : undefined;
    if (next === undefined) throw new Error(`Nothing is at ${place.join('.')}.`);
    found = next;
  }
  return found;
}

/** A copy in which a place holds something else; `undefined` takes it away. */
export function bent(document: Json, place: readonly (string | number)[], value: Json | undefined): Json {
  const copy = structuredClone(document);
  const parent = at(copy, ...place.slice(0, -1));
  const last = place.at(-1);
  if (Array.isArray(parent)) parent.splice(Number(last), 1, ...(value === undefined ? [] : [value]));
  else if (!isObject(parent)) throw new Error(`Nothing can be set at ${place.join('.')}.`);
  else if (value === undefined) delete parent[String(last)];
  else parent[String(last)] = value;
  return copy;
}

export function isObject(value: Json): value is { [name: string]: Json } {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** Every place of a document that holds no other places. */
export function* leavesOf(
  document: Json,
  before: readonly (string | number)[] = [],
): Generator<{
  readonly place: readonly (string | number)[];
  readonly value: string | number | boolean | null;
}> {
  if (Array.isArray(document)) {
    for (const [index, value] of document.entries()) yield* leavesOf(value, [...before, index]);
  } else if (isObject(document)) {
    for (const [name, value] of Object.entries(document)) yield* leavesOf(value, [...before, name]);
  } else yield { place: before, value: document };
}
