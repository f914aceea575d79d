import type pg from 'pg';
import { Database, type Tx } from '../../src/db/client.ts';

/** Passes a named point of the work, and does not return when it is the one to die at. */
export type Pass = (point: string) => Promise<void>;

/** Dies at the point, as a machine that loses power would: SIGKILL cannot be caught, and nothing after it runs. */
export function mortal(deadly: string): Pass {
  return async (point) => {
    if (point !== deadly) return;
    process.kill(process.pid, 'SIGKILL');
    await new Promise(() => {});
  };
}

/**
 * Passes a point right before and right after the commit of every transaction that changes something, in order; transactions on a
 * plain connection are counted by themselves.
 */
export class MortalDatabase extends Database {
  readonly #pass: Pass;
  #transactions = 0;
  #plain = 0;

  constructor(options: ConstructorParameters<typeof Database>[0], pass: Pass) {
    super(options);
    this.#pass = pass;
  }

  override withSystem<T>(work: (tx: Tx) => Promise<T>): Promise<T> {
    return this.#around((wrap) => super.withSystem((tx) => wrap(() => work(tx))));
  }

  override withTenant<T>(tenantId: string, work: (tx: Tx) => Promise<T>): Promise<T> {
    return this.#around((wrap) => super.withTenant(tenantId, (tx) => wrap(() => work(tx))));
  }

  /** One statement is a transaction too; here it is one that can be killed before its commit. */
  override querySystem<R extends pg.QueryResultRow>(text: string, values: readonly unknown[]): Promise<R[]> {
    return this.#around((wrap) =>
      super.withSystemPg((client) => wrap(async () => (await client.query<R>(text, [...values])).rows)),
    );
  }

  override withSystemPg<T>(work: (client: pg.PoolClient) => Promise<T>): Promise<T> {
    this.#plain += 1;
    const name = `plain transaction ${this.#plain}`;
    return this.#named(name, (wrap) => super.withSystemPg((client) => wrap(() => work(client))));
  }

  #around<T>(run: (wrap: (work: () => Promise<T>) => Promise<T>) => Promise<T>): Promise<T> {
    this.#transactions += 1;
    return this.#named(`transaction ${this.#transactions}`, run);
  }

  async #named<T>(
    name: string,
    run: (wrap: (work: () => Promise<T>) => Promise<T>) => Promise<T>,
  ): Promise<T> {
    const result = await run(async (work) => {
      const done = await work();
      await this.#pass(`${name} before commit`);
      return done;
    });
    await this.#pass(`${name} after commit`);
    return result;
  }
}
