import fc from 'fast-check';
import { beforeAll, expect, test } from 'vitest';
import type { PayoutTree } from '../../src/chain/payout-tree.ts';
import { DISTRIBUTOR_ABI } from '../../src/chain/royalty-distributor.ts';
import { Anvil } from '../kit/anvil.ts';
import { payoutSite, type Site } from './payout-site.ts';

const SEED = Number(process.env['PATCHBAY_TEST_SEED'] ?? 20_261_129);
const RUNS = 6;
const EARNERS = 4;

let chain: Anvil;

beforeAll(async () => {
  chain = await Anvil.start();
});

type Step =
  | { readonly kind: 'fund'; readonly amount: bigint }
  /** What everybody's total changes by; a publisher who errs publishes less than before. */
  | { readonly kind: 'publish'; readonly changes: readonly bigint[] }
  | {
      readonly kind: 'claim';
      readonly earner: number;
      readonly tree: 'current' | 'before';
      readonly lie: bigint;
    }
  | { readonly kind: 'pause' | 'unpause' };

const earner = fc.nat(EARNERS - 1);
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 3, arbitrary: fc.record({ kind: fc.constant('fund' as const), amount: fc.bigInt(1n, 400n) }) },
  {
    weight: 4,
    arbitrary: fc.record({
      kind: fc.constant('publish' as const),
      changes: fc.array(fc.bigInt(-30n, 150n), { minLength: EARNERS, maxLength: EARNERS }),
    }),
  },
  {
    weight: 8,
    arbitrary: fc.record({
      kind: fc.constant('claim' as const),
      earner,
      tree: fc.constantFrom('current' as const, 'current' as const, 'before' as const),
      lie: fc.constantFrom(0n, 0n, 0n, 1n),
    }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constantFrom('pause' as const, 'unpause' as const) }) },
);

/** What a distributor must be like, in a few numbers. */
class Model {
  readonly earned: bigint[] = Array.from({ length: EARNERS }, () => 0n);
  readonly claimed: bigint[] = Array.from({ length: EARNERS }, () => 0n);
  trees: PayoutTree[] = [];
  balance = 0n;
  funded = 0n;
  paused = false;

  /** What a claim must be refused with; null when it must be paid. */
  refusal(index: number, cumulative: bigint, proven: boolean): string | null {
    const paid = this.claimed[index] ?? 0n;
    if (this.paused) return 'EnforcedPause';
    if (!proven) return 'InvalidProof';
    if (cumulative <= paid) return 'NothingToClaim';
    return this.balance < cumulative - paid ? 'InsufficientFunds' : null;
  }
}

class Run {
  readonly #site: Site;
  readonly #model = new Model();

  constructor(site: Site) {
    this.#site = site;
  }

  async take(taken: Step): Promise<void> {
    if (taken.kind === 'fund') await this.#fund(taken.amount);
    else if (taken.kind === 'publish') await this.#publish(taken.changes);
    else if (taken.kind === 'claim') await this.#claim(taken);
    else await this.#setPaused(taken.kind === 'pause');
    await this.#compare();
  }

  async #fund(amount: bigint): Promise<void> {
    await this.#site.give(amount);
    this.#model.balance += amount;
    this.#model.funded += amount;
  }

  async #publish(changes: readonly bigint[]): Promise<void> {
    const { earned, trees } = this.#model;
    changes.forEach((change, index) => {
      const now = (earned[index] ?? 0n) + change;
      earned[index] = now < 0n ? 0n : now;
    });
    const entitlements = earned.map((cumulative, index) => [chain.account(index), cumulative] as const);
    if (entitlements.every(([, cumulative]) => cumulative === 0n)) return;
    const tree = await this.#site.tree(...entitlements);
    await this.#site.publish(tree);
    trees.unshift(tree);
  }

  async #claim({ earner: index, tree, lie }: Extract<Step, { kind: 'claim' }>): Promise<void> {
    const model = this.#model;
    const shown = model.trees[tree === 'current' ? 0 : 1];
    const claim = shown?.claimOf(chain.account(index));
    if (shown === undefined || claim === null || claim === undefined) return;
    const cumulative = claim.cumulative + lie;
    const call = this.#site.distributor.claim({ ...claim, cumulative });
    const proven = lie === 0n && shown.root === model.trees[0]?.root;
    const refusal = model.refusal(index, cumulative, proven);
    if (refusal !== null) {
      expect((await chain.refusal(chain.account(index), call, DISTRIBUTOR_ABI)).name).toBe(refusal);
      return;
    }
    const { claimed } = this.#site.distributor.eventsIn(await chain.send(chain.account(index), call));
    const amount = cumulative - (model.claimed[index] ?? 0n);
    expect(claimed).toMatchObject([{ account: chain.account(index), amount, cumulative }]);
    model.claimed[index] = cumulative;
    model.balance -= amount;
  }

  async #setPaused(wanted: boolean): Promise<void> {
    const { distributor } = this.#site;
    if (this.#model.paused === wanted) return;
    await chain.send(chain.account(9), wanted ? distributor.pause() : distributor.unpause());
    this.#model.paused = wanted;
  }

  /** The chain is as the model says, and no token has come or gone otherwise. */
  async #compare(): Promise<void> {
    const { distributor, token } = this.#site;
    const accounts = this.#model.claimed.map((_, index) => chain.account(index));
    const claimed = await Promise.all(accounts.map((account) => distributor.claimed(account)));
    const balances = await Promise.all(accounts.map((account) => token.balanceOf(account)));
    expect(claimed).toEqual(this.#model.claimed);
    expect(balances).toEqual(claimed);
    expect(await token.balanceOf(distributor.address)).toBe(this.#model.balance);
    expect(claimed.reduce((sum, amount) => sum + amount, this.#model.balance)).toBe(this.#model.funded);
    expect(await distributor.sequence()).toBe(BigInt(this.#model.trees.length));
  }
}

test(`any order of funding, publishing, claiming and pausing pays what the model says (seed ${SEED})`, async () => {
  const boss = chain.account(9);
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 15, maxLength: 30 }), async (steps) => {
      const run = new Run(
        await payoutSite(chain, { owner: boss, publisher: boss, pauser: boss, funder: chain.account(8) }),
      );
      for (const taken of steps) await run.take(taken);
    }),
    { seed: SEED, numRuns: RUNS },
  );
});
