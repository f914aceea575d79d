import { createHash } from 'node:crypto';
import { type PayoutScope, PayoutTree } from '../../src/chain/payout-tree.ts';
import { canonical, type ProofDocument } from '../../src/proofs/documents.ts';
import { headDocument, hex } from '../../src/proofs/log/documents.ts';
import { typedDigest, typedMessage } from '../../src/proofs/log/typed.ts';
import { LeafReader } from '../../src/proofs/merkle/memory.ts';
import { inclusionPath, rootOf } from '../../src/proofs/merkle/prove.ts';
import type { Json } from '../unit/verifier/vectors.ts';
import { DOCUMENTS, HOUR, type Issued, type Operator, OWNER, START, uuid, VERSION } from './operator.ts';

// Epochs and claims, written from docs/reference/proofs.md: who plants frauds here must be able to sign anything.

const EPOCH = typedMessage('Epoch', [
  { name: 'number', type: 'uint64' },
  { name: 'digest', type: 'bytes32' },
  { name: 'signedAt', type: 'uint64' },
]);
const CLAIM = typedMessage('PayoutClaim', [
  { name: 'digest', type: 'bytes32' },
  { name: 'signedAt', type: 'uint64' },
]);

const sha256 = (...parts: readonly (string | Uint8Array)[]): Buffer => {
  const hash = createHash('sha256');
  for (const part of parts) hash.update(part);
  return hash.digest();
};
const bytesOf = (id: string): Buffer => Buffer.from(id.replaceAll('-', ''), 'hex');
const u64 = (value: number): Buffer => {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64BE(BigInt(value));
  return bytes;
};

/** An account as JSON that a lie may bend. */
export type Account = { [name: string]: Exclude<ProofDocument[string], undefined> };

interface AccountLeaf {
  readonly key: Buffer;
  readonly salt: Buffer;
  readonly account: Account;
  readonly leaf: Buffer;
}

/** How an epoch is closed; honestly without any of these. */
export interface Closing {
  /** Size of the log; all of it when left out. */
  readonly size?: number;
  /** Which receipts a subject's account counts, of those that the range has. */
  readonly counted?: (entries: readonly Issued[], subject: string) => readonly Issued[];
  /** What is written down in the place of an account; several make several leaves. */
  readonly account?: (account: Account) => readonly Account[];
  /** The last number of a subject. */
  readonly last?: (subject: string, last: bigint) => bigint;
  readonly quarantined?: readonly { readonly entry: Issued; readonly reason: string }[];
  readonly released?: readonly { readonly entry: Issued; readonly epoch: number }[];
  readonly previous?: string;
  /** When it closes, and when it is signed, which is the same. */
  readonly closedAt?: number;
  readonly signedAt?: number;
}

interface Closed {
  readonly document: Json;
  readonly digest: string;
  readonly size: number;
  readonly leaves: readonly AccountLeaf[];
}

/** The epochs of an operator. */
export class Books {
  readonly #operator: Operator;
  readonly #closed: Closed[] = [];

  constructor(operator: Operator) {
    this.#operator = operator;
  }

  /** Takes over what another book has, to go on differently. */
  copy(operator = this.#operator): Books {
    const books = new Books(operator);
    books.#closed.push(...this.#closed);
    return books;
  }

  async close(closing: Closing = {}): Promise<Json> {
    const operator = this.#operator;
    const before = this.#closed.at(-1);
    const number = this.#closed.length + 1;
    const [first, size] = [before?.size ?? 0, closing.size ?? operator.leaves.length];
    const { quarantined = [], released = [], closedAt = START + number * HOUR } = closing;
    const range = operator.entries.slice(first, size);
    const leaves = this.#accounts(number, range, closing);
    const tree = new LeafReader(leaves.map(({ leaf }) => leaf));
    const head = await operator.head(size, START + number * HOUR - 1_000);
    const requestOf = ({ facts }: Issued): string =>
      hex(sha256('patchbay:request:v1\0', operator.log, bytesOf(facts.requestId)));
    const epoch = {
      number: String(number),
      firstSize: String(first),
      size: String(size),
      root: hex(head.root),
      closedAt: String(closedAt),
      previous: closing.previous ?? before?.digest ?? '0'.repeat(64),
      accounts: { root: hex(await rootOf(tree, leaves.length)), size: String(leaves.length) },
      receipts: String(size - first - quarantined.length + released.length),
      quarantined: quarantined.map(({ entry, reason }) => ({
        ...{ request: requestOf(entry), leaf: hex(entry.leaf), reason },
      })),
      released: released.map(({ entry, epoch: from }) => ({
        ...{ request: requestOf(entry), leaf: hex(entry.leaf), epoch: String(from) },
      })),
    };
    const digest = sha256(canonical(epoch));
    const signedAt = closing.signedAt ?? closedAt;
    const signature = await operator.signer.sign(
      typedDigest(operator.log, EPOCH, { number, digest, signedAt }),
    );
    const document = {
      ...{ format: 'patchbay-epoch/1', log: hex(operator.log), epoch, head: { ...headDocument(head) } },
      ...{ signedAt: String(signedAt), signature },
    };
    this.#closed.push({ document, digest: hex(digest), size, leaves });
    return document;
  }

  digest(epoch: number): string {
    return this.#closed[epoch - 1]?.digest ?? '';
  }

  #accounts(
    number: number,
    range: readonly Issued[],
    {
      account: lie = (account) => [account],
      last = (_, given) => given,
      counted: choose = (entries) => entries,
      quarantined = [],
      released = [],
    }: Closing,
  ): readonly AccountLeaf[] {
    const held = new Set(quarantined.map(({ entry }) => entry));
    const free = released.map(({ entry }) => entry);
    const tenants = [...new Set([...range, ...free].map(({ facts }) => facts.tenantId))];
    const subjects = [...tenants.map((tenant) => ['tenant', tenant] as const), ['version', VERSION] as const];
    return subjects
      .flatMap(([kind, subject]) => {
        const of = (entries: readonly Issued[]): readonly Issued[] =>
          entries.filter(({ facts }) => kind === 'version' || facts.tenantId === subject);
        const counted = choose(range, subject);
        const summed = [...counted.filter((entry) => !held.has(entry)), ...free];
        const end = last(subject, this.#operator.numbers.get(subject) ?? 0n);
        return lie(accountOf(kind, subject, of(counted), of(summed), end)).map((account, copy) => {
          const salt = sha256(`account salt ${number} ${subject} ${copy}`);
          const kindByte = Buffer.of(kind === 'tenant' ? 1 : 2);
          const key = sha256(
            'patchbay:account-key:v1\0',
            this.#operator.log,
            u64(number),
            kindByte,
            bytesOf(subject),
          );
          const commitment = sha256('patchbay:account:v1\0', salt, sha256(canonical(account)));
          return { key, salt, account, leaf: sha256(Buffer.of(0), key, commitment) };
        });
      })
      .sort((a, b) => Buffer.compare(a.key, b.key));
  }

  /** A statement of a subject that has an account; `copy` counts when there are several. */
  async statement(epoch: number, subject: string, copy = 0): Promise<Json> {
    const { leaves = [] } = this.#closed[epoch - 1] ?? {};
    const found = leaves.filter(({ account }) => account['subject'] === subject)[copy];
    if (found === undefined) throw new Error('There is no account of this subject.');
    const index = leaves.indexOf(found);
    const path = await inclusionPath(new LeafReader(leaves.map(({ leaf }) => leaf)), index, leaves.length);
    const account: Json = JSON.parse(JSON.stringify(found.account));
    return {
      ...{ format: 'patchbay-statement/1', log: hex(this.#operator.log), epoch: String(epoch) },
      ...{ kind: String(found.account['kind']), subject, absent: null },
      present: { salt: hex(found.salt), account, index: String(index), path: path.map(hex) },
    };
  }

  async claim(claim: Partial<ClaimFacts> = {}): Promise<Json> {
    const { tenant, account, sequence, payouts, cumulative, scope, decimals, currency, others } = {
      ...CLAIM_DEFAULTS,
      ...claim,
    };
    const unit = 10n ** BigInt(9 - decimals);
    const total = payouts.reduce((sum, { amount }) => sum + amount, 0n);
    const own = { account, cumulative: cumulative ?? total / unit };
    const tree = await PayoutTree.build(scope, [own, ...others]);
    const member = {
      ...{ tenant, ...scope, chainId: String(scope.chainId), decimals: String(decimals), currency },
      ...{ sequence: String(sequence), root: tree.root, account, cumulative: String(own.cumulative) },
      proof: [...(tree.claimOf(account)?.proof ?? [])],
      payouts: payouts.map(({ amount, earnedBefore, id }, index) => ({
        ...{ payout: uuid(700 + (id ?? index)), amount: String(amount), earnedBefore: String(earnedBefore) },
      })),
      rest: String(total % unit),
    };
    const signedAt = START + 5 * HOUR;
    const message = { digest: sha256(canonical(member)), signedAt };
    const signature = await this.#operator.signer.sign(typedDigest(this.#operator.log, CLAIM, message));
    return {
      ...{ format: 'patchbay-claim/1', log: hex(this.#operator.log), claim: member },
      ...{ signedAt: String(signedAt), signature },
    };
  }
}

/** What a claim says. */
interface ClaimFacts {
  readonly tenant: string;
  readonly account: string;
  readonly sequence: number;
  readonly payouts: readonly {
    readonly amount: bigint;
    readonly earnedBefore: number;
    readonly id?: number;
  }[];
  readonly cumulative: bigint | null;
  readonly scope: PayoutScope;
  readonly decimals: number;
  readonly currency: string;
  /** The other leaves of the tree. */
  readonly others: readonly { readonly account: string; readonly cumulative: bigint }[];
}

export const WALLET = `0x${'b0'.repeat(20)}`;
const CLAIM_DEFAULTS: ClaimFacts = {
  ...{ tenant: OWNER, account: WALLET, sequence: 1, payouts: [], cumulative: null },
  scope: { chainId: 31_337n, distributor: `0x${'d1'.repeat(20)}`, token: `0x${'70'.repeat(20)}` },
  ...{ decimals: 6, currency: 'USD', others: [{ account: `0x${'aa'.repeat(20)}`, cumulative: 5n }] },
};

function accountOf(
  kind: 'tenant' | 'version',
  subject: string,
  counted: readonly Issued[],
  summed: readonly Issued[],
  last: bigint,
): Account {
  const total = (of: (entry: Issued) => bigint): bigint => summed.reduce((sum, entry) => sum + of(entry), 0n);
  const numberOf = ({ facts }: Issued): bigint =>
    kind === 'tenant' ? facts.counter.number : (facts.parts[0]?.adapter?.counter.number ?? 0n);
  const [price, royalty, split] = [...DOCUMENTS.keys()];
  const documents = kind === 'tenant' ? [price, royalty] : [price, royalty, split];
  const common = {
    kind,
    subject,
    lanes: [{ lane: '0', last: String(last), numbers: ranges(counted.map(numberOf)) }],
    receipts: String(summed.length),
    promptTokens: String(total(({ facts }) => BigInt(facts.promptTokens))),
    cachedPromptTokens: '0',
    completionTokens: String(total(({ facts }) => BigInt(facts.completionTokens))),
    documents: summed.length === 0 ? [] : documents.flatMap((digest) => digest ?? []).sort(),
  };
  if (kind === 'tenant') {
    const amount = total(({ facts }) => facts.amount ?? 0n);
    return { ...common, charged: amount === 0n ? [] : [{ currency: 'USD', amount: String(amount) }] };
  }
  const chargeOf = (name: 'royalty' | 'fee') => total(({ facts }) => facts.parts[0]?.charge?.[name] ?? 0n);
  const earners = [...new Set(summed.flatMap(({ earned }) => earned.map(({ tenant }) => tenant)))].sort();
  const earned = earners.map((tenant) => ({
    tenant,
    amount: String(total((entry) => entry.earned.find((one) => one.tenant === tenant)?.amount ?? 0n)),
  }));
  const royalties = {
    currency: 'USD',
    royalty: String(chargeOf('royalty')),
    fee: String(chargeOf('fee')),
    earned,
  };
  return { ...common, owner: OWNER, royalties: summed.length === 0 ? [] : [royalties] };
}

function ranges(numbers: readonly bigint[]): readonly string[] {
  const found: { first: bigint; last: bigint }[] = [];
  for (const number of [...new Set(numbers)].sort((a, b) => (a < b ? -1 : 1))) {
    const before = found.at(-1);
    if (before?.last === number - 1n) before.last = number;
    else found.push({ first: number, last: number });
  }
  return found.map(({ first, last }) => (first === last ? String(first) : `${first}-${last}`));
}
