import { sha256 } from '../hashing/bytes.ts';
import type { Chain, Claim } from '../input/claims.ts';
import type { Epoch, Statement } from '../input/epochs.ts';
import { InputError } from '../input/errors.ts';
import type { Consistency, KeptHead, KeyList } from '../input/formats.ts';
import { type NamedBytes, readDocument } from '../input/read.ts';
import type { Bundle, BundleFile } from './source.ts';

/** A document, and by which name it was given. */
export interface Named<T> {
  readonly name: string;
  readonly document: T;
}

/** All documents that are given, except receipts, of which there can be many: they are read when their turn comes. */
export interface Dossier {
  /** Null: addresses alone say whose signatures count. */
  readonly keys: Named<KeyList> | null;
  /** Whether the list is one of the bundle's documents, and not one that the reader named. */
  readonly keysFound: boolean;
  readonly heads: readonly Named<KeptHead | Consistency>[];
  /** Names of the heads that the reader gave apart from the bundle, because they kept them. */
  readonly kept: ReadonlySet<string>;
  readonly epochs: readonly Named<Epoch>[];
  readonly statements: readonly Named<Statement>[];
  readonly claims: readonly Named<Claim>[];
  readonly chains: readonly Named<Chain>[];
  readonly receipts: readonly BundleFile[];
}

/** What is given apart from the bundle. */
export interface Apart {
  readonly keys: Named<KeyList> | null;
  readonly heads: readonly Named<KeptHead | Consistency>[];
}

/** Reads every document once: what cannot be used is refused before anything is said of the rest. */
export async function collect(bundle: Bundle, apart: Apart): Promise<Dossier> {
  const seen = new Set<string>();
  const lists: Named<KeyList>[] = [];
  const heads: Named<KeptHead | Consistency>[] = [...apart.heads];
  const epochs: Named<Epoch>[] = [];
  const statements: Named<Statement>[] = [];
  const claims: Named<Claim>[] = [];
  const chains: Named<Chain>[] = [];
  const receipts: BundleFile[] = [];
  for (const file of bundle.files) {
    const source = await file.read();
    if (isSeen(seen, source)) continue;
    const { name } = file;
    const document = readDocument(source);
    if (document.format === 'patchbay-receipt/1') receipts.push(file);
    else if (document.format === 'patchbay-keys/1') lists.push({ name, document });
    else if (document.format === 'patchbay-epoch/1') epochs.push({ name, document });
    else if (document.format === 'patchbay-statement/1') statements.push({ name, document });
    else if (document.format === 'patchbay-claim/1') claims.push({ name, document });
    else if (document.format === 'patchbay-chain/1') chains.push({ name, document });
    else heads.push({ name, document });
  }
  return {
    keys: apart.keys ?? onlyList(lists),
    keysFound: apart.keys === null,
    heads,
    kept: new Set(apart.heads.map(({ name }) => name)),
    epochs: epochs.toSorted((a, b) => byNumber(a.document.epoch.number, b.document.epoch.number)),
    statements: statements.toSorted((a, b) => byNumber(a.document.epoch, b.document.epoch)),
    claims: claims.toSorted((a, b) => byNumber(a.document.claim.sequence, b.document.claim.sequence)),
    chains,
    receipts,
  };
}

function isSeen(seen: Set<string>, { bytes }: NamedBytes): boolean {
  const hash = sha256(bytes);
  if (seen.has(hash)) return true;
  seen.add(hash);
  return false;
}

function onlyList(lists: readonly Named<KeyList>[]): Named<KeyList> | null {
  const [list, other] = lists;
  if (list === undefined || other === undefined) return list ?? null;
  throw new InputError(
    'PROOF_KEYS_MISSING',
    `The bundle has two key lists, ${list.name} and ${other.name}, and nothing says which of them counts.`,
    'Name the one that you trust with --keys.',
  );
}

function byNumber(one: string, other: string): number {
  const [a, b] = [BigInt(one), BigInt(other)];
  return a < b ? -1 : a > b ? 1 : 0;
}

/** All documents except receipts, with the log that each is of. */
export function logsOf(dossier: Dossier): readonly Named<{ readonly log: string }>[] {
  const { keys, heads, epochs, statements, claims, chains } = dossier;
  return [...(keys === null ? [] : [keys]), ...heads, ...epochs, ...statements, ...claims, ...chains];
}
