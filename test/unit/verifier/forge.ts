import { SigningKey } from 'ethers';
import { commitmentOf, leafOf } from '../../../src/verifier/hashing/body.ts';
import { canonicalJson, digestOf } from '../../../src/verifier/hashing/canonical.ts';
import { messageDigest, rootMessage } from '../../../src/verifier/hashing/signature.ts';
import { at, type Json, type Vector, viewed } from './vectors.ts';

/** What a lying operator says instead. */
export interface Lie {
  /** Values by the names of their fields. */
  readonly values?: Readonly<Record<string, string>>;
  /** Members of documents by the name of the field that names the document; the field gets the new digest. */
  readonly documents?: Readonly<Record<string, Readonly<Record<string, string>>>>;
  /** How many fields the receipt has, if it is cut. */
  readonly fields?: number;
}

/**
 * A receipt as an operator issues it who lies and signs the lie: commitments, leaf, batch and signature fit, and only
 * what the values say of each other is false. It stands in a batch of one and is in no log yet.
 */
export function forged(
  from: Vector,
  reader: string,
  { values = {}, documents = {}, fields: cut }: Lie,
): Json {
  const honest = viewed(from, reader);
  const number = from.views.find((view) => view.reader.startsWith(reader))?.receipt ?? 0;
  const receipt = from.receipts[number];
  if (receipt === undefined) throw new Error('The vector has no such receipt.');
  const textOf = (name: string): string => receipt.fields.find((field) => field.name === name)?.value ?? '';
  const canonical = new Map(from.documents.map((document) => [document.digest, document.canonical]));
  const replaced = new Map(
    Object.entries(documents).map(([name, members]) => {
      const document = { ...JSON.parse(canonical.get(textOf(name)) ?? '{}'), ...members };
      canonical.set(digestOf(document), canonicalJson(document));
      return [name, digestOf(document)];
    }),
  );
  const fields = receipt.fields.slice(0, cut).map((field) => {
    const value = values[field.name] ?? replaced.get(field.name) ?? field.value;
    return { ...field, value, commitment: commitmentOf(field.index, field.salt, value) };
  });
  const opened = at(honest, 'opened');
  const open = new Set(Array.isArray(opened) ? opened.map((field) => at(field, 'index')) : []);
  const shown = fields.filter(({ index }) => open.has(index));
  const named = shown
    .filter(({ name }) => /\.(?:price|royaltyTerms|split)$/.test(name))
    .flatMap(({ value }) => canonical.get(value) ?? []);
  const commitments = fields.map(({ commitment }) => commitment);
  const root = leafOf({ log: from.log.id, id: receipt.id, commitments });
  const tree = { root, size: '1', signedAt: from.batches[0]?.signedAt ?? '' };
  const key = new SigningKey(`0x${from.privateKeys[0]}`);
  const { serialized: signature } = key.sign(messageDigest(rootMessage(from.log.id, 'ReceiptBatch', tree)));
  return {
    format: 'patchbay-receipt/1',
    log: from.log.id,
    id: receipt.id,
    commitments,
    opened: shown.map(({ index, name, salt, value }) => ({ index, name, salt, value })),
    batch: { size: '1', index: '0', path: [], signedAt: tree.signedAt, signature },
    inclusion: null,
    documents: [...new Set(named)].map((text) => JSON.parse(text)),
  };
}
