import { createHash, randomBytes } from 'node:crypto';
import { Database } from '../../../src/db/client.ts';
import type { EndEvent, InferenceEvent } from '../../../src/inference/events.ts';
import type { InferenceInput } from '../../../src/inference/input.ts';
import type { AdapterResolver, Caller, RequestPricer } from '../../../src/inference/ports.ts';
import {
  INFERENCE_DEFAULTS,
  type InferenceOptions,
  InferenceService,
} from '../../../src/inference/service.ts';
import { type Clock, systemClock } from '../../../src/kernel/clock.ts';
import { PatchbayError } from '../../../src/kernel/errors.ts';
import { newId, type Uuid } from '../../../src/kernel/ids.ts';
import { METERING_DEFAULTS, Metering } from '../../../src/metering/metering.ts';
import type { RecorderOptions } from '../../../src/metering/recorder.ts';
import type { Recharge } from '../../../src/metering/sweeper.ts';
import type { Proofs } from '../../../src/proofs/open.ts';
import type { TestDatabase } from '../../kit/postgres.ts';
import { freePricer, freeRecharge } from '../../kit/unpriced.ts';
import { FakeEngine } from './fake-engine.ts';

/** An adapter version that tests may run. */
export interface TestAdapter {
  readonly versionId: Uuid;
  readonly adapterId: Uuid;
  readonly ownerTenantId: Uuid;
  readonly digest: string;
}

/** What an API process would hold, without timers: tests renew, sweep and reap by hand. */
export interface TestProcess {
  readonly database: Database;
  readonly metering: Metering;
  readonly engine: FakeEngine;
  readonly service: InferenceService;
  /** How often adapters were resolved and prompts encoded. */
  readonly work: { resolved: number; encoded: number };
  close(): Promise<void>;
}

/** Ends a process's lease without waiting for it. */
export async function expire(db: TestDatabase, process: TestProcess): Promise<void> {
  const instanceId = process.metering.lease.current?.instanceId ?? null;
  await db.admin(`UPDATE instance SET lease_expires_at = now() - interval '1 second' WHERE id = $1`, [
    instanceId,
  ]);
}

export function testAdapter(name: string, ownerTenantId: Uuid): TestAdapter {
  const digest = createHash('sha256').update(`${ownerTenantId}/${name}`).digest('hex');
  return { versionId: newId(systemClock), adapterId: newId(systemClock), ownerTenantId, digest };
}

export function testCaller(tenantId: Uuid = newId(systemClock)): Caller {
  return { tenantId, keyId: newId(systemClock), scopes: ['infer'] };
}

/** An input with a prompt of `tokens` tokens on the plain backbone. */
export function plainInput(tokens = 3, more: Partial<InferenceInput> = {}): InferenceInput {
  return {
    promptIds: Array.from({ length: tokens }, (_, i) => i + 1),
    plainBackbone: true,
    maxTokens: 64,
    ...more,
  };
}

export async function startProcess(
  db: Pick<TestDatabase, 'appUrl' | 'systemUrl'>,
  options: {
    readonly adapters?: ReadonlyMap<string, TestAdapter>;
    readonly inference?: Partial<InferenceOptions>;
    readonly recorder?: Partial<RecorderOptions>;
    readonly clock?: Clock;
    /** Nothing costs anything without. */
    readonly pricer?: (database: Database) => RequestPricer;
    readonly recharge?: Recharge;
    /** There are no receipts without. */
    readonly proofs?: (database: Database) => Promise<Proofs>;
    readonly name?: string;
  } = {},
): Promise<TestProcess> {
  const name = options.name ?? 'process';
  const database = new Database({ appUrl: db.appUrl, systemUrl: db.systemUrl, applicationName: name });
  const clock = options.clock ?? systemClock;
  const recorder = { ...METERING_DEFAULTS.recorder, ...options.recorder };
  const proofs = (await options.proofs?.(database)) ?? null;
  const metering = new Metering(
    { ...METERING_DEFAULTS, leaseMs: 60_000, recorder },
    { database, clock, recharge: options.recharge ?? freeRecharge, witness: proofs?.counters ?? null },
  );
  await metering.lease.ensure();
  const engine = new FakeEngine();
  const work = { resolved: 0, encoded: 0 };
  const adapters: AdapterResolver = {
    resolveForInference: async (_tenantId, refs) =>
      refs.map(({ adapter, weight }) => {
        work.resolved += 1;
        const found = options.adapters?.get(adapter);
        if (found === undefined) throw new PatchbayError('ADAPTER_NOT_FOUND', 'No such adapter.');
        return { ...found, weight };
      }),
  };
  const service = new InferenceService(
    { ...INFERENCE_DEFAULTS, maxBlendWeight: 16, ...options.inference },
    {
      engine,
      encoder: {
        tokenCharsMax: 2,
        encode: (text) => {
          work.encoded += 1;
          return [...text].map((c) => c.charCodeAt(0) % 1_000);
        },
        encodeChat: (messages) => {
          work.encoded += 1;
          return messages.map((message) => message.content.length);
        },
      },
      adapters,
      pricer: options.pricer?.(database) ?? freePricer,
      recorder: metering.recorder,
      lease: metering.lease,
      receipts: proofs?.desk ?? null,
      clock,
      randomBytes,
    },
  );
  return {
    database,
    metering,
    engine,
    service,
    work,
    close: async () => {
      await service.drain({ graceMs: 0 });
      await metering.stop();
      await proofs?.desk.close();
      await database.close();
    },
  };
}

/** Takes events until the stream ends. */
export async function collect(stream: AsyncIterable<InferenceEvent>): Promise<InferenceEvent[]> {
  const events: InferenceEvent[] = [];
  for await (const event of stream) events.push(event);
  return events;
}

/** The last event, which must be the end. */
export function endOf(events: readonly InferenceEvent[]): EndEvent {
  const last = events.at(-1);
  if (last?.kind !== 'end') throw new Error('The stream has no end');
  return last;
}

/** The ids of all tokens among the events. */
export function tokenIds(events: readonly InferenceEvent[]): number[] {
  return events.flatMap((event) => (event.kind === 'tokens' ? event.tokens.map((token) => token.id) : []));
}

/** Asks for one event that must come. */
export async function take(stream: AsyncIterator<InferenceEvent>): Promise<InferenceEvent> {
  const result = await stream.next();
  if (result.done === true) throw new Error('The stream has ended');
  return result.value;
}

/** A usage record as it lies in the table. */
export interface RecordRow {
  readonly id: Uuid;
  readonly tenant_id: Uuid;
  readonly prompt_tokens: number;
  readonly cached_prompt_tokens: number;
  readonly completion_tokens: number;
  readonly finish_reason: string;
  readonly error_code: string | null;
  readonly settled_by: string;
  readonly compute_us: string | null;
  readonly output_commitment: Buffer;
  readonly prompt_commitment: Buffer;
}

/** All usage records of a tenant, oldest first. */
export function recordsOf(db: TestDatabase, tenantId: Uuid): Promise<RecordRow[]> {
  return db.admin<RecordRow>('SELECT * FROM usage_record WHERE tenant_id = $1 ORDER BY id', [tenantId]);
}

/** The first element, which must exist. */
export function only<T>(items: readonly T[]): T {
  const [first] = items;
  if (first === undefined || items.length !== 1) throw new Error(`Expected one item, got ${items.length}`);
  return first;
}

/** Lets everything that is on its way to the database get there. */
export async function quiesce(api: TestProcess): Promise<void> {
  // What an engine event sets off reaches the committer a few turns of the event loop later.
  for (let turn = 0; turn < 3; turn += 1) {
    await new Promise(setImmediate);
    await api.metering.recorder.flush();
  }
}
