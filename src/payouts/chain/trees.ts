import { type Actor, requireOperatorScope } from '../../auth/principal.ts';
import { keyset, type Page, type PageRequest, toPage } from '../../db/page.ts';
import type { Uuid } from '../../kernel/ids.ts';
import { hex } from '../rows.ts';
import { problemOf } from './funding.ts';
import { type ChainDeps, TRANSACTION_STATES } from './types.ts';

/** Where a tree stands: as its publication, until its payouts are paid. */
export const TREE_STATES = [...TRANSACTION_STATES, 'SETTLED'] as const;
export type TreeState = (typeof TREE_STATES)[number];

/** A tree, as operators see it. */
export interface PayoutTreeView {
  readonly id: Uuid;
  readonly batchId: Uuid;
  readonly chainId: bigint;
  readonly distributor: string;
  readonly token: string;
  readonly decimals: number;
  readonly currency: string;
  readonly sequence: bigint;
  /** `0x` and 64 digits. */
  readonly root: string;
  readonly total: bigint;
  readonly accounts: number;
  readonly state: TreeState;
  /** That published it; null while it is in no block. */
  readonly transaction: string | null;
  readonly problem: string | null;
  readonly createdAt: Date;
  readonly settledAt: Date | null;
}

/** The trees that were made. For operators. */
export class PayoutTreeService {
  readonly #deps: Pick<ChainDeps, 'database' | 'outbox'>;

  constructor(deps: Pick<ChainDeps, 'database' | 'outbox'>) {
    this.#deps = deps;
  }

  /** Trees of every distributor that was used, oldest first. */
  async list(actor: Actor, page: PageRequest): Promise<Page<PayoutTreeView>> {
    requireOperatorScope(actor, 'billing:read');
    const { database, outbox } = this.#deps;
    const { where, ...order } = keyset(page);
    const publications = { orderBy: { attempt: 'desc' }, take: 1 } as const;
    const rows = await database.withSystem((tx) =>
      tx.payoutTree.findMany({
        where,
        include: { distributor: true, settlement: true, publications },
        ...order,
      }),
    );
    const purposes = rows.flatMap((row) => row.publications.map(({ purpose }) => purpose));
    const states = await outbox.statesOf(purposes);
    return toPage(
      rows,
      page,
      ({ distributor, settlement, publications: [last], ...tree }): PayoutTreeView => {
        const status = last === undefined ? undefined : states.get(last.purpose);
        const { id, batchId, currency, sequence, accounts, createdAt } = tree;
        const { chainId, address, token, decimals } = distributor;
        return {
          ...{ id, batchId, currency, sequence, accounts, createdAt, chainId, token, decimals },
          distributor: address,
          root: `0x${hex(tree.root)}`,
          total: BigInt(tree.totalUnits.toFixed()),
          state: settlement === null ? (status?.state ?? 'QUEUED') : 'SETTLED',
          transaction:
            settlement === null ? (status?.included?.hash ?? null) : `0x${hex(settlement.transactionHash)}`,
          problem: settlement === null ? problemOf(status) : null,
          settledAt: settlement?.createdAt ?? null,
        };
      },
    );
  }
}
