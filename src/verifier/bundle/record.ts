import { requestHash } from '../hashing/accounts.ts';
import type { Receipt, SignedHead } from '../input/formats.ts';
import { divide } from '../pricing/arithmetic.ts';
import { holdsIn } from '../step.ts';
import type { Examined } from '../verify.ts';
import type { View } from '../view.ts';

/** A number of a lane. */
export interface Counter {
  readonly lane: string;
  readonly number: bigint;
}

/** What somebody earns of a part. */
export interface Earning {
  readonly tenant: string;
  readonly amount: bigint;
}

/** What a part of a receipt says, as far as it is open. */
export interface PartRecord {
  readonly version: string | undefined;
  readonly owner: string | undefined;
  readonly counter: Counter | undefined;
  readonly royalty: bigint | undefined;
  readonly fee: bigint | undefined;
  /** Undefined when what it takes to compute it is not open. */
  readonly earned: readonly Earning[] | undefined;
  /** Digests of the price and royalty documents that open fields name. */
  readonly documents: readonly string[];
  /** Digest of the split; null when there is none, or its field is not open. */
  readonly split: string | null;
}

/** What is kept of a receipt: what it says of who, what and how much, and where it is, without hashes and salts. */
export interface ReceiptRecord {
  readonly names: readonly string[];
  readonly id: string;
  /** How epochs name the request. */
  readonly request: string;
  readonly leaf: string;
  /** Whether the signature of its batch is one that counts. */
  readonly signed: boolean;
  readonly signedAt: bigint;
  /** Where it is in the log of a signed head, when that is shown. */
  readonly place: { readonly index: bigint; readonly head: SignedHead } | null;
  readonly tenant: string | undefined;
  readonly counter: Counter | undefined;
  readonly promptTokens: bigint | undefined;
  readonly cachedPromptTokens: bigint | undefined;
  readonly completionTokens: bigint | undefined;
  readonly currency: string | undefined;
  readonly amount: bigint | undefined;
  readonly parts: readonly PartRecord[];
}

/** Takes down what the steps found of a receipt. */
export function recordOf(name: string, receipt: Receipt, examined: Examined): ReceiptRecord {
  const { view, leaf, steps } = examined;
  const passed = (step: string): boolean => holdsIn(steps, step);
  const { inclusion } = receipt;
  return {
    names: [name],
    id: receipt.id,
    request: requestHash(receipt.log, receipt.id),
    leaf,
    signed: passed('batch') && passed('batch.signature'),
    signedAt: BigInt(receipt.batch.signedAt),
    place:
      inclusion !== null && passed('inclusion') && passed('head')
        ? { index: BigInt(inclusion.index), head: inclusion.head }
        : null,
    tenant: view.request('tenant'),
    counter: counterOf(view.request('tenantCounter')),
    promptTokens: wholeOf(view.request('promptTokens')),
    cachedPromptTokens: wholeOf(view.request('cachedPromptTokens')),
    completionTokens: wholeOf(view.request('completionTokens')),
    currency: view.request('currency'),
    amount: wholeOf(view.request('amount')),
    parts: [...Array(view.parts).keys()].map((part) => partOf(view, part, examined)),
  };
}

function partOf(view: View, part: number, { documents }: Examined): PartRecord {
  const [royalty, fee] = [wholeOf(view.part(part, 'royalty')), wholeOf(view.part(part, 'fee'))];
  const [owner, split] = [view.part(part, 'owner'), view.part(part, 'split')];
  const earned = royalty === undefined || fee === undefined || fee > royalty ? undefined : royalty - fee;
  const named = [view.part(part, 'price'), view.part(part, 'royaltyTerms')];
  return {
    version: view.part(part, 'version'),
    owner,
    counter: counterOf(view.part(part, 'counter')),
    royalty,
    fee,
    earned:
      earned === undefined || owner === undefined || split === undefined
        ? undefined
        : earningsOf(earned, owner, split === '' ? null : (documents.split(split) ?? undefined)),
    documents: named.flatMap((digest) => (digest === undefined || digest === '' ? [] : [digest])),
    split: split === undefined || split === '' ? null : split,
  };
}

function earningsOf(
  earned: bigint,
  owner: string,
  split:
    | { readonly beneficiaries: readonly { readonly tenant: string; readonly parts: string }[] }
    | null
    | undefined,
): readonly Earning[] | undefined {
  if (split === undefined) return undefined;
  if (split === null) return [{ tenant: owner, amount: earned }];
  const amounts = divide(
    earned,
    split.beneficiaries.map(({ parts }) => BigInt(parts)),
  );
  return split.beneficiaries.map(({ tenant }, index) => ({ tenant, amount: amounts[index] ?? 0n }));
}

/** One record of two views of the same receipt: what either of them opens. */
export function merged(one: ReceiptRecord, other: ReceiptRecord): ReceiptRecord {
  return {
    ...one,
    names: [...one.names, ...other.names],
    signed: one.signed || other.signed,
    place: one.place ?? other.place,
    tenant: one.tenant ?? other.tenant,
    counter: one.counter ?? other.counter,
    promptTokens: one.promptTokens ?? other.promptTokens,
    cachedPromptTokens: one.cachedPromptTokens ?? other.cachedPromptTokens,
    completionTokens: one.completionTokens ?? other.completionTokens,
    currency: one.currency ?? other.currency,
    amount: one.amount ?? other.amount,
    parts: one.parts.map((part, index) => mergedPart(part, other.parts[index])),
  };
}

function mergedPart(one: PartRecord, other: PartRecord | undefined): PartRecord {
  return {
    version: one.version ?? other?.version,
    owner: one.owner ?? other?.owner,
    counter: one.counter ?? other?.counter,
    royalty: one.royalty ?? other?.royalty,
    fee: one.fee ?? other?.fee,
    earned: one.earned ?? other?.earned,
    documents: [...new Set([...one.documents, ...(other?.documents ?? [])])],
    split: one.split ?? other?.split ?? null,
  };
}

function counterOf(text: string | undefined): Counter | undefined {
  if (text === undefined || text === '') return undefined;
  const [lane = '', number = ''] = text.split(':');
  return { lane, number: BigInt(number) };
}

function wholeOf(text: string | undefined): bigint | undefined {
  return text === undefined || text === '' ? undefined : BigInt(text);
}
