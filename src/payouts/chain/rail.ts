import type { PoolClient } from 'pg';
import { type Entitlement, PayoutTree } from '../../chain/payout-tree.ts';
import { PatchbayError } from '../../kernel/errors.ts';
import { newId, type Uuid } from '../../kernel/ids.ts';
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
  type PlacedTree,
  paidSoFar,
  type Query,
  queryOn,
  type StoredTree,
  treeOfBatch,
} from './tree-store.ts';
import type { ChainDeps, Distributor } from './types.ts';

/** Amounts of payouts are not rounded to the token's unit: what is smaller is carried from tree to tree. */
const UNIT_NANO = 1n;

/** So often a tree is built anew because another one has come in between. */
const TURNS_MAX = 8;

/** A tree, and the one that it follows. */
interface NextTree {
  readonly before: StoredTree | null;
  readonly tree: PayoutTree;
}

/**
 * Pays by trees of a distributor. An order becomes the next tree, which holds all orders before it too, and the transaction
 * that publishes it is ordered with it, all in one transaction of the database. A batch does not wait for the tree before it: its
 * transaction waits in the outbox until the contract would take it, which is when the one before it is in a block.
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

  async requireTakes(currency: string): Promise<void> {
    const distributor = await this.#distributors.require();
    const query: Query = (text, values) => this.#deps.database.querySystem(text, values);
    await requireOwnTrees(query, distributor);
    requireCurrency(await lastTree(query, distributor.id), currency);
  }

  /** The database takes no tree for a batch that is cancelled, and its lock is waited for. */
  async neverTook(batchId: Uuid): Promise<boolean> {
    return (
      (await treeOfBatch((text, values) => this.#deps.database.querySystem(text, values), batchId)) === null
    );
  }

  async submit(order: PaymentOrder): Promise<RailReceipt> {
    requirePayable(order, UNIT_NANO);
    const orderSha256 = sha256(renderPaymentFile(order));
    const { database } = this.#deps;
    const query: Query = (text, values) => database.querySystem(text, values);
    for (let turn = 1; turn <= TURNS_MAX; turn += 1) {
      const known = await treeOfBatch(query, order.batchId);
      if (known !== null) return receiptOf(known, orderSha256);
      const distributor = await this.#distributors.require();
      const next = await this.#next(query, distributor, order);
      const added = await database.withSystemPg((client) =>
        this.#add(client, distributor, { order, orderSha256, next }),
      );
      if (added !== null) return receiptOf(added, orderSha256);
    }
    throw refused('Other batches were handed over at the same time, again and again.', {
      fix: 'Hand the batch over again.',
    });
  }

  /** The tree that would follow the last one. A large one takes seconds, so nothing is locked meanwhile. */
  async #next(query: Query, distributor: Distributor, order: PaymentOrder): Promise<NextTree> {
    const before = await lastTree(query, distributor.id);
    requireCurrency(before, order.currency);
    const sums = [...(await paidSoFar(query, distributor.id)), ...order.payments.map(toPaid)];
    const entitlements = entitlementsOf(sums, distributor.decimals);
    return { before, tree: await this.#build(query, distributor, entitlements, before) };
  }

  /**
   * Adds the tree, unless the batch has one; null when another tree has come in between. Sums change with trees alone, so that
   * the same last tree says that nothing else has changed.
   */
  async #add(
    client: PoolClient,
    distributor: Distributor,
    {
      order,
      orderSha256,
      next,
    }: { readonly order: PaymentOrder; readonly orderSha256: string; readonly next: NextTree },
  ): Promise<PlacedTree | null> {
    const { clock, outbox } = this.#deps;
    const { before, tree } = next;
    const query = queryOn(client);
    await lockDistributor(client, distributor.id);
    const known = await treeOfBatch(query, order.batchId);
    if (known !== null) return known;
    await requireOwnTrees(query, distributor);
    if ((await lastTree(query, distributor.id))?.id !== before?.id) return null;
    const sequence = (before?.sequence ?? 0n) + 1n;
    const at = new Date(clock.nowMs()).toISOString();
    const { batchId, currency, payments } = order;
    const stored = { id: newId(clock), sequence, currency, root: tree.root, total: tree.total, orderSha256 };
    const leaves = tree.entitlements();
    await addTree(query, { ...stored, distributorId: distributor.id, batchId, payments, leaves, at });
    await orderPublication(client, outbox, distributor, stored, { attempt: 1, at });
    return { ...stored, chainId: distributor.chainId, distributor: distributor.distributor };
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

/** The receipt of an order, by the tree that answers it; wherever that is, the configuration may name another distributor now. */
function receiptOf(tree: PlacedTree, orderSha256: string): RailReceipt {
  const { chainId, distributor, sequence } = tree;
  if (tree.orderSha256 === orderSha256) {
    return { reference: `${chainId}:${distributor}:${sequence}`, sha256: orderSha256 };
  }
  throw refused(`The batch was handed over as the tree ${sequence}, and was another order then.`);
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
