import { SYSTEM_ACTOR } from '../../auth/principal.ts';
import type { Tx } from '../../db/client.ts';
import { PLATFORM_TENANT_ID } from '../../db/platform.ts';
import type { Uuid } from '../../kernel/ids.ts';
import { recordAudit } from '../../tenant/audit.ts';
import { applyChanges, lockOutcomes } from '../apply.ts';
import { bytes } from '../rows.ts';
import { lockBatches, settleBatches } from '../settle.ts';
import { foreignTree, readFollowed } from './followed.ts';
import { type Query, treeAt } from './tree-store.ts';
import type { ChainDeps, Distributor } from './types.ts';

/** What a run has come to. */
export interface Settled {
  /** Trees whose payouts are paid now. */
  readonly trees: readonly { readonly sequence: bigint; readonly payouts: number }[];
  /** What has to be paid in before the others are; zero when it is enough, or nothing waits. */
  readonly missing: bigint;
  /** A tree on the chain that is none of ours. While there is one, nothing is settled. */
  readonly foreign: bigint | null;
}

interface WaitingRow {
  readonly id: Uuid;
  readonly sequence: string;
  readonly batch_id: Uuid;
  readonly transaction: string;
}

const WAITING = `
SELECT t.id, t.sequence::text, t.batch_id, encode(e.transaction_hash, 'hex') AS transaction
FROM payout_tree t
JOIN payout_chain_event e ON e.distributor_id = t.distributor_id AND e.kind = 'PUBLISHED'
  AND e.sequence = t.sequence AND e.root = t.root
WHERE t.distributor_id = $1 AND NOT EXISTS (SELECT FROM payout_tree_settlement s WHERE s.tree_id = t.id)
ORDER BY t.sequence`;

/**
 * Settles payouts: those of every tree that a final block has published are paid once the distributor holds, after the same
 * final block, all that its tree in force owes and nobody has claimed. Tokens leave it by claims alone, so from then on the
 * money is out of the operator's reach.
 */
export class ChainSettlement {
  readonly #deps: Pick<ChainDeps, 'database' | 'clock'>;

  constructor(deps: Pick<ChainDeps, 'database' | 'clock'>) {
    this.#deps = deps;
  }

  async run(distributor: Distributor): Promise<Settled> {
    const { database } = this.#deps;
    const nothing = { trees: [], missing: 0n, foreign: null };
    const query: Query = (text, values) => database.querySystem(text, values);
    const foreign = await foreignTree(query, distributor.id);
    if (foreign !== null) return { ...nothing, foreign: foreign.sequence };
    const due = await query<WaitingRow>(WAITING, [distributor.id]);
    if (due.length === 0) return nothing;
    // What is read afterwards is the newer, and in one snapshot: the tree in force is one of these, or a later one.
    const { balance, block, claimed, published } = await readFollowed(query, distributor.id);
    const inForce = await treeAt(query, distributor.id, published);
    if (inForce === null) return nothing;
    const owed = inForce.total - claimed;
    if (balance < owed) return { ...nothing, missing: owed - balance };
    const trees: { readonly sequence: bigint; readonly payouts: number }[] = [];
    for (const tree of due) {
      const paid = await database.withSystem((tx) => this.#settle(tx, tree, { block, owed, balance }));
      if (paid !== null) trees.push({ sequence: BigInt(tree.sequence), payouts: paid });
    }
    return { ...nothing, trees };
  }

  /** Pays the payouts of a tree; null when another process has done so. */
  async #settle(
    tx: Tx,
    { id, sequence, batch_id: batchId, transaction }: WaitingRow,
    seen: { readonly block: number; readonly owed: bigint; readonly balance: bigint },
  ): Promise<number | null> {
    const { clock } = this.#deps;
    await lockOutcomes(tx);
    await lockBatches(tx, [batchId]);
    if ((await tx.payoutTreeSettlement.count({ where: { treeId: id } })) > 0) return null;
    const at = new Date(clock.nowMs());
    await tx.payoutTreeSettlement.createMany({
      data: {
        ...{ treeId: id, transactionHash: bytes(transaction), blockNumber: seen.block, createdAt: at },
        ...{ owedUnits: String(seen.owed), balanceUnits: String(seen.balance) },
      },
    });
    const payouts = await tx.payout.findMany({
      where: { batchId, state: 'SENDING' },
      include: { destination: true, batch: true },
    });
    const reference = `${sequence}:0x${transaction}`;
    const changes = payouts.map((payout) => ({ payout, state: 'PAID' as const, reference, line: null }));
    await applyChanges(tx, clock, changes, { first: null, by: null, at });
    await settleBatches(tx, clock, [batchId]);
    const after = { sequence, batchId, bankReference: reference, paid: payouts.map((payout) => payout.id) };
    await recordAudit(tx, clock, {
      ...{ tenantId: PLATFORM_TENANT_ID, actor: SYSTEM_ACTOR, action: 'payoutTree.settled', context: {} },
      ...{ targetType: 'payoutTree', targetId: id, after },
    });
    return payouts.length;
  }
}
