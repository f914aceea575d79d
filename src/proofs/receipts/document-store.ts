import { createHash } from 'node:crypto';
import type { Database } from '../../db/client.ts';
import { invariant } from '../../kernel/errors.ts';
import type { Uuid } from '../../kernel/ids.ts';
import { toSplitTerms } from '../../pricing/resolver.ts';
import { toPriceVersion, toRoyaltyVersion } from '../../pricing/rows.ts';
import {
  canonical,
  type ProofDocument,
  priceDocument,
  royaltyDocument,
  splitDocument,
} from '../documents.ts';

/** The versions that a part's price followed from. */
export interface DocumentIds {
  readonly price: Uuid;
  readonly royalty: Uuid | null;
  readonly split: Uuid | null;
}

const KEPT_MAX = 4_096;

const PUBLISH = `
INSERT INTO proof_document (digest, document)
SELECT sha256(convert_to(d, 'UTF8')), d FROM unnest($1::text[]) AS d ON CONFLICT (digest) DO NOTHING`;

const FIND = `
SELECT document FROM proof_document WHERE digest = ANY (
  SELECT decode(d, 'hex') FROM unnest($1::text[]) AS d)`;

/** Documents of versions of prices, royalties and splits: made once of each version, which never changes, and kept. */
export class DocumentStore {
  readonly #database: Pick<Database, 'withSystem' | 'querySystem'>;
  /** Digests by the versions' ids. */
  readonly #digests = new Map<Uuid, string>();
  /** Canonical JSON by digest. */
  readonly #texts = new Map<string, string>();

  readonly #keptMax: number;

  /** @param keptMax most digests, and most documents, that are kept */
  constructor(
    dependencies: { readonly database: Pick<Database, 'withSystem' | 'querySystem'> },
    keptMax: number = KEPT_MAX,
  ) {
    this.#database = dependencies.database;
    this.#keptMax = keptMax;
  }

  /** The digests of these documents by the versions' ids, without ids that no version has; those that are new are published. */
  async digests(wanted: readonly DocumentIds[]): Promise<ReadonlyMap<Uuid, string>> {
    const prices = this.#missing(wanted.map(({ price }) => price));
    const royalties = this.#missing(wanted.flatMap(({ royalty }) => royalty ?? []));
    const splits = this.#missing(wanted.flatMap(({ split }) => split ?? []));
    // Before anything is waited for, as others put out of the store meanwhile what they do not need.
    const found = new Map<Uuid, string>();
    for (const id of wanted.flatMap(({ price, royalty, split }) => [price, royalty, split])) {
      const known = id === null ? undefined : this.#digests.get(id);
      if (id !== null && known !== undefined) found.set(id, known);
    }
    if (prices.length + royalties.length + splits.length > 0) {
      const made = await this.#make(prices, royalties, splits);
      const texts = made.map(({ document }) => canonical(document));
      await this.#database.querySystem(PUBLISH, [texts]);
      for (const [index, { id }] of made.entries()) found.set(id, digestOf(texts[index] ?? ''));
    }
    for (const [id, digest] of found) this.#keep(this.#digests, id, digest);
    return found;
  }

  /** The canonical JSON of the documents with these digests, which all are published, in the order of the digests. */
  async published(digests: readonly string[]): Promise<readonly string[]> {
    const found = new Map<string, string>();
    for (const digest of digests) {
      const known = this.#texts.get(digest);
      if (known !== undefined) found.set(digest, known);
    }
    const missing = digests.filter((digest) => !found.has(digest));
    if (missing.length > 0) {
      const rows = await this.#database.querySystem<{ readonly document: string }>(FIND, [missing]);
      for (const { document } of rows) found.set(digestOf(document), document);
    }
    const texts = digests.map((digest) => {
      const text = found.get(digest);
      invariant(text !== undefined, `the document ${digest} is published`);
      return text;
    });
    for (const [digest, text] of found) this.#keep(this.#texts, digest, text);
    return texts;
  }

  /** Remembers, and forgets what was wanted longest ago when there is too much. */
  #keep(map: Map<string, string>, name: string, value: string): void {
    map.delete(name);
    const [oldest] = map.keys();
    if (map.size >= this.#keptMax && oldest !== undefined) map.delete(oldest);
    map.set(name, value);
  }

  #missing(ids: readonly Uuid[]): Uuid[] {
    return [...new Set(ids)].filter((id) => !this.#digests.has(id));
  }

  #make(
    prices: Uuid[],
    royalties: Uuid[],
    splits: Uuid[],
  ): Promise<readonly { readonly id: Uuid; readonly document: ProofDocument }[]> {
    return this.#database.withSystem(async (tx) => {
      const priced = await tx.priceVersion.findMany({ where: { id: { in: prices } } });
      const asked = await tx.royaltyVersion.findMany({ where: { id: { in: royalties } } });
      const split = await tx.splitVersion.findMany({ where: { id: { in: splits } } });
      return [
        ...priced.flatMap((row) => {
          const { terms } = toPriceVersion(row, null);
          return terms === null
            ? []
            : [{ id: row.id, document: priceDocument({ ...terms, versionId: row.id }) }];
        }),
        ...asked.map((row) => {
          const { terms } = toRoyaltyVersion(row, null);
          return { id: row.id, document: royaltyDocument({ ...terms, versionId: row.id }) };
        }),
        ...split.map((row) => ({
          id: row.id,
          document: splitDocument({ ...toSplitTerms(row), versionId: row.id }),
        })),
      ];
    });
  }
}

function digestOf(document: string): string {
  return createHash('sha256').update(document, 'utf8').digest('hex');
}
