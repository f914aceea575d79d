import type { Uuid } from '../../kernel/ids.ts';
import type { ProofDocument } from '../documents.ts';
import { headDocument, hex } from '../log/documents.ts';
import type { TreeHead } from '../log/types.ts';
import { requestHash } from './commit.ts';
import type { AccountKind, Epoch, Quarantined, Released } from './types.ts';

// How epochs and statements are written: docs/reference/proofs.md.

/** What the member `epoch` is made of, but for its digest. */
export interface EpochFacts extends Omit<Epoch, 'digest'> {
  readonly accounts: { readonly root: Uint8Array; readonly size: number };
  readonly receipts: bigint;
  readonly quarantined: readonly Quarantined[];
  readonly released: readonly Released[];
}

/** The member `epoch`: what is hashed and signed. */
export function epochMember(logId: Uint8Array, facts: EpochFacts): ProofDocument {
  const { accounts } = facts;
  const requestOf = ({ requestId }: { readonly requestId: Uuid }): string =>
    hex(requestHash(logId, requestId));
  return {
    number: String(facts.number),
    firstSize: String(facts.firstSize),
    size: String(facts.size),
    root: hex(facts.root),
    closedAt: String(facts.closedAt.getTime()),
    previous: hex(facts.previous),
    accounts: { root: hex(accounts.root), size: String(accounts.size) },
    receipts: String(facts.receipts),
    quarantined: facts.quarantined
      .map((one) => ({ request: requestOf(one), leaf: leafText(one.leaf), reason: one.reason }))
      .sort(byRequest),
    released: facts.released
      .map((one) => ({ request: requestOf(one), leaf: leafText(one.leaf), epoch: String(one.epoch) }))
      .sort(byRequest),
  };
}

/** The text of `patchbay-epoch/1`. */
export function epochText(
  logId: Uint8Array,
  epoch: ProofDocument,
  head: TreeHead,
  signed: { readonly signedAt: number; readonly signature: string },
): string {
  return JSON.stringify({
    format: 'patchbay-epoch/1',
    log: hex(logId),
    epoch,
    head: headDocument(head),
    signedAt: String(signed.signedAt),
    signature: signed.signature,
  });
}

/** A leaf of the accounts' tree, beside which another would be. */
export interface AccountNeighbour {
  readonly index: number;
  readonly key: Uint8Array;
  readonly commitment: Uint8Array;
  readonly path: readonly Uint8Array[];
}

/** What a party is shown of an epoch's accounts. */
export type StatementFacts = {
  readonly logId: Uint8Array;
  readonly epoch: bigint;
  readonly kind: AccountKind;
  readonly subject: Uuid;
} & (
  | {
      readonly present: {
        readonly salt: Uint8Array;
        /** Canonical JSON. */
        readonly account: string;
        readonly index: number;
        readonly path: readonly Uint8Array[];
      };
    }
  | {
      readonly absent: { readonly before: AccountNeighbour | null; readonly after: AccountNeighbour | null };
    }
);

/** The text of `patchbay-statement/1`. */
export function statementText(facts: StatementFacts): string {
  const { logId, epoch, kind, subject } = facts;
  const head = { format: 'patchbay-statement/1', log: hex(logId), epoch: String(epoch), kind, subject };
  if ('absent' in facts) {
    const { before, after } = facts.absent;
    const absent = { before: neighbour(before), after: neighbour(after) };
    return JSON.stringify({ ...head, present: null, absent });
  }
  const { salt, account, index, path } = facts.present;
  const proof = JSON.stringify({ salt: hex(salt), index: String(index), path: path.map(hex) });
  // The account is canonical already, and whoever checks its digest reads the same again.
  const present = `${proof.slice(0, -1)},"account":${account}}`;
  return `${JSON.stringify(head).slice(0, -1)},"present":${present},"absent":null}`;
}

function neighbour(of: AccountNeighbour | null) {
  if (of === null) return null;
  return {
    index: String(of.index),
    key: hex(of.key),
    commitment: hex(of.commitment),
    path: of.path.map(hex),
  };
}

function leafText(leaf: Uint8Array | null): string | null {
  return leaf === null ? null : hex(leaf);
}

function byRequest(a: { readonly request: string }, b: { readonly request: string }): number {
  return a.request < b.request ? -1 : 1;
}
