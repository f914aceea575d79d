import type { BlockTag } from 'ethers';
import { PatchbayError } from '../../kernel/errors.ts';
import { type AnchoredEpoch, type AttributionAnchor, commitmentOf } from '../attribution-anchor.ts';
import type { ChainNode } from '../outbox/node.ts';
import { type Finality, finalBlock } from '../outbox/observe.ts';
import type { BlockRef, TransactionStatus } from '../outbox/types.ts';
import { decideAnchor, type Match } from './plan.ts';
import type { AnchorStore, OpenEpoch } from './store.ts';

/** Most epochs that one run looks at; what is left is looked at in the next. */
const EPOCHS_MAX = 64;

interface AnchorerDeps {
  readonly store: AnchorStore;
  readonly anchor: AttributionAnchor;
  readonly node: Pick<ChainNode, 'requireChain' | 'head' | 'finalized' | 'blockHash'>;
}

/** A difference that was seen, and where. */
interface Doubt {
  readonly number: bigint;
  readonly stored: string;
  readonly block: BlockRef;
}

/** The chain as a run sees it. */
interface Sight {
  readonly first: bigint;
  readonly head: BlockRef;
  readonly final: number | null;
  /** The difference that the run before saw. */
  readonly doubt: Doubt | null;
}

/** `STOPPED`: the contract has another epoch than the database, and nothing is anchored in it any more. */
export type AnchorOutcome = 'DONE' | 'TROUBLED' | 'STOPPED';

/**
 * Has closed epochs anchored, in their order, whatever the chain has of them already. Any number of processes may run it: what
 * each finds leads to the same orders.
 */
export class Anchorer {
  readonly #options: { readonly chainId: bigint; readonly finality: Finality };
  readonly #deps: AnchorerDeps;
  #first: bigint | null = null;
  /** All that is to be anchored before this one is. That never changes, so that it is not looked at again. */
  #from: bigint | null = null;
  #doubt: Doubt | null = null;

  constructor(options: { readonly chainId: bigint; readonly finality: Finality }, deps: AnchorerDeps) {
    this.#options = options;
    this.#deps = deps;
  }

  /** Looks at what is not anchored, and orders what is next. Nothing that the chain or its node does makes it fail. */
  async run(): Promise<AnchorOutcome> {
    const { store } = this.#deps;
    if (await store.isStopped()) return 'STOPPED';
    try {
      await this.#advance();
      await store.trouble(null);
      return 'DONE';
    } catch (error) {
      if (!(error instanceof PatchbayError) || !error.code.startsWith('CHAIN_')) throw error;
      const { code, message } = error;
      await store.trouble({ code, message });
      return code === 'CHAIN_ANCHOR_DIFFERS' ? 'STOPPED' : 'TROUBLED';
    }
  }

  async #advance(): Promise<void> {
    const { store, node } = this.#deps;
    const first = await this.#firstEpoch();
    const from = this.#from ?? first;
    const newest = await store.newest();
    if (newest === null || newest < from) return;
    const open = await store.open(from, EPOCHS_MAX);
    this.#from = open[0]?.epoch.number ?? newest + 1n;
    const doubt = this.#doubt;
    this.#doubt = null;
    if (open.length === 0) return;
    await node.requireChain(this.#options.chainId);
    const head = await node.head();
    const final = await finalBlock(node, head, this.#options.finality);
    for (const one of open) {
      if (!(await this.#look(one, { first, head, final, doubt }))) return;
    }
  }

  /** Answers whether the next epoch can be looked at. */
  async #look({ epoch, before, orders }: OpenEpoch, sight: Sight): Promise<boolean> {
    const { store, anchor } = this.#deps;
    const { first, head, final } = sight;
    const { number } = epoch;
    const atFinal = final === null ? null : await this.#stored(number, final);
    const step = decideAnchor({
      orders,
      transaction: await store.transaction(number, orders),
      newest: matchOf(epoch, await this.#stored(number, 'latest')),
      final: matchOf(epoch, atFinal),
    });
    switch (step.kind) {
      case 'ANCHORED': {
        const { included } = step;
        const isOurs = included === null ? false : await anchor.isAnchoredBy(included.hash, epoch);
        // The node does not have the transaction yet.
        if (isOurs === null) return true;
        // What somebody else had anchored before it, it has not.
        await store.ended(number, 'ANCHORED', isOurs ? included : null);
        return true;
      }
      case 'LOST':
        throw lost(number, step.included, head);
      case 'DIFFERS':
        await this.#confirm(number, atFinal, sight);
        await store.ended(number, 'DIFFERS', null);
        throw new PatchbayError(
          'CHAIN_ANCHOR_DIFFERS',
          `Epoch ${number} is anchored at ${anchor.address} with other values than its document here has.`,
          { meta: { epoch: String(number), contract: anchor.address } },
        );
      case 'ORDER':
        await store.order(number, orders + 1, anchor.anchor(epoch, number === first ? null : before));
        return false;
      case 'WAIT':
        return step.goOn;
    }
  }

  /**
   * Returns when a run before this one saw the same difference on the same chain. What follows from it is never taken back, and
   * one answer may have come from another node than is meant.
   * @throws PatchbayError CHAIN_ANCHOR_DOUBTFUL when it is the first time.
   */
  async #confirm(number: bigint, stored: string | null, { final, doubt }: Sight): Promise<void> {
    const { node, anchor } = this.#deps;
    await node.requireChain(this.#options.chainId);
    const hash = final === null ? null : await node.blockHash(final);
    if (final === null || hash === null || stored === null) {
      throw new PatchbayError('CHAIN_NODE_BEHIND', 'The node does not have the block that it called final.');
    }
    this.#doubt = { number, stored, block: { number: final, hash } };
    const isSame = doubt !== null && doubt.number === number && doubt.stored === stored;
    if (isSame && (await node.blockHash(doubt.block.number)) === doubt.block.hash) return;
    throw new PatchbayError(
      'CHAIN_ANCHOR_DOUBTFUL',
      `The node says that epoch ${number} is anchored at ${anchor.address} with other values than its document here has.`,
      { meta: { epoch: String(number), contract: anchor.address } },
    );
  }

  /** What the contract has for an epoch; null for nothing. */
  #stored(number: bigint, block: BlockTag): Promise<string | null> {
    return this.#deps.anchor.commitment(number, block).catch((error: unknown) => {
      // In the newest block it was there; in the older one it was not deployed yet.
      const isNew = error instanceof PatchbayError && error.code === 'CHAIN_CODE_DIFFERS';
      if (isNew && block !== 'latest') return null;
      throw error;
    });
  }

  async #firstEpoch(): Promise<bigint> {
    if (this.#first !== null) return this.#first;
    // Asked before anything is believed: at the same address of another chain there may be something else.
    await this.#deps.node.requireChain(this.#options.chainId);
    const first = await this.#deps.anchor.firstEpoch();
    await this.#deps.store.seen(first);
    this.#first = first;
    return first;
  }
}

function matchOf(epoch: AnchoredEpoch, stored: string | null): Match {
  if (stored === null) return 'NONE';
  return stored === commitmentOf(epoch) ? 'SAME' : 'OTHER';
}

/** What was final is not there: the node is behind, or the chain went back. */
function lost(number: bigint, included: TransactionStatus['included'], head: BlockRef): PatchbayError {
  const meta = { epoch: String(number), block: included === null ? null : String(included.block.number) };
  if (included !== null && head.number < included.block.number) {
    return new PatchbayError(
      'CHAIN_NODE_BEHIND',
      `The node is at block ${head.number}, and epoch ${number} was anchored for good in block ${included.block.number}.`,
      { meta },
    );
  }
  return new PatchbayError(
    'CHAIN_FINALITY_BROKEN',
    `The transaction that anchored epoch ${number} was final, and the contract does not have the epoch.`,
    { meta },
  );
}
