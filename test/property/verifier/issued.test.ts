import { createHash } from 'node:crypto';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { blendShares } from '../../../src/metering/shares.ts';
import { priceRequest } from '../../../src/pricing/price.ts';
import { splitCharge } from '../../../src/pricing/split.ts';
import type { PinnedPricing, SplitTerms } from '../../../src/pricing/terms.ts';
import {
  canonical,
  type ProofDocument,
  priceDocument,
  royaltyDocument,
  splitDocument,
} from '../../../src/proofs/documents.ts';
import { walletSigner } from '../../../src/proofs/keys/wallet.ts';
import { logIdOf, treeHeadDigest } from '../../../src/proofs/log/digest.ts';
import { inclusionDocument } from '../../../src/proofs/log/documents.ts';
import { leafHash } from '../../../src/proofs/merkle/hash.ts';
import { LeafReader } from '../../../src/proofs/merkle/memory.ts';
import { inclusionPath, rootOf } from '../../../src/proofs/merkle/prove.ts';
import { commitField, receiptBody } from '../../../src/proofs/receipts/commit.ts';
import { namedDocuments, receiptText } from '../../../src/proofs/receipts/document.ts';
import { fieldsOf, type ReceiptFacts } from '../../../src/proofs/receipts/fields.ts';
import { batchDigest, successionDigest } from '../../../src/proofs/typed.ts';
import { readKeyList, readReceipt } from '../../../src/verifier/input/read.ts';
import type { Step } from '../../../src/verifier/step.ts';
import { verify } from '../../../src/verifier/verify.ts';
import { request, use } from '../pricing/arbitraries.ts';

const SEED = 20_261_129;
const BATCH_SIZE = 3;
const LOG_SIZE = 5;

const uuid = (number: number): string => `019ad000-0000-7000-8000-${String(number).padStart(12, '0')}`;
const TENANT = uuid(1);
const OWNER = 100;
const logId = logIdOf(uuid(2));
const first = walletSigner(`0x${'22'.repeat(32)}`);
const second = walletSigner(`0x${'33'.repeat(32)}`);

const weights = fc.array(fc.double({ min: 0.01, max: 16, noNaN: true }), { minLength: 8, maxLength: 8 });
const sha256 = (text: string): Buffer => createHash('sha256').update(text).digest();

/** What a receipt states of a request with these weights, and the documents that it names. */
function factsOf(
  { pinned, splits }: { readonly pinned: PinnedPricing; readonly splits: ReadonlyMap<string, SplitTerms> },
  weightOf: readonly number[],
  counts: Pick<ReceiptFacts, 'promptTokens' | 'cachedPromptTokens' | 'completionTokens'>,
): { readonly facts: ReceiptFacts; readonly documents: ReadonlyMap<string, string> } {
  const documents = new Map<string, string>();
  const publish = (document: ProofDocument): string => {
    const text = canonical(document);
    const digest = sha256(text).toString('hex');
    documents.set(digest, text);
    return digest;
  };
  const shares = blendShares(weightOf.slice(0, pinned.parts.length));
  const parts = pinned.parts.map((part, index) => ({ ...part, share: shares[index] ?? part.share }));
  const charge = priceRequest({ ...pinned, parts }, counts);
  const { fees } = splitCharge({ ...pinned, parts }, charge, splits);
  const facts: ReceiptFacts = {
    requestId: uuid(3),
    tenantId: TENANT,
    counter: { lane: 3, number: 41n },
    keyId: uuid(4),
    backboneDigest: 'cd'.repeat(32),
    priority: pinned.priority,
    ...counts,
    promptCommitment: 'ef'.repeat(32),
    outputCommitment: '01'.repeat(32),
    admittedAtUs: 1_764_400_000_000_000n,
    endedAtUs: 1_764_400_001_000_000n,
    finish: 'stop',
    settledBy: 'engine',
    currency: pinned.currency,
    amount: charge.total,
    parts: parts.map(({ adapter, share, price, royalty, splitVersionId }, index) => {
      const amountOf = (kind: string): bigint =>
        charge.lines.find((line) => line.part === index && line.kind === kind)?.amount ?? 0n;
      const beneficiaries = splits.get(splitVersionId ?? '')?.beneficiaries.map(({ parts: of }, place) => ({
        tenantId: uuid(500 + place),
        parts: of,
      }));
      return {
        adapter: adapter && {
          versionId: uuid(10 + index),
          ownerTenantId: uuid(OWNER + index),
          digest: 'ab'.repeat(32),
          weight: weightOf[index] ?? 1,
          counter: { lane: 0, number: BigInt(index + 1) },
        },
        share,
        charge: {
          rank: adapter?.rank ?? null,
          price: publish(priceDocument({ ...price, versionId: uuid(200 + index) })),
          royaltyTerms: royalty && publish(royaltyDocument({ ...royalty, versionId: uuid(300 + index) })),
          split:
            splitVersionId === null || beneficiaries === undefined
              ? null
              : publish(splitDocument({ versionId: uuid(400 + index), beneficiaries })),
          input: amountOf('INPUT'),
          cached: amountOf('CACHED_INPUT'),
          output: amountOf('OUTPUT'),
          rankAmount: amountOf('RANK'),
          royalty: amountOf('ROYALTY'),
          fee: fees[index] ?? 0n,
        },
      };
    }),
  };
  return { facts, documents };
}

/** The receipt as the program hands it out to a reader, in a batch and in the log among others. */
async function issued(facts: ReceiptFacts, documents: ReadonlyMap<string, string>, reader: string) {
  const fields = fieldsOf(facts);
  const saltOf = (index: number) => sha256(`salt ${index}`);
  const commitments = Buffer.concat(fields.map(({ text }, index) => commitField(index, saltOf(index), text)));
  const leaf = leafHash(receiptBody(logId, facts.requestId, commitments));
  const tree = new LeafReader([sha256('a'), leaf, sha256('b'), sha256('c'), sha256('d')]);
  const batch = { root: await rootOf(tree, BATCH_SIZE), size: BATCH_SIZE, signedAt: 1_500 };
  const head = { root: await rootOf(tree, LOG_SIZE), size: LOG_SIZE, signedAtMs: 2_500 };
  const opened = fields.flatMap(({ readers, text }, index) =>
    readers.has(reader) ? [{ index, salt: saltOf(index), text }] : [],
  );
  const named = [...new Set(namedDocuments(opened))];
  return receiptText({
    logId,
    requestId: facts.requestId,
    commitments,
    opened,
    batch: {
      ...{ size: BATCH_SIZE, index: 1, signedAt: batch.signedAt },
      path: Buffer.concat(await inclusionPath(tree, 1, BATCH_SIZE)),
      signature: await first.sign(batchDigest(logId, batch)),
    },
    inclusion: inclusionDocument({
      leaf,
      index: 1,
      path: await inclusionPath(tree, 1, LOG_SIZE),
      head: {
        ...head,
        address: second.address,
        signature: await second.sign(treeHeadDigest(logId, head)),
      },
    }),
    documents: named.flatMap((digest) => documents.get(digest) ?? []),
  });
}

async function verified(text: string): Promise<readonly Step[]> {
  const endorsement = await first.sign(successionDigest(logId, { next: second.address, validFrom: 2_000 }));
  const keys = {
    format: 'patchbay-keys/1',
    log: Buffer.from(logId).toString('hex'),
    keys: [
      { address: first.address, validFrom: '1000', validUntil: '2000', endorsement: null },
      { address: second.address, validFrom: '2000', validUntil: null, endorsement },
    ],
  };
  return verify({
    receipt: readReceipt({ name: 'the receipt', bytes: Buffer.from(text) }),
    keys: readKeyList({ name: 'the keys', bytes: Buffer.from(JSON.stringify(keys)) }),
    pinned: [],
    heads: [],
  });
}

test('what the program issues is what the verifier expects, for the tenant and for an owner', async () => {
  const property = fc.asyncProperty(request, use, weights, async (given, used, weightOf) => {
    const { facts, documents } = factsOf(given, weightOf, {
      promptTokens: used.promptTokens,
      cachedPromptTokens: used.cached,
      completionTokens: used.completion,
    });
    const readers = facts.parts[0]?.adapter ? [TENANT, uuid(OWNER)] : [TENANT];
    for (const reader of readers) {
      const steps = await verified(await issued(facts, documents, reader));
      expect(steps.filter(({ result }) => result === 'false')).toEqual([]);
      expect(steps).toContainEqual(expect.objectContaining({ step: 'part.0.lines', result: 'true' }));
    }
  });
  await fc.assert(property, { seed: SEED, numRuns: 25 });
});

test('so is a receipt of before there were prices', async () => {
  const given = {
    pinned: { at: new Date(0), currency: 'USD', priority: 'BATCH', parts: [] },
    splits: new Map(),
  } as const;
  const { facts } = factsOf(given, [], { promptTokens: 7, cachedPromptTokens: 0, completionTokens: 2 });
  const adapter = {
    ...{ versionId: uuid(10), ownerTenantId: uuid(OWNER), digest: 'ab'.repeat(32), weight: -0.5 },
    counter: { lane: 0, number: 1n },
  };
  for (const of of [adapter, null]) {
    const parts = [{ adapter: of, share: { numerator: 1n, denominator: 1n }, charge: null }];
    const unpriced: ReceiptFacts = { ...facts, currency: null, amount: null, parts };
    const steps = await verified(await issued(unpriced, new Map(), TENANT));
    expect(steps.filter(({ result }) => result === 'false')).toEqual([]);
  }
});
