import { type Actor, reaches, requireScope } from '../../auth/principal.ts';
import { PayoutTree } from '../../chain/payout-tree.ts';
import type { Claim } from '../../chain/royalty-distributor.ts';
import { toTokenUnits } from '../../chain/token-units.ts';
import { invariant, PatchbayError } from '../../kernel/errors.ts';
import type { Uuid } from '../../kernel/ids.ts';
import { requireReferenceOf } from '../account.ts';
import { claimMembers } from './claim-members.ts';
import type { Distributors } from './distributors.ts';
import { readFollowed } from './followed.ts';
import { leavesOf, type Query, type StoredTree } from './tree-store.ts';
import type { ChainDeps, Distributor } from './types.ts';

/** A payout that a claim consists of. */
export interface ClaimedPayout {
  readonly payoutId: Uuid;
  readonly amountNano: bigint;
  readonly earnedBefore: Date;
}

/** What a beneficiary claims with, for one account. */
export interface PayoutClaim extends Claim, Distributor {
  readonly tenantId: Uuid;
  readonly currency: string;
  readonly sequence: bigint;
  readonly root: string;
  /** Oldest first. */
  readonly payouts: readonly ClaimedPayout[];
  /** What of them is smaller than the token's unit, in nano-units. */
  readonly restNano: bigint;
  /** Other accounts that the beneficiary was paid to. */
  readonly otherAccounts: readonly string[];
  /** Addresses of other distributors that have something for it: each has a claim of its own. */
  readonly otherDistributors: readonly string[];
  /** `patchbay-claim/1`; null while the deployment keeps no log. */
  readonly document: string | null;
}

/** What a claim consists of, every value a text. */
export type ClaimMembers = {
  readonly [name: string]: string | readonly string[] | readonly { readonly [name: string]: string }[];
};

/** Signs what a claim consists of, and answers the document as text. */
export interface ClaimSigner {
  sign(claim: ClaimMembers): Promise<string>;
}

interface OwnRow {
  readonly payout_id: Uuid;
  readonly payment_key: Buffer;
  readonly account: string;
  readonly amount: string;
  readonly earned_before: Date;
}

/** What a distributor has of a tenant's payouts. */
interface OwnPart {
  readonly distributor: Distributor;
  readonly tree: StoredTree;
  /** Oldest first. */
  readonly paid: readonly OwnRow[];
}

/** Of the tenant that is set. */
const OWN = `
SELECT p.id AS payout_id, p.payment_key, d.account_reference AS account, p.amount_nano::text AS amount, p.earned_before
FROM payout p JOIN payout_destination d ON d.tenant_id = p.tenant_id AND d.id = p.destination_id
WHERE p.state IN ('SENDING', 'PAID') AND d.kind = 'CHAIN' ORDER BY p.id`;

const IN_TREE = `
SELECT encode(p.payment_key, 'hex') AS key
FROM payout_tree t JOIN payout_tree_payment p ON p.tree_id = t.id
WHERE t.distributor_id = $1 AND t.sequence <= $2 AND p.payment_key = ANY ($3::bytea[])`;

/** Trees after the one that a final block has, with the purposes of their publication. */
const RECENT = `
SELECT t.id, t.sequence::text, t.currency, '0x' || encode(t.root, 'hex') AS root, t.total_units::text AS total,
       encode(t.order_sha256, 'hex') AS order_sha256, p.purpose
FROM payout_tree t JOIN payout_tree_publication p ON p.tree_id = t.id
WHERE t.distributor_id = $1 AND t.sequence >= $2 ORDER BY t.sequence DESC, p.attempt DESC`;

interface RecentRow {
  readonly id: Uuid;
  readonly sequence: string;
  readonly currency: string;
  readonly root: string;
  readonly total: string;
  readonly order_sha256: string;
  readonly purpose: string;
}

/** What beneficiaries claim with. */
export class PayoutClaimService {
  readonly #deps: Pick<ChainDeps, 'database' | 'outbox'> & {
    readonly distributors: Distributors;
    readonly signer: ClaimSigner | null;
  };
  #built: { readonly id: Uuid; readonly made: Promise<PayoutTree> } | null = null;

  constructor(
    deps: Pick<ChainDeps, 'database' | 'outbox'> & {
      readonly distributors: Distributors;
      readonly signer: ClaimSigner | null;
    },
  ) {
    this.#deps = deps;
  }

  /**
   * The claim by the tree that is in force on the chain: of the account that was paid to last when none is named, of the actor's
   * own tenant, and of the distributor that is paid by now or else the newest that has something. Null when no tree that is
   * published has anything for it.
   */
  async find(
    actor: Actor,
    wanted: {
      readonly tenantId: Uuid | null;
      readonly account: string | null;
      /** Left out: any. */
      readonly distributor?: string | null;
    },
  ): Promise<PayoutClaim | null> {
    requireScope(actor, 'billing:read');
    const tenantId = wanted.tenantId ?? actor.tenantId;
    if (!reaches(actor, tenantId)) {
      throw new PatchbayError('NOT_FOUND', 'No such tenant is visible to you.', { field: 'tenant' });
    }
    const account = wanted.account === null ? null : requireReferenceOf('CHAIN', wanted.account);
    const at = wanted.distributor == null ? null : requireReferenceOf('CHAIN', wanted.distributor);
    const { database, distributors } = this.#deps;
    // What is the tenant's is read as the tenant; only where its payments are is asked of the trees.
    const own = await database.withTenantPg(
      tenantId,
      async (client) => (await client.query<OwnRow>(OWN)).rows,
    );
    if (own.length === 0) return null;
    const query: Query = (text, values) => database.querySystem(text, values);
    const parts: OwnPart[] = [];
    for (const distributor of await distributors.used()) {
      const part = await this.#partOf(query, distributor, own);
      if (part !== null) parts.push(part);
    }
    const part = parts.find(
      ({ distributor, paid }) =>
        (at === null || distributor.distributor === at) &&
        (account === null || paid.some((row) => row.account === account)),
    );
    if (part === undefined) return null;
    const chosen = account ?? part.paid.at(-1)?.account;
    const rows = part.paid.filter((row) => row.account === chosen);
    if (chosen === undefined) return null;
    const accounts = new Set(parts.flatMap(({ paid }) => paid.map((row) => row.account)));
    const places = parts.map(({ distributor }) => distributor.distributor);
    return this.#claim(
      query,
      { ...part, tenantId, account: chosen, rows },
      {
        otherAccounts: [...accounts].filter((one) => one !== chosen),
        otherDistributors: places.filter((one) => one !== part.distributor.distributor),
      },
    );
  }

  /** What of the payouts is in the tree that a distributor has in force; null for nothing. */
  async #partOf(query: Query, distributor: Distributor, own: readonly OwnRow[]): Promise<OwnPart | null> {
    const tree = await this.#inForce(query, distributor);
    if (tree === null) return null;
    const keys = own.map(({ payment_key }) => payment_key);
    const found = await query<{ readonly key: string }>(IN_TREE, [
      distributor.id,
      String(tree.sequence),
      keys,
    ]);
    const there = new Set(found.map(({ key }) => key));
    const paid = own.filter(({ payment_key }) => there.has(payment_key.toString('hex')));
    return paid.length === 0 ? null : { distributor, tree, paid };
  }

  async #claim(
    query: Query,
    of: {
      readonly distributor: Distributor;
      readonly tree: StoredTree;
      readonly tenantId: Uuid;
      readonly account: string;
      readonly rows: readonly OwnRow[];
    },
    others: Pick<PayoutClaim, 'otherAccounts' | 'otherDistributors'>,
  ): Promise<PayoutClaim | null> {
    const { distributor, tree, tenantId, rows } = of;
    const built = await this.#build(query, distributor, tree);
    const claim = built.claimOf(of.account);
    // Less than the token's unit so far.
    if (claim === null) return null;
    const payouts = rows.map((row) => ({
      payoutId: row.payout_id,
      amountNano: BigInt(row.amount),
      earnedBefore: row.earned_before,
    }));
    const sum = payouts.reduce((total, { amountNano }) => total + amountNano, 0n);
    const { restNano } = toTokenUnits(sum, distributor.decimals);
    const { currency, sequence, root } = tree;
    const told = { ...distributor, ...claim, tenantId, currency, sequence, root, payouts, restNano };
    const document = this.#deps.signer === null ? null : await this.#deps.signer.sign(claimMembers(told));
    return { ...told, ...others, document };
  }

  /** Hashing a large tree takes a second, and everybody asks for the same one. */
  #build(query: Query, distributor: Distributor, tree: StoredTree): Promise<PayoutTree> {
    if (this.#built?.id !== tree.id) {
      const build = async (): Promise<PayoutTree> => {
        const built = await PayoutTree.build(distributor, await leavesOf(query, tree.id));
        invariant(built.root === tree.root, 'a tree is what it was when it was published');
        return built;
      };
      const made = build();
      this.#built = { id: tree.id, made };
      made.catch(() => {
        this.#built = null;
      });
    }
    return this.#built.made;
  }

  /**
   * The tree that the contract checks claims against: the newest that is in a block, final or not, because the contract knows
   * no other from then on.
   */
  async #inForce(query: Query, { id }: Distributor): Promise<StoredTree | null> {
    const { published } = await readFollowed(query, id);
    const recent = await query<RecentRow>(RECENT, [id, String(published)]);
    const states = await this.#deps.outbox.statesOf(recent.map(({ purpose }) => purpose));
    const row = recent.find(({ sequence, purpose }) => {
      const state = states.get(purpose)?.state;
      return BigInt(sequence) === published || state === 'INCLUDED' || state === 'FINAL';
    });
    if (row === undefined) return null;
    return {
      ...{ id: row.id, sequence: BigInt(row.sequence), currency: row.currency, root: row.root },
      ...{ total: BigInt(row.total), orderSha256: row.order_sha256 },
    };
  }
}
