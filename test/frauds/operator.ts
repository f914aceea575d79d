import { createHash } from 'node:crypto';
import { priceRequest } from '../../src/pricing/price.ts';
import { splitCharge } from '../../src/pricing/split.ts';
import type { PinnedPricing } from '../../src/pricing/terms.ts';
import { canonical, priceDocument, royaltyDocument, splitDocument } from '../../src/proofs/documents.ts';
import { walletSigner } from '../../src/proofs/keys/wallet.ts';
import { logIdOf, treeHeadDigest } from '../../src/proofs/log/digest.ts';
import { consistencyDocument, headDocument, hex, inclusionDocument } from '../../src/proofs/log/documents.ts';
import type { DigestSigner, TreeHead } from '../../src/proofs/log/types.ts';
import { leafHash } from '../../src/proofs/merkle/hash.ts';
import { LeafReader } from '../../src/proofs/merkle/memory.ts';
import { consistencyPath, inclusionPath, rootOf } from '../../src/proofs/merkle/prove.ts';
import { commitField, receiptBody } from '../../src/proofs/receipts/commit.ts';
import { namedDocuments, receiptText } from '../../src/proofs/receipts/document.ts';
import { fieldsOf, type ReceiptFacts } from '../../src/proofs/receipts/fields.ts';
import { batchDigest } from '../../src/proofs/typed.ts';
import type { Json } from '../unit/verifier/vectors.ts';

/** When everything begins. */
export const START = 1_764_400_000_000;
export const HOUR = 3_600_000;

export const uuid = (number: number): string => `019ad000-0000-7000-8000-${String(number).padStart(12, '0')}`;
export const TENANT_A = uuid(1);
export const TENANT_B = uuid(2);
export const OWNER = uuid(3);
export const PARTNER = uuid(4);
export const VERSION = uuid(5);

const sha256 = (text: string): Buffer => createHash('sha256').update(text).digest();

const PRICE = {
  versionId: uuid(20),
  currency: 'USD',
  inputPerMillion: 150_000_000n,
  cachedInputPerMillion: 75_000_000n,
  outputPerMillion: 600_000_007n,
  rankPerMillion: 1_000_000n,
  classPpm: { INTERACTIVE: 1_500_000n, STANDARD: 1_000_000n, BATCH: 500_000n },
  platformFeePpm: 100_000n,
};
const ROYALTY = {
  versionId: uuid(21),
  kind: 'PER_TOKEN' as const,
  inputPerMillion: 10_000_003n,
  outputPerMillion: 50_000_021n,
};
const SPLIT = {
  versionId: uuid(22),
  beneficiaries: [
    { tenantId: OWNER, parts: 3n },
    { tenantId: PARTNER, parts: 1n },
  ],
};
export const DOCUMENTS = new Map(
  [priceDocument(PRICE), royaltyDocument(ROYALTY), splitDocument(SPLIT)].map((document) => {
    const text = canonical(document);
    return [sha256(text).toString('hex'), text] as const;
  }),
);
const [PRICE_DIGEST = '', ROYALTY_DIGEST = '', SPLIT_DIGEST = ''] = DOCUMENTS.keys();

/** What a request used. */
export interface Usage {
  readonly tenant: string;
  readonly promptTokens: number;
  readonly completionTokens: number;
  readonly at: number;
}

/** A receipt as the operator has it: everything, with the salts. */
export interface Issued {
  readonly facts: ReceiptFacts;
  readonly leaf: Buffer;
  readonly commitments: Buffer;
  readonly earned: readonly { readonly tenant: string; readonly amount: bigint }[];
  readonly signedAt: number;
  readonly signer: DigestSigner;
}

/** Numbers that were given out, by whose they are. */
export type Numbers = Map<string, bigint>;

/**
 * An operator with its key and a log in memory, built on what issues receipts. It does as it is told, and signs everything: what
 * is asked of it decides whether it is honest.
 */
export class Operator {
  readonly log: Uint8Array;
  readonly signer: DigestSigner;
  readonly numbers: Numbers = new Map();
  readonly leaves: Buffer[] = [];
  readonly entries: Issued[] = [];
  #requests = 0;

  constructor(key = '22', log = uuid(9)) {
    this.signer = remembering(walletSigner(`0x${key.repeat(32)}`));
    this.log = logIdOf(log);
  }

  /** The next number of a tenant or a version. */
  next(subject: string): bigint {
    const number = (this.numbers.get(subject) ?? 0n) + 1n;
    this.numbers.set(subject, number);
    return number;
  }

  /** A request on the adapter version, priced and numbered as it should be; what a lie changes is signed all the same. */
  settle(
    usage: Usage,
    lie: (facts: ReceiptFacts) => ReceiptFacts = (facts) => facts,
    signer = this.signer,
  ): Issued {
    this.#requests += 1;
    return this.issue(lie(this.#facts(usage)), usage.at + 1_000, signer);
  }

  /** Commits to facts, whatever they are. */
  issue(facts: ReceiptFacts, signedAt: number, signer = this.signer): Issued {
    const fields = fieldsOf(facts);
    const commitments = Buffer.concat(
      fields.map(({ text }, index) => commitField(index, saltOf(facts, index), text)),
    );
    const leaf = leafHash(receiptBody(this.log, facts.requestId, commitments));
    const [part] = facts.parts;
    const earned = (part?.charge?.royalty ?? 0n) - (part?.charge?.fee ?? 0n);
    const partner = earned / 4n + (2n * (earned % 4n) > 4n ? 1n : 0n);
    return {
      ...{ facts, commitments, signedAt, signer },
      leaf: Buffer.from(leaf),
      earned: [
        { tenant: OWNER, amount: earned - partner },
        { tenant: PARTNER, amount: partner },
      ],
    };
  }

  append(...issued: readonly Issued[]): void {
    for (const entry of issued) {
      this.entries.push(entry);
      this.leaves.push(entry.leaf);
    }
  }

  #facts({ tenant, promptTokens, completionTokens, at }: Usage): ReceiptFacts {
    const pinned: PinnedPricing = {
      at: new Date(at),
      currency: 'USD',
      priority: 'STANDARD',
      parts: [
        {
          adapter: { versionId: VERSION, adapterId: uuid(6), ownerTenantId: OWNER, rank: 8 },
          share: { numerator: 1n, denominator: 1n },
          price: PRICE,
          royalty: ROYALTY,
          splitVersionId: SPLIT.versionId,
        },
      ],
    };
    const counts = { promptTokens, cachedPromptTokens: 0, completionTokens };
    const charge = priceRequest(pinned, counts);
    const { fees } = splitCharge(pinned, charge, new Map([[SPLIT.versionId, SPLIT]]));
    const line = (kind: string): bigint => charge.lines.find((one) => one.kind === kind)?.amount ?? 0n;
    return {
      requestId: uuid(1_000 + this.#requests),
      tenantId: tenant,
      counter: { lane: 0, number: this.next(tenant) },
      keyId: uuid(7),
      backboneDigest: 'cd'.repeat(32),
      priority: 'STANDARD',
      ...counts,
      promptCommitment: 'ef'.repeat(32),
      outputCommitment: '01'.repeat(32),
      admittedAtUs: BigInt(at - 500) * 1_000n,
      endedAtUs: BigInt(at) * 1_000n,
      finish: 'stop',
      settledBy: 'engine',
      currency: 'USD',
      amount: charge.total,
      parts: [
        {
          adapter: {
            ...{ versionId: VERSION, ownerTenantId: OWNER, digest: 'ab'.repeat(32), weight: 1 },
            counter: { lane: 0, number: this.next(VERSION) },
          },
          share: { numerator: 1n, denominator: 1n },
          charge: {
            ...{ rank: 8, price: PRICE_DIGEST, royaltyTerms: ROYALTY_DIGEST, split: SPLIT_DIGEST },
            ...{ input: line('INPUT'), cached: line('CACHED_INPUT'), output: line('OUTPUT') },
            ...{ rankAmount: line('RANK'), royalty: line('ROYALTY'), fee: fees[0] ?? 0n },
          },
        },
      ],
    };
  }

  async head(size = this.leaves.length, signedAtMs = START + HOUR): Promise<TreeHead> {
    const root = await rootOf(new LeafReader(this.leaves), size);
    const signature = await this.signer.sign(treeHeadDigest(this.log, { root, size, signedAtMs }));
    return { root, size, signedAtMs, address: this.signer.address, signature };
  }

  async headDocument(size = this.leaves.length): Promise<Json> {
    return {
      format: 'patchbay-head/1',
      log: hex(this.log),
      head: { ...headDocument(await this.head(size)) },
    };
  }

  async consistency(first: number, second = this.leaves.length): Promise<Json> {
    const path = await consistencyPath(new LeafReader(this.leaves), first, second);
    const proof = { first: await this.head(first), second: await this.head(second), path };
    return JSON.parse(JSON.stringify({ log: hex(this.log), ...consistencyDocument(proof) }));
  }

  /** A receipt as one of its parties gets it, with its place in the log at a size; null: not in the log yet. */
  async receipt(entry: Issued, reader: string, size: number | null, at?: number): Promise<Json> {
    const { facts, commitments, leaf, signedAt, signer } = entry;
    const opened = fieldsOf(facts).flatMap(({ readers, text }, index) =>
      readers.has(reader) ? [{ index, salt: saltOf(facts, index), text }] : [],
    );
    const index = at ?? this.leaves.findIndex((one) => one.equals(leaf));
    const path = size === null ? [] : await inclusionPath(new LeafReader(this.leaves), index, size);
    const batch = { root: leaf, size: 1, signedAt };
    const text = receiptText({
      ...{ logId: this.log, requestId: facts.requestId, commitments, opened },
      batch: {
        ...{ size: 1, index: 0, path: new Uint8Array(), signedAt },
        signature: await signer.sign(batchDigest(this.log, batch)),
      },
      inclusion: size === null ? null : inclusionDocument({ leaf, index, path, head: await this.head(size) }),
      documents: [...new Set(namedDocuments(opened))].flatMap((digest) => DOCUMENTS.get(digest) ?? []),
    });
    return JSON.parse(text);
  }

  keys(): Json {
    const { address } = this.signer;
    return {
      format: 'patchbay-keys/1',
      log: hex(this.log),
      keys: [{ address, validFrom: String(START - HOUR), validUntil: null, endorsement: null }],
    };
  }
}

function saltOf({ requestId, counter, amount }: ReceiptFacts, index: number): Buffer {
  return sha256(`salt ${requestId} ${counter.number} ${amount} ${index}`);
}

const signatures = new Map<string, string>();

/** The same digest has the same signature, and the same history is played often. */
function remembering({ address, sign }: DigestSigner): DigestSigner {
  return {
    address,
    sign: async (digest) => {
      const name = `${address} ${hex(digest)}`;
      const signature = signatures.get(name) ?? (await sign(digest));
      signatures.set(name, signature);
      return signature;
    },
  };
}
