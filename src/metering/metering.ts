import { hostname } from 'node:os';
import type { Clock } from '../kernel/clock.ts';
import { Lease, type SystemDatabase } from './lease.ts';
import { ensurePartitions } from './partitions.ts';
import { every, type Periodic } from './periodic.ts';
import {
  MeteringRecorder,
  RECORDER_DEFAULTS,
  type RecorderDatabase,
  type RecorderOptions,
} from './recorder.ts';
import { type Recharge, type Recovery, Sweeper } from './sweeper.ts';
import type { SettlementWitness } from './types.ts';

/** How metering runs in one process. */
export interface MeteringOptions {
  /** How long after its last sign of life a process's requests may be settled by another. At least a second. */
  readonly leaseMs: number;
  /** Several processes add to rollups in parallel rows, at most this many. */
  readonly rollupShards: number;
  readonly recorder: RecorderOptions;
}

/** Values that suit a server. */
export const METERING_DEFAULTS: MeteringOptions = {
  leaseMs: 15_000,
  rollupShards: 16,
  recorder: RECORDER_DEFAULTS,
};

/** What metering works with. */
export interface MeteringDeps {
  readonly database: SystemDatabase & RecorderDatabase;
  readonly clock: Clock;
  /** Prices what a lost process left. */
  readonly recharge: Recharge;
  /** Told of every settlement in its transaction. */
  readonly witness?: SettlementWitness | null;
  /** Told of failures of background work; it is tried again by itself. */
  readonly onBackgroundError?: (task: string, error: unknown) => void;
  /** Told of requests that were settled for a process that was lost. */
  readonly onRecovery?: (recovery: Recovery) => void;
}

/** The lease is renewed this often within its length, so that two renewals may fail. */
const RENEWALS_PER_LEASE = 3;
const MAINTENANCE_MS = 6 * 3_600_000;

/** Metering of one process: its lease, its recorder, and the recovery of other processes' requests. */
export class Metering {
  readonly lease: Lease;
  readonly recorder: MeteringRecorder;
  readonly sweeper: Sweeper;
  private readonly options: MeteringOptions;
  private readonly deps: MeteringDeps;
  private readonly tasks: Periodic[] = [];
  /** Since when renewals have succeeded in good time; null after a failure. */
  private steadySinceMs: number | null = null;

  constructor(options: MeteringOptions, deps: MeteringDeps) {
    this.options = options;
    this.deps = deps;
    this.lease = new Lease({ ...options, host: hostname(), pid: process.pid }, deps);
    this.recorder = new MeteringRecorder(options.recorder, { ...deps, lease: this.lease });
    this.sweeper = new Sweeper({ ...deps, lease: this.lease });
  }

  /**
   * Takes a lease, and keeps it; settles what fenced processes left, now and from time to time. Others whose lease has
   * run out are left alone for a lease's length: the database may have been away from them as well as from this one.
   */
  async start(): Promise<void> {
    await ensurePartitions(this.deps.database);
    await this.lease.ensure();
    this.steadySinceMs = this.deps.clock.monotonicMs();
    this.report(await this.sweeper.recoverFenced());
    const renewMs = this.options.leaseMs / RENEWALS_PER_LEASE;
    this.tasks.push(
      every(renewMs, () => this.renew()),
      every(this.options.leaseMs / 2, () => this.sweep()),
      every(MAINTENANCE_MS, () => this.maintain()),
    );
  }

  /** Settles, now, everything that expired or fenced processes left. */
  async recoverExpired(): Promise<Recovery> {
    const recovery = await this.sweeper.recoverExpired();
    this.report(recovery);
    return recovery;
  }

  /** Stops background work, writes what waits, and gives the lease back. Call it when no request runs any more. */
  async stop(): Promise<void> {
    await Promise.all(this.tasks.splice(0).map((task) => task.stop()));
    await this.recorder.close();
    await this.attempt('release the lease', () => this.lease.release());
  }

  private report(recovery: Recovery): void {
    if (recovery.settled.length > 0) this.deps.onRecovery?.(recovery);
    for (const { requestId, error } of recovery.failed)
      this.deps.onBackgroundError?.(`recover request ${requestId}`, error);
  }

  private async renew(): Promise<void> {
    const startedMs = this.deps.clock.monotonicMs();
    const renewed = await this.attempt('renew the lease', () => this.lease.renew());
    const endedMs = this.deps.clock.monotonicMs();
    // A database that only hangs fails nobody's renewal, and delays everybody's.
    const hung = endedMs - startedMs > this.options.leaseMs / 2;
    if (!renewed) this.steadySinceMs = null;
    else if (hung || this.steadySinceMs === null) this.steadySinceMs = endedMs;
  }

  /**
   * Sweeps only after a full lease of steady renewals: when the database was away from everybody, every lease has run
   * out, and whoever comes back first must give the others time to renew theirs.
   */
  private async sweep(): Promise<void> {
    const steady = this.steadySinceMs;
    if (steady === null || this.deps.clock.monotonicMs() - steady < this.options.leaseMs) return;
    await this.attempt('recover requests', () => this.recoverExpired());
  }

  private async maintain(): Promise<void> {
    await this.attempt('create partitions', () => ensurePartitions(this.deps.database));
    await this.attempt('forget old instances', () => this.sweeper.forgetOldInstances());
    await this.attempt('forget old idempotency keys', () => this.sweeper.forgetOldKeys());
  }

  private async attempt(task: string, work: () => Promise<unknown>): Promise<boolean> {
    try {
      await work();
      return true;
    } catch (error) {
      this.deps.onBackgroundError?.(task, error);
      return false;
    }
  }
}
