import { Wallet } from 'ethers';
import pg from 'pg';
import { z } from 'zod';
import { openProvider } from '../../../src/chain/connect.ts';
import { OUTBOX_ERRORS } from '../../../src/chain/outbox/errors.ts';
import { RpcNode } from '../../../src/chain/outbox/node.ts';
import { OutboxSender } from '../../../src/chain/outbox/sender.ts';
import { walletTransactionSigner } from '../../../src/chain/outbox/signer.ts';
import type { Problem } from '../../../src/chain/outbox/types.ts';
import type { Database } from '../../../src/db/client.ts';
import { ManualClock } from '../../kit/fake-runner.ts';
import { mortal, type Pass } from '../../kit/mortal.ts';

// A sender that makes one run and kills itself at one point of it, as a machine that loses power would.

const order = z.object({
  systemUrl: z.string(),
  url: z.string(),
  chainId: z.string(),
  key: z.string(),
  nowMs: z.number(),
  options: z.object({
    finality: z.number(),
    bumpMs: z.number(),
    inFlightMax: z.number(),
    leaseMs: z.number(),
    idleMs: z.number(),
  }),
  feeCeiling: z.string(),
  /** Where to die, such as `write 1 before commit`. */
  point: z.string(),
});

/**
 * All of a database that a sender uses, without what else takes time to load. Passes a point right before and right after the
 * commit of everything that is written, in order.
 */
class MortalDatabase implements Pick<Database, 'querySystem' | 'withSystemPg'> {
  readonly #pool: pg.Pool;
  readonly #pass: Pass;
  #writes = 0;

  constructor(connectionString: string, pass: Pass) {
    this.#pool = new pg.Pool({ connectionString, max: 2, application_name: 'mortal' });
    this.#pass = pass;
  }

  async withSystemPg<T>(work: (client: pg.PoolClient) => Promise<T>): Promise<T> {
    this.#writes += 1;
    const name = `write ${this.#writes}`;
    const client = await this.#pool.connect();
    await client.query('BEGIN');
    const result = await work(client);
    await this.#pass(`${name} before commit`);
    await client.query('COMMIT');
    await this.#pass(`${name} after commit`);
    client.release();
    return result;
  }

  async querySystem<R extends pg.QueryResultRow>(text: string, values: readonly unknown[]): Promise<R[]> {
    if (/^\s*SELECT/.test(text)) return (await this.#pool.query<R>(text, [...values])).rows;
    return this.withSystemPg(async (client) => (await client.query<R>(text, [...values])).rows);
  }

  close(): Promise<void> {
    return this.#pool.end();
  }
}

/** Passes a point before a node is given bytes, and after it has taken them. */
class MortalNode extends RpcNode {
  readonly #pass: Pass;

  constructor(pass: Pass, ...rest: ConstructorParameters<typeof RpcNode>) {
    super(...rest);
    this.#pass = pass;
  }

  override async broadcast(raw: string): Promise<Problem | null> {
    await this.#pass('before sending');
    const problem = await super.broadcast(raw);
    await this.#pass('after sending');
    return problem;
  }
}

const { systemUrl, url, key, nowMs, point, options, ...told } = order.parse(
  JSON.parse(process.argv[2] ?? ''),
);
const chainId = BigInt(told.chainId);
const pass = mortal(point);
const clock = new ManualClock();
clock.advance(nowMs);
const database = new MortalDatabase(systemUrl, pass);
const provider = openProvider({ rpcUrl: url, chainId, timeoutMs: 5_000, pollingMs: 50 });
const sender = new OutboxSender(
  { ...options, chainId, feeCeiling: BigInt(told.feeCeiling) },
  {
    database,
    clock,
    node: new MortalNode(pass, provider, OUTBOX_ERRORS),
    signer: walletTransactionSigner(new Wallet(key)),
  },
);
await sender.run();
provider.destroy();
await database.close();
