import { randomBytes, randomUUID } from 'node:crypto';
import { getAddress, hexlify, type JsonRpcProvider, Wallet } from 'ethers';
import { openProvider } from '../../../../src/chain/connect.ts';
import { OUTBOX_ERRORS } from '../../../../src/chain/outbox/errors.ts';
import { RpcNode } from '../../../../src/chain/outbox/node.ts';
import type { Finality } from '../../../../src/chain/outbox/observe.ts';
import { ChainOutbox } from '../../../../src/chain/outbox/outbox.ts';
import { OutboxSender } from '../../../../src/chain/outbox/sender.ts';
import { walletTransactionSigner } from '../../../../src/chain/outbox/signer.ts';
import type { Uuid } from '../../../../src/kernel/ids.ts';
import type { ClaimSigner, PayoutClaim } from '../../../../src/payouts/chain/claims.ts';
import { Distributors } from '../../../../src/payouts/chain/distributors.ts';
import { ChainFollower } from '../../../../src/payouts/chain/follower.ts';
import type { Funding } from '../../../../src/payouts/chain/funding.ts';
import { type ChainPayouts, openChainPayouts } from '../../../../src/payouts/chain/open.ts';
import { RpcChainReader } from '../../../../src/payouts/chain/reader.ts';
import type {
  ChainDeps,
  ChainPlace,
  ChainReader,
  TransactionOutbox,
} from '../../../../src/payouts/chain/types.ts';
import type { PayoutBatch } from '../../../../src/payouts/types.ts';
import { reconcile } from '../../../../src/reconciliation/reconcile.ts';
import { RECONCILIATION_RULES } from '../../../../src/reconciliation/types.ts';
import { payoutSite, type Site } from '../../../chain/payout-site.ts';
import { Anvil } from '../../../kit/anvil.ts';
import { ManualClock } from '../../../kit/fake-runner.ts';
import { atFileEnd } from '../../../kit/file-end.ts';
import { createTestDatabase, type TestDatabase } from '../../../kit/postgres.ts';
import { type Beneficiary, newCurrency, openPayoutsKit, type PayoutsKit } from '../kit.ts';

const COIN = 10n ** 18n;
const CHAIN_RULES = RECONCILIATION_RULES.filter(
  (rule) => rule.startsWith('CHAIN_') || rule.startsWith('PAYOUT_') || rule === 'STATEMENT_PAID',
);

/** What the tests of a file share: a chain, a database, and the account that publishes. */
export interface ChainBase {
  readonly chain: Anvil;
  readonly db: TestDatabase;
  readonly publisher: Wallet;
  readonly provider: JsonRpcProvider;
  readonly finality: Finality;
  /** Brings transactions of all worlds onto the chain. */
  readonly sender: OutboxSender;
}

/** Opens them; they end with the file. */
export async function openChainBase(finality: Finality = 1): Promise<ChainBase> {
  const chain = await Anvil.start();
  const db = await createTestDatabase();
  const publisher = new Wallet(hexlify(randomBytes(32)));
  await chain.ask('anvil_setBalance', publisher.address, `0x${COIN.toString(16)}`);
  const { chainId } = chain;
  const provider = openProvider({ rpcUrl: chain.url, chainId, timeoutMs: 5_000, pollingMs: 50 });
  atFileEnd(() => provider.destroy());
  const clock = new ManualClock();
  clock.advance(Date.UTC(2028, 0, 1));
  const sender = new OutboxSender(
    {
      ...{ chainId, finality, bumpMs: 3_600_000, feeCeiling: 10n ** 12n, inFlightMax: 16 },
      ...{ leaseMs: 30_000, idleMs: 0 },
    },
    {
      ...{ database: db.database, clock, node: new RpcNode(provider, OUTBOX_ERRORS) },
      signer: walletTransactionSigner(publisher),
    },
  );
  return { chain, db, publisher, provider, finality, sender };
}

/** A distributor of its own, with a currency of its own, in which payouts are made. */
export interface ChainWorld {
  readonly site: Site;
  readonly currency: string;
  readonly kit: PayoutsKit;
  readonly payouts: ChainPayouts;
  /** The account of a beneficiary who claims for itself. */
  wallet(): Promise<string>;
  /** Somebody who is paid to the account. */
  beneficiary(account: string): Promise<Beneficiary>;
  /** Lets it earn an amount that can be paid. */
  earn(who: Beneficiary, amount: bigint): Promise<void>;
  /** A batch of everything, approved and handed over. */
  pay(): Promise<PayoutBatch>;
  /** Lets the sender and the background do what there is to do, until nothing changes. */
  settle(): Promise<void>;
  /** Brings transactions onto the chain. */
  send(): Promise<void>;
  /** Reads what the chain says, and settles nothing. */
  follow(): Promise<void>;
  states(batchId: Uuid): Promise<readonly string[]>;
  /** Sends a claim from an account that has coins. */
  claim(claim: PayoutClaim): Promise<void>;
  /** Rules that do not agree, with what they say. */
  differences(): Promise<readonly string[]>;
  /** Services of another process. */
  another(deps?: Partial<ChainDeps>, elsewhere?: Partial<ChainPlace>): ChainPayouts;
}

export interface WorldOptions {
  readonly signer?: ClaimSigner;
  readonly blocksMax?: number;
  /** Whether its distributor is final already; left out: yes, and it was read. */
  readonly isFinal?: boolean;
  readonly wrapReader?: (reader: ChainReader) => ChainReader;
  readonly wrapOutbox?: (outbox: TransactionOutbox) => TransactionOutbox;
}

/** Makes a world. */
export async function openWorld(base: ChainBase, options: WorldOptions = {}): Promise<ChainWorld> {
  const { chain, db, publisher, provider, finality, sender } = base;
  const { signer = null, blocksMax, wrapReader, wrapOutbox } = options;
  const [owner, funder] = [chain.account(0), chain.account(1)];
  const people = { owner, publisher: publisher.address, pauser: owner, funder };
  const site = await payoutSite(chain, people);
  const { chainId } = chain;
  const plain = new RpcChainReader({ chainId, finality, account: publisher.address }, { provider });
  const reader = wrapReader?.(plain) ?? plain;
  const place = {
    chainId,
    distributor: getAddress(site.scope.distributor),
    token: getAddress(site.scope.token),
  };
  let another: ChainWorld['another'] | null = null;
  const kit = await openPayoutsKit({
    db,
    chain: ({ database, clock }) => {
      const real = new ChainOutbox({ chainId }, { database, clock });
      const outbox = wrapOutbox?.(real) ?? real;
      another = (more = {}, elsewhere = {}) =>
        openChainPayouts(
          { ...place, ...elsewhere, ...(blocksMax === undefined ? {} : { blocksMax }) },
          { database, clock, outbox, chain: reader, signer, ...more },
        );
      return another();
    },
  });
  const payouts = kit.payouts.chain;
  if (payouts === null || another === null) throw new Error('The world has a chain.');
  const currency = newCurrency();
  const world: ChainWorld = {
    ...{ site, currency, kit, payouts, another },
    wallet: async () => {
      const { address } = Wallet.createRandom();
      return address;
    },
    beneficiary: (account) => kit.beneficiary(currency, { kind: 'CHAIN', reference: account }),
    earn: async (who, amount) => {
      await kit.earn(who, currency, amount);
      kit.clock.advance(kit.options.holdbackMs + 1);
    },
    pay: () => kit.submitted(currency, 'CHAIN'),
    send: async () => {
      // What waits for a transaction before it is sent with the second.
      await sender.run();
      await sender.run();
      await sender.run();
    },
    follow: async () => {
      const parts = { database: db.database, clock: kit.clock, chain: reader };
      const distributor = await new Distributors(place, parts).require();
      await new ChainFollower({ blocksMax: 2_000 }, parts).run(distributor);
    },
    settle: async () => {
      await world.send();
      await payouts.work();
    },
    states: async (batchId) => (await kit.payoutsOf(batchId)).map(({ state }) => state),
    claim: async (claim) => {
      await chain.send(chain.account(2), site.distributor.claim(claim));
    },
    differences: async () => {
      const scope = { from: new Date(0), to: new Date(kit.clock.nowMs() + 1), tenantId: null };
      const { differences } = await reconcile(db.database, scope, CHAIN_RULES);
      const [own] = await db.admin<{ id: Uuid }>('SELECT id FROM payout_distributor WHERE address = $1', [
        site.distributor.address,
      ]);
      return differences
        .filter(({ subject, subjectId }) => subject !== 'DISTRIBUTOR' || subjectId === own?.id)
        .map(({ rule, expected, actual }) => `${rule} ${expected} ${actual}`);
    },
  };
  if (options.isFinal === false) return world;
  if (finality !== 'finalized') await chain.ask('anvil_mine', `0x${finality.toString(16)}`);
  await payouts.work();
  return world;
}

/** What an operator tells the publishing account to pay in. */
export function fund(world: ChainWorld, units: bigint | null = null, idempotencyKey: string = randomUUID()) {
  return world.payouts.funding.fund(world.kit.drafter, { idempotencyKey, units });
}

/** Brings transactions onto the chain until the funding is as it is wanted: each of its steps waits for the one before. */
export async function fundUntil(
  world: ChainWorld,
  isWanted: (funding: Funding) => boolean,
  units: bigint | null,
  idempotencyKey: string,
): Promise<Funding> {
  for (let turn = 0; turn < 50; turn += 1) {
    const funding = await fund(world, units, idempotencyKey);
    if (isWanted(funding)) return funding;
    await world.send();
  }
  return fund(world, units, idempotencyKey);
}
