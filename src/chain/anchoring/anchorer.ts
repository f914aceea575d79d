import type { BlockTag } from 'ethers';
import { PatchbayError } from '../../kernel/errors.ts';
import { type AnchoredEpoch, type AttributionAnchor, commitmentOf } from '../attribution-anchor.ts';
import type { ChainNode } from '../outbox/node.ts';
import { type Finality, finalBlock } from '../outbox/observe.ts';
import { decideAnchor, type Match } from './plan.ts';
import type { AnchorStore, OpenEpoch } from './store.ts';

/** Most epochs that one run looks at; what is left is looked at in the next. */
const EPOCHS_MAX = 64;

interface AnchorerDeps {
  readonly store: AnchorStore;
  readonly anchor: AttributionAnchor;
  readonly node: Pick<ChainNode, 'requireChain' | 'head' | 'finalized'>;
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
    const open = await store.open(first, EPOCHS_MAX);
    if (open.length === 0) return;
    await node.requireChain(this.#options.chainId);
    const final = await finalBlock(node, await node.head(), this.#options.finality);
    for (const one of open) {
      if (!(await this.#look(one, first, final))) return;
    }
  }

  /** Answers whether the next epoch can be looked at. */
  async #look({ epoch, before, orders }: OpenEpoch, first: bigint, final: BlockTag | null): Promise<boolean> {
    const { store, anchor } = this.#deps;
    const { number } = epoch;
    const step = decideAnchor({
      orders,
      transaction: await store.transaction(number, orders),
      newest: await this.#match(epoch, 'latest'),
      final: final === null ? 'NONE' : await this.#match(epoch, final),
    });
    switch (step.kind) {
      case 'ANCHORED':
        await store.ended(number, 'ANCHORED', step.included);
        return true;
      case 'DIFFERS':
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

  async #match(epoch: AnchoredEpoch, block: BlockTag): Promise<Match> {
    const stored = await this.#deps.anchor.commitment(epoch.number, block).catch((error: unknown) => {
      // In the newest block it was there; in the older one it was not deployed yet.
      const isNew = error instanceof PatchbayError && error.code === 'CHAIN_CODE_DIFFERS';
      if (isNew && block !== 'latest') return null;
      throw error;
    });
    if (stored === null) return 'NONE';
    return stored === commitmentOf(epoch) ? 'SAME' : 'OTHER';
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
