import { digestOf } from '../hashing/canonical.ts';
import type { PriceDocument, PricingDocument, RoyaltyDocument, SplitDocument } from '../input/documents.ts';
import { short } from '../shown.ts';
import { judged, type Step } from '../step.ts';
import type { View } from '../view.ts';

/** The documents of a receipt by their digests, as far as they are of the kind that the field asks for. */
export interface Documents {
  price(digest: string): PriceDocument | undefined;
  royalty(digest: string): RoyaltyDocument | undefined;
  split(digest: string): SplitDocument | undefined;
}

const NAMED_BY = [
  { field: 'price', format: 'patchbay-price/1' },
  { field: 'royaltyTerms', format: 'patchbay-royalty/1' },
  { field: 'split', format: 'patchbay-split/1' },
] as const;

/** Checks that the documents are those that the opened fields name, each once, and no others. */
export function checkDocuments(
  given: readonly PricingDocument[],
  view: View,
): { readonly documents: Documents; readonly steps: readonly Step[] } {
  const byDigest = new Map(given.map((document) => [digestOf(document), document]));
  const wrong: string[] = byDigest.size < given.length ? ['a document is given twice'] : [];
  const named = new Set<string>();
  for (const { digest, format, field } of namedDocuments(view)) {
    named.add(digest);
    const document = byDigest.get(digest);
    if (document === undefined) wrong.push(`${field} names ${digest}, which no given document has`);
    else if (document.format !== format) wrong.push(`${field} names a document of ${document.format}`);
    else if (
      document.format === 'patchbay-price/1' &&
      document.currency !== (view.request('currency') ?? document.currency)
    ) {
      wrong.push(`${field} names a price in ${document.currency}, but the request is in another currency`);
    }
  }
  for (const digest of byDigest.keys()) {
    if (!named.has(digest)) wrong.push(`no opened field names the document ${digest}`);
  }
  const list = [...named].map(short).join(', ');
  const compared =
    named.size === 0
      ? 'none is named, none is given'
      : `${named.size} with the digests that fields name: ${list}`;
  return { documents: lookup(byDigest), steps: [judged('documents', wrong, compared)] };
}

function* namedDocuments(view: View) {
  for (let part = 0; part < view.parts; part++) {
    for (const { field, format } of NAMED_BY) {
      const digest = view.part(part, field);
      if (digest !== undefined && digest !== '') yield { digest, format, field: `part.${part}.${field}` };
    }
  }
}

function lookup(byDigest: ReadonlyMap<string, PricingDocument>): Documents {
  return {
    price: (digest) => {
      const found = byDigest.get(digest);
      return found?.format === 'patchbay-price/1' ? found : undefined;
    },
    royalty: (digest) => {
      const found = byDigest.get(digest);
      return found?.format === 'patchbay-royalty/1' ? found : undefined;
    },
    split: (digest) => {
      const found = byDigest.get(digest);
      return found?.format === 'patchbay-split/1' ? found : undefined;
    },
  };
}
