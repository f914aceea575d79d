import { randomBytes } from 'node:crypto';
import { hexlify, Wallet } from 'ethers';
import { afterAll } from 'vitest';
import { readOwnArtifact } from '../../../src/chain/artifact.ts';
import { AttributionAnchor } from '../../../src/chain/attribution-anchor.ts';
import { openProvider } from '../../../src/chain/connect.ts';
import { OUTBOX_ERRORS } from '../../../src/chain/outbox/errors.ts';
import { RpcNode } from '../../../src/chain/outbox/node.ts';
import { ChainOutbox } from '../../../src/chain/outbox/outbox.ts';
import { OutboxSender, type SenderOptions } from '../../../src/chain/outbox/sender.ts';
import { walletTransactionSigner } from '../../../src/chain/outbox/signer.ts';
import type { Order, TransactionStatus } from '../../../src/chain/outbox/types.ts';
import { ANVIL_CHAIN, Anvil } from '../../kit/anvil.ts';
import { ManualClock } from '../../kit/fake-runner.ts';
import { atFileEnd } from '../../kit/file-end.ts';
import { createTestDatabase, type TestDatabase } from '../../kit/postgres.ts';

export const GWEI = 1_000_000_000n;
const COIN = 10n ** 18n;
/** Longer than any run of a test takes. */
export const BUMP_MS = 60_000;
export const LEASE_MS = 30_000;

export const FEE_CEILING = 500n * GWEI;
/** How senders work here, but for their chain. */
export const SENDING = { finality: 3, bumpMs: BUMP_MS, inFlightMax: 16, leaseMs: LEASE_MS, idleMs: 0 };

export interface Payee {
  readonly purpose: string;
  readonly address: string;
  readonly order: Order;
}

/** A chain that makes blocks only when it is told to, a database, and an account of each sender. */
export class OutboxKit {
  readonly chain: Anvil;
  readonly db: TestDatabase;
  readonly clock = new ManualClock();
  #payees = 0;

  private constructor(chain: Anvil, db: TestDatabase) {
    this.chain = chain;
    this.db = db;
    this.clock.advance(Date.UTC(2026, 0, 1));
  }

  static async open(chainId = ANVIL_CHAIN): Promise<OutboxKit> {
    const chain = await Anvil.start(chainId);
    const kit = new OutboxKit(chain, await createTestDatabase());
    await chain.ask('evm_setAutomine', false);
    afterAll(() => kit.db.dispose());
    return kit;
  }

  get outbox(): ChainOutbox {
    return new ChainOutbox(
      { chainId: this.chain.chainId },
      { database: this.db.database, clock: this.clock },
    );
  }

  /** A new account with coins. */
  async account(coins = COIN): Promise<Wallet> {
    const wallet = new Wallet(hexlify(randomBytes(32)));
    await this.fund(wallet.address, coins);
    return wallet;
  }

  async fund(address: string, coins: bigint): Promise<void> {
    await this.chain.ask('anvil_setBalance', address, `0x${coins.toString(16)}`);
  }

  /** A sender for an account. */
  sender(wallet: Wallet, options: Partial<SenderOptions> & { readonly url?: string } = {}): OutboxSender {
    const { chainId } = this.chain;
    const { url: rpcUrl = this.chain.url, ...rest } = options;
    const provider = openProvider({ rpcUrl, chainId, timeoutMs: 5_000, pollingMs: 50 });
    atFileEnd(() => provider.destroy());
    return new OutboxSender(
      {
        ...SENDING,
        chainId,
        feeCeiling: FEE_CEILING,
        ...rest,
      },
      {
        database: this.db.database,
        clock: this.clock,
        node: new RpcNode(provider, OUTBOX_ERRORS),
        signer: walletTransactionSigner(wallet),
      },
    );
  }

  async enqueue(order: Order): Promise<void> {
    await this.db.database.withSystemPg((client) => this.outbox.enqueue(client, order));
  }

  /** Orders a payment of one wei to somebody new: what happens twice shows in the balance. */
  async pay(): Promise<Payee> {
    this.#payees += 1;
    const { address } = Wallet.createRandom();
    const purpose = `pay:${this.#payees}`;
    const order = { purpose, call: { to: address, data: '0x' }, value: 1n };
    await this.enqueue(order);
    return { purpose, address, order };
  }

  async state(purpose: string): Promise<TransactionStatus> {
    const status = await this.outbox.stateOf(purpose);
    if (status === null) throw new Error(`Nothing was ordered for ${purpose}.`);
    return status;
  }

  balance(address: string): Promise<bigint> {
    return this.chain.provider.getBalance(address);
  }

  /** A contract whose epochs begin with a number, in which the account may anchor. */
  async anchorContract(firstEpoch: bigint, publisher: string): Promise<AttributionAnchor> {
    const artifact = await readOwnArtifact('AttributionAnchor');
    const owner = this.chain.account(0);
    const address = await this.atOnce(() =>
      this.chain.deploy(owner, artifact, [firstEpoch, 0, owner, publisher]),
    );
    return new AttributionAnchor(this.chain.provider, address);
  }

  /** Does something for which blocks are made at once. */
  async atOnce<T>(work: () => Promise<T>): Promise<T> {
    await this.chain.ask('evm_setAutomine', true);
    try {
      return await work();
    } finally {
      await this.chain.ask('evm_setAutomine', false);
    }
  }

  async mine(blocks = 1): Promise<void> {
    await this.chain.ask('anvil_mine', `0x${blocks.toString(16)}`);
  }
}
