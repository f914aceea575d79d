import type { Database } from '../db/client.ts';
import type { Clock } from '../kernel/clock.ts';
import { newId, type Uuid } from '../kernel/ids.ts';

/** The system role's way into the database. */
export type SystemDatabase = Pick<Database, 'querySystem' | 'withSystemPg'>;

/** Connections of the system role that no other work can take: a lease must not run out behind a flood of reads. */
export type ReservedDatabase = Pick<Database, 'queryReserved' | 'withReservedPg'>;

/** How this process presents itself, and how long its word holds. */
export interface LeaseOptions {
  readonly host: string;
  readonly pid: number;
  /** How long after the last renewal others may take the requests of this process. Counted by the database. */
  readonly leaseMs: number;
  /** Number of parallel rollup rows; each process adds to one of them. */
  readonly rollupShards: number;
}

/** A registration of this process. */
export interface Registration {
  readonly instanceId: Uuid;
  readonly shard: number;
}

interface ShardRow {
  readonly shard: number;
}

/** Takes the shard that the fewest live processes use. */
const REGISTER = `
INSERT INTO instance (id, host, pid, shard, started_at, heartbeat_at, lease_expires_at)
SELECT $1, $2, $3, s.shard, now(), now(), now() + make_interval(secs => $4::double precision / 1000)
FROM generate_series(0, $5::integer - 1) AS s(shard)
LEFT JOIN instance i ON i.shard = s.shard AND i.fenced_at IS NULL
GROUP BY s.shard ORDER BY count(i.id), s.shard LIMIT 1
RETURNING shard`;

const RENEW = `
UPDATE instance
SET heartbeat_at = now(), lease_expires_at = now() + make_interval(secs => $2::double precision / 1000)
WHERE id = $1 AND fenced_at IS NULL
RETURNING id`;

const STOP = `
UPDATE instance SET fenced_at = now(), fence_reason = 'stopped' WHERE id = $1 AND fenced_at IS NULL`;

/**
 * The lease of this process: one row of `instance`, renewed every few seconds, under which all requests that it
 * admitted are its own. The lease ends when the row is fenced, and by nothing else: a process that renews late but
 * before anyone fenced it goes on. A process that was fenced registers anew under another id; what it admitted under
 * the old id belongs to whoever recovers it.
 */
export class Lease {
  private readonly options: LeaseOptions;
  private readonly database: ReservedDatabase;
  private readonly clock: Clock;
  private readonly listeners = new Set<(instanceId: Uuid) => void>();
  private registration: Registration | null = null;
  private registering: Promise<Registration> | null = null;

  constructor(options: LeaseOptions, deps: { readonly database: ReservedDatabase; readonly clock: Clock }) {
    this.options = options;
    this.database = deps.database;
    this.clock = deps.clock;
  }

  /** The registration, or null before the first and after a fence. */
  get current(): Registration | null {
    return this.registration;
  }

  /** Calls back once for every registration that was lost. Returns the way to stop listening. */
  onFenced(listener: (instanceId: Uuid) => void): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  /** The registration to admit under; registers when there is none. */
  ensure(): Promise<Registration> {
    if (this.registration !== null) return Promise.resolve(this.registration);
    this.registering ??= this.register().finally(() => {
      this.registering = null;
    });
    return this.registering;
  }

  /** Extends the lease; after a fence, registers anew. */
  async renew(): Promise<void> {
    const held = this.registration;
    if (held === null) {
      await this.ensure();
      return;
    }
    const renewed = await this.database.queryReserved(RENEW, [held.instanceId, this.options.leaseMs]);
    if (renewed.length === 0) this.fenced(held.instanceId);
  }

  /** Says that a write found the instance fenced. */
  fenced(instanceId: Uuid): void {
    if (this.registration?.instanceId !== instanceId) return;
    this.registration = null;
    for (const listener of this.listeners) listener(instanceId);
  }

  /** Gives the lease back, so that whatever may be left of its requests is recovered without waiting. */
  async release(): Promise<void> {
    const held = this.registration;
    this.registration = null;
    if (held !== null) await this.database.queryReserved(STOP, [held.instanceId]);
  }

  private async register(): Promise<Registration> {
    const { host, pid, leaseMs, rollupShards } = this.options;
    const instanceId = newId(this.clock);
    const values = [instanceId, host, pid, leaseMs, rollupShards];
    const [row] = await this.database.queryReserved<ShardRow>(REGISTER, values);
    if (row === undefined) throw new Error('Registering the instance returned no row');
    this.registration = { instanceId, shard: row.shard };
    return this.registration;
  }
}
