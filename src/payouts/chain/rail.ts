import type { PoolClient } from 'pg';
import { type Entitlement, PayoutTree } from '../../chain/payout-tree.ts';
import { PatchbayError } from '../../kernel/errors.ts';
import { newId } from '../../kernel/ids.ts';
import { renderPaymentFile, sha256 } from '../payment-file.ts';
import {
  type PaymentOrder,
  type PayoutRail,
  type RailReceipt,
  type RailTerms,
  requirePayable,
} from '../rail.ts';
import { requireChainAgrees } from './agreed.ts';
import { type Distributors, lockDistributor } from './distributors.ts';
import { entitlementsOf, leastNano } from './entitlements.ts';
import { foreignTree } from './followed.ts';
import { orderPublication } from './publication.ts';
import {
  addTree,
  lastTree,
  leavesOf,
  paidSoFar,
  type Query,
  queryOn,
  type StoredTree,
  treeOfBatch,
} from './tree-store.ts';
import type { ChainDeps, Distributor } from './types.ts';

/** Amounts of payouts are not rounded to the token's unit: what is smaller is carried from tree to tree. */
const UNIT_NANO = 1n;

/**
 * Pays by trees of a distributor. An order becomes the next tree, which holds all orders before it too, and the transaction
 * that publishes it is ordered with it, all in one transaction of the database. Trees follow each other without waiting: the
 * transactions of one account go in their order.
 */
export class ChainPayoutRail implements PayoutRail {
  readonly kind = 'CHAIN';
  readonly refuses: ReadonlySet<string>;
  readonly #distributors: Distributors;
  readonly #deps: Pick<ChainDeps, 'database' | 'clock' | 'outbox'>;

  constructor(distributors: Distributors, dependencies: Pick<ChainDeps, 'database' | 'clock' | 'outbox'>) {
    this.#distributors = distributors;
    this.#deps = dependencies;
    this.refuses = new Set([distributors.place.distributor, distributors.place.token]);
  }

  unitNano(): bigint {
    return UNIT_NANO;
  }

  async terms(currency: string): Promise<RailTerms> {
    const distributor = await this.#distributors.require();
    const query: Query = (text, values) => this.#deps.database.querySystem(text, values);
    requireCurrency(await lastTree(query, distributor.id), currency);
    return { leastNano: leastNano(distributor.decimals) };
  }

  async requireAgreed(): Promise<void> {
    await requireChainAgrees(this.#deps, (await this.#distributors.require()).id);
  }

  async submit(order: PaymentOrder): Promise<RailReceipt> {
    requirePayable(order, UNIT_NANO);
    const distributor = await this.#distributors.require();
    const orderSha256 = sha256(renderPaymentFile(order));
    const sequence = await this.#deps.database.withSystemPg(async (client) => {
      await lockDistributor(client, distributor.id);
      const known = await treeOfBatch(queryOn(client), order.batchId);
      if (known === null) return this.#add(client, distributor, order, orderSha256);
      if (known.orderSha256 === orderSha256) return known.sequence;
      throw refused(`The batch was handed over as the tree ${known.sequence}, and was another order then.`);
    });
    const { chainId, distributor: address } = distributor;
    return { reference: `${chainId}:${address}:${sequence}`, sha256: orderSha256 };
  }

  async #add(
    client: PoolClient,
    distributor: Distributor,
    order: PaymentOrder,
    orderSha256: string,
  ): Promise<bigint> {
    const { clock, outbox } = this.#deps;
    const query = queryOn(client);
    await requireOwnTrees(query, distributor);
    const before = await lastTree(query, distributor.id);
    requireCurrency(before, order.currency);
    const sums = [...(await paidSoFar(query, distributor.id)), ...order.payments.map(toPaid)];
    const tree = await this.#build(query, distributor, entitlementsOf(sums, distributor.decimals), before);
    const sequence = (before?.sequence ?? 0n) + 1n;
    const at = new Date(clock.nowMs()).toISOString();
    const { batchId, currency, payments } = order;
    const stored = { id: newId(clock), sequence, currency, root: tree.root, total: tree.total, orderSha256 };
    const leaves = tree.entitlements();
    await addTree(query, { ...stored, distributorId: distributor.id, batchId, payments, leaves, at });
    await orderPublication(client, outbox, distributor, stored, { attempt: 1, at });
    return sequence;
  }

  /** The tree, which takes nothing back of what the one before it promises. */
  async #build(
    query: Query,
    distributor: Distributor,
    entitlements: readonly Entitlement[],
    before: StoredTree | null,
  ): Promise<PayoutTree> {
    if (entitlements.length === 0) throw refused('The order comes to less than the token’s smallest unit.');
    const tree = await PayoutTree.build(distributor, entitlements);
    if (before === null) return tree;
    const earlier = await PayoutTree.build(distributor, await leavesOf(query, before.id));
    const below = tree.belowEarlier(earlier);
    if (earlier.root === before.root && below.length === 0) return tree;
    throw refused('The tree would take back what an earlier one promises, or an earlier one was changed.', {
      fix: 'Find out what has changed in the trees that are stored, by `patchbay reconcile`.',
      meta: { accounts: below.length, account: below[0] ?? null },
    });
  }
}

function toPaid({ beneficiary, accountReference: account, amount }: PaymentOrder['payments'][number]) {
  return { beneficiary, account, amountNano: amount };
}

function requireCurrency(last: StoredTree | null, currency: string): void {
  if (last === null || last.currency === currency) return;
  throw refused(`The distributor pays what was earned in ${last.currency}, and not ${currency}.`, {
    fix: 'Deploy a distributor for the other currency, or pay it by another rail.',
    meta: { currency: last.currency },
  });
}

/** Whoever has published a tree here that is none of ours could take back what ours promise. */
async function requireOwnTrees(query: Query, distributor: Distributor): Promise<void> {
  const foreign = await foreignTree(query, distributor.id);
  if (foreign === null) return;
  throw refused(`Somebody else has published the tree ${foreign.sequence} of the distributor.`, {
    fix: 'Pause the distributor, revoke the publisher’s role, and find out who has its key. docs/concepts/payouts.md says more.',
    meta: { sequence: String(foreign.sequence), transaction: foreign.transaction },
  });
}

function refused(
  message: string,
  options: ConstructorParameters<typeof PatchbayError>[2] = {},
): PatchbayError {
  return new PatchbayError('PAYOUT_RAIL', message, options);
}
