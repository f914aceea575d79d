import type { Database } from '../db/client.ts';
import type { Engine } from '../engine/port.ts';
import type { Clock } from '../kernel/clock.ts';
import { newId } from '../kernel/ids.ts';
import { every, type Periodic } from '../metering/periodic.ts';
import { ResidencyTotals, type RunHour } from './residency-totals.ts';

/** How often what the engine measured is written; at most so much of it is lost when the process is killed. */
const FLUSH_MS = 30_000;

/**
 * Sums of hours, whole. A row never shrinks, so an older write that a broken connection left behind and that arrives
 * after a newer one changes nothing.
 */
const WRITE = `
WITH alive AS (
  INSERT INTO engine_hour AS e (run_id, bucket, alive_us, capacity_byte_us)
  SELECT run_id, bucket, alive_us, capacity_byte_us
  FROM jsonb_to_recordset($1::jsonb) AS i(
    run_id uuid, bucket timestamptz, alive_us bigint, capacity_byte_us numeric)
  ON CONFLICT (run_id, bucket) DO UPDATE SET
    alive_us = greatest(e.alive_us, excluded.alive_us),
    capacity_byte_us = greatest(e.capacity_byte_us, excluded.capacity_byte_us)
)
INSERT INTO adapter_residency AS r (
  run_id, bucket, digest, host_byte_us, bank_byte_us, loads, bytes_loaded, load_us)
SELECT run_id, bucket, digest, host_byte_us, bank_byte_us, loads, bytes_loaded, load_us
FROM jsonb_to_recordset($2::jsonb) AS i(
  run_id uuid, bucket timestamptz, digest text, host_byte_us numeric, bank_byte_us numeric, loads bigint,
  bytes_loaded bigint, load_us bigint)
ON CONFLICT (run_id, bucket, digest) DO UPDATE SET
  host_byte_us = greatest(r.host_byte_us, excluded.host_byte_us),
  bank_byte_us = greatest(r.bank_byte_us, excluded.bank_byte_us),
  loads = greatest(r.loads, excluded.loads),
  bytes_loaded = greatest(r.bytes_loaded, excluded.bytes_loaded),
  load_us = greatest(r.load_us, excluded.load_us)`;

/** What the writer works with. */
export interface ResidencyWriterDeps {
  readonly engine: Pick<Engine, 'drainResidency'>;
  readonly database: Pick<Database, 'querySystem'>;
  readonly clock: Clock;
  /** Told of failures; what was not written stays, and is written with the next piece. */
  readonly onError: (error: unknown) => void;
}

/** Writes, from time to time, what adapters take of this process's engine. */
export class ResidencyWriter {
  readonly #deps: ResidencyWriterDeps;
  readonly #totals: ResidencyTotals;
  #task: Periodic | null = null;

  constructor(dependencies: ResidencyWriterDeps) {
    this.#deps = dependencies;
    this.#totals = new ResidencyTotals(() => newId(dependencies.clock));
  }

  start(): void {
    this.#task ??= every(FLUSH_MS, () => this.#attempt());
  }

  /** Takes what the engine has measured since the last time, and writes it. Never twice at once. */
  async flush(): Promise<void> {
    try {
      this.#totals.add(await this.#deps.engine.drainResidency());
    } finally {
      // An engine that has died tells nothing more, and what it told before may still wait to be written.
      await this.#write();
    }
  }

  /** Writes the last of it. The engine must still be there. */
  async stop(): Promise<void> {
    await this.#task?.stop();
    await this.#attempt();
  }

  async #write(): Promise<void> {
    const { hours } = this.#totals;
    if (hours.length === 0) return;
    const values = [JSON.stringify(hours.map(engineRow)), JSON.stringify(hours.flatMap(adapterRows))];
    await this.#deps.database.querySystem(WRITE, values);
    this.#totals.written();
  }

  async #attempt(): Promise<void> {
    await this.flush().catch(this.#deps.onError);
  }
}

function engineRow(hour: RunHour) {
  return {
    ...keyOf(hour),
    alive_us: String(hour.aliveUs),
    capacity_byte_us: String(hour.capacityByteUs),
  };
}

function adapterRows(hour: RunHour) {
  return hour.adapters.map((adapter) => ({
    ...keyOf(hour),
    digest: adapter.digest,
    host_byte_us: String(adapter.hostByteUs),
    bank_byte_us: String(adapter.bankByteUs),
    loads: String(adapter.loads),
    bytes_loaded: String(adapter.bytesLoaded),
    load_us: String(adapter.loadUs),
  }));
}

function keyOf({ runId, startMs }: RunHour) {
  return { run_id: runId, bucket: new Date(startMs).toISOString() };
}
