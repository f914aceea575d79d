import type { Pinned, PriceTerms, RoyaltyTerms, SplitTerms } from '../pricing/terms.ts';

/** A document of texts, nulls, lists and objects: all that is published. */
export type ProofDocument = { readonly [name: string]: ProofValue };
type ProofValue = string | null | readonly ProofValue[] | ProofDocument;

/** What an operator asked, as it is published. */
export function priceDocument(price: Pinned<PriceTerms>): ProofDocument {
  return {
    format: 'patchbay-price/1',
    id: price.versionId,
    currency: price.currency,
    inputPerMillion: String(price.inputPerMillion),
    cachedInputPerMillion: String(price.cachedInputPerMillion),
    outputPerMillion: String(price.outputPerMillion),
    rankPerMillion: String(price.rankPerMillion),
    interactivePpm: String(price.classPpm.INTERACTIVE),
    standardPpm: String(price.classPpm.STANDARD),
    batchPpm: String(price.classPpm.BATCH),
    platformFeePpm: String(price.platformFeePpm),
  };
}

/** What an owner asked on top. */
export function royaltyDocument(royalty: Pinned<RoyaltyTerms>): ProofDocument {
  const head = { format: 'patchbay-royalty/1', id: royalty.versionId, kind: royalty.kind };
  if (royalty.kind === 'SHARE') return { ...head, sharePpm: String(royalty.sharePpm) };
  return {
    ...head,
    inputPerMillion: String(royalty.inputPerMillion),
    outputPerMillion: String(royalty.outputPerMillion),
  };
}

/** Who earns a royalty. */
export function splitDocument(split: Pinned<SplitTerms>): ProofDocument {
  return {
    format: 'patchbay-split/1',
    id: split.versionId,
    beneficiaries: split.beneficiaries.map(({ tenantId, parts }) => ({
      tenant: tenantId,
      parts: String(parts),
    })),
  };
}

/** RFC 8785 for documents without numbers: members sorted by their UTF-16 units, as JavaScript sorts, and no spaces. */
export function canonical(value: ProofValue): string {
  if (typeof value === 'string' || value === null) return JSON.stringify(value);
  if (isList(value)) return `[${value.map(canonical).join(',')}]`;
  const members = Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1));
  return `{${members.map(([name, of]) => `${JSON.stringify(name)}:${canonical(of)}`).join(',')}}`;
}

function isList(value: Exclude<ProofValue, string | null>): value is readonly ProofValue[] {
  return Array.isArray(value);
}
