import { PrismaPg } from '@prisma/adapter-pg';
import pg from 'pg';
import { PatchbayError } from '../kernel/errors.ts';
import { isUuid, type Uuid } from '../kernel/ids.ts';
import { mapDatabaseError } from './errors.ts';
import { type Prisma, PrismaClient } from './generated/client.ts';
import type { RoleUrls } from './roles.ts';

/** A Prisma transaction: of one tenant inside {@link Database.withTenant}, else of the system role. */
export type Tx = Prisma.TransactionClient;

/** How to connect. */
export interface DatabaseOptions extends RoleUrls {
  /** Shown in pg_stat_activity, with the role appended. */
  readonly applicationName?: string;
  readonly appConnectionsMax?: number;
  readonly systemConnectionsMax?: number;
  /** Connections of the system role that are kept for what must not wait behind reads: leases and metering. */
  readonly reservedConnectionsMax?: number;
  /** Longest that one statement may run. */
  readonly statementTimeoutMs?: number;
  /** Longest that a transaction may sit idle between statements before the server ends it. */
  readonly idleInTransactionTimeoutMs?: number;
  /** Longest that a caller waits for a connection. */
  readonly connectTimeoutMs?: number;
  /** Longest that an interactive transaction may take. */
  readonly transactionTimeoutMs?: number;
}

/** What the database client needs from its surroundings. */
export interface DatabaseDependencies {
  /** Told of connections that break while idle; the pool replaces them by itself. */
  readonly onConnectionError?: (error: Error) => void;
}

const DEFAULTS = {
  applicationName: 'patchbay',
  appConnectionsMax: 12,
  systemConnectionsMax: 6,
  reservedConnectionsMax: 2,
  statementTimeoutMs: 15_000,
  idleInTransactionTimeoutMs: 15_000,
  connectTimeoutMs: 5_000,
  transactionTimeoutMs: 20_000,
};

/**
 * A row of one statement's FROM that sets the statement's tenant to `$1` and tells it as `tenant`: where a function takes
 * it from there, it is set before the function runs. One round trip, where a transaction takes four.
 */
export const AS_TENANT = `(SELECT set_config('app.tenant_id', $1, true)::uuid AS tenant)`;

/** A bounded number of connections. */
class PgPool {
  readonly pool: pg.Pool;

  constructor(config: pg.PoolConfig, onError: (error: Error) => void) {
    this.pool = new pg.Pool(config);
    // Without listeners a server restart would end the process: the pool's own covers idle connections alone, so
    // each connection gets one for while it is lent out.
    this.pool.on('error', onError);
    this.pool.on('connect', (client) => client.on('error', onError));
  }

  async transactionPg<T>(tenantId: Uuid | null, work: (client: pg.PoolClient) => Promise<T>): Promise<T> {
    let client: pg.PoolClient | undefined;
    let broken: Error | boolean = false;
    try {
      client = await this.pool.connect();
      await client.query('BEGIN');
      try {
        if (tenantId !== null) await client.query(`SELECT set_config('app.tenant_id', $1, true)`, [tenantId]);
        const result = await work(client);
        await client.query('COMMIT');
        return result;
      } catch (error) {
        // A connection that cannot even roll back must not go back into the pool with a tenant set.
        await client.query('ROLLBACK').catch(() => {
          broken = true;
        });
        throw error;
      }
    } catch (error) {
      throw mapDatabaseError(error);
    } finally {
      client?.release(broken);
    }
  }

  async query<R extends pg.QueryResultRow>(
    text: string,
    values: readonly unknown[],
    name?: string,
  ): Promise<R[]> {
    try {
      const query = { text, values: [...values], ...(name === undefined ? {} : { name }) };
      return (await this.pool.query<R>(query)).rows;
    } catch (error) {
      throw mapDatabaseError(error);
    }
  }

  async close(): Promise<void> {
    await this.pool.end();
  }
}

/** One role's connections: a bounded pool that the Prisma client and raw queries share. */
class RolePool extends PgPool {
  readonly prisma: PrismaClient;
  private readonly limits: { readonly maxWait: number; readonly timeout: number };

  constructor(config: pg.PoolConfig, timeout: number, onError: (error: Error) => void) {
    super(config, onError);
    this.prisma = new PrismaClient({ adapter: new PrismaPg(this.pool, { onConnectionError: onError }) });
    this.limits = { maxWait: config.connectionTimeoutMillis ?? DEFAULTS.connectTimeoutMs, timeout };
  }

  async transaction<T>(tenantId: Uuid | null, work: (tx: Tx) => Promise<T>): Promise<T> {
    try {
      return await this.prisma.$transaction(async (tx) => {
        if (tenantId !== null) await tx.$queryRaw`SELECT set_config('app.tenant_id', ${tenantId}, true)`;
        return work(tx);
      }, this.limits);
    } catch (error) {
      throw mapDatabaseError(error);
    }
  }

  override async close(): Promise<void> {
    await this.prisma.$disconnect();
    await super.close();
  }
}

/**
 * The program's way into the database. Work for a tenant runs in one transaction in which the tenant is set, as a
 * role that row-level security binds; nothing else may touch tenant tables.
 */
export class Database {
  private readonly app: RolePool;
  private readonly system: RolePool;
  private readonly reserved: PgPool;
  private closing: Promise<void> | undefined;

  constructor(options: DatabaseOptions, dependencies: DatabaseDependencies = {}) {
    const settings = { ...DEFAULTS, ...options };
    const onError = (error: Error): void => {
      // Connections that are being closed may learn from a server that stops that it does; that is no news.
      if (this.closing === undefined) dependencies.onConnectionError?.(error);
    };
    const config = (name: string, connectionString: string, max: number): pg.PoolConfig => ({
      connectionString,
      max,
      application_name: `${settings.applicationName}-${name}`,
      statement_timeout: settings.statementTimeoutMs,
      idle_in_transaction_session_timeout: settings.idleInTransactionTimeoutMs,
      connectionTimeoutMillis: settings.connectTimeoutMs,
      idleTimeoutMillis: 30_000,
      keepAlive: true,
      // Prisma writes times without an offset and drops the one that it reads, so the session has to be in UTC,
      // whatever the server's own setting is.
      options: '-c timezone=UTC',
    });
    const { appUrl, systemUrl, transactionTimeoutMs } = settings;
    this.app = new RolePool(config('app', appUrl, settings.appConnectionsMax), transactionTimeoutMs, onError);
    this.system = new RolePool(
      config('system', systemUrl, settings.systemConnectionsMax),
      transactionTimeoutMs,
      onError,
    );
    this.reserved = new PgPool(config('reserved', systemUrl, settings.reservedConnectionsMax), onError);
  }

  /** Runs work as the tenant, in one transaction: its rows are all there is. */
  async withTenant<T>(tenantId: Uuid, work: (tx: Tx) => Promise<T>): Promise<T> {
    return this.app.transaction(checked(tenantId), work);
  }

  /** {@link withTenant} on a plain pg connection, for bulk work. */
  async withTenantPg<T>(tenantId: Uuid, work: (client: pg.PoolClient) => Promise<T>): Promise<T> {
    return this.app.transactionPg(checked(tenantId), work);
  }

  /** Runs work as the system role, in one transaction: operators, settlement, validation. */
  async withSystem<T>(work: (tx: Tx) => Promise<T>): Promise<T> {
    return this.system.transaction(null, work);
  }

  /** {@link withSystem} on a plain pg connection. */
  async withSystemPg<T>(work: (client: pg.PoolClient) => Promise<T>): Promise<T> {
    return this.system.transactionPg(null, work);
  }

  /** {@link withSystemPg} on a connection that no other work can take. */
  async withReservedPg<T>(work: (client: pg.PoolClient) => Promise<T>): Promise<T> {
    return this.reserved.transactionPg(null, work);
  }

  /**
   * One statement as the app role with no tenant set but the one that it sets by {@link AS_TENANT}: without, only
   * functions that answer across tenants, and tables that belong to no tenant, answer.
   */
  async queryApp<R extends pg.QueryResultRow>(text: string, values: readonly unknown[]): Promise<R[]> {
    return this.app.query<R>(text, values);
  }

  /** One statement as the system role, outside of any transaction; with a name, prepared once on each connection. */
  async querySystem<R extends pg.QueryResultRow>(
    text: string,
    values: readonly unknown[],
    name?: string,
  ): Promise<R[]> {
    return this.system.query<R>(text, values, name);
  }

  /** {@link querySystem} on a connection that no other work can take. */
  async queryReserved<R extends pg.QueryResultRow>(
    text: string,
    values: readonly unknown[],
    name?: string,
  ): Promise<R[]> {
    return this.reserved.query<R>(text, values, name);
  }

  /** Closes every connection once running work has returned its own. May be called again. */
  async close(): Promise<void> {
    const pools = [this.app, this.system, this.reserved];
    this.closing ??= Promise.all(pools.map((pool) => pool.close())).then(() => {});
    return this.closing;
  }
}

function checked(tenantId: Uuid): Uuid {
  if (isUuid(tenantId)) return tenantId;
  throw new PatchbayError('INTERNAL', 'A tenant scope was opened without a tenant id.');
}
