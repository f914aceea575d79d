import { randomBytes, randomUUID } from 'node:crypto';
import pg from 'pg';
import { z } from 'zod';
import type { Principal } from '../../../src/auth/principal.ts';
import type { Database } from '../../../src/db/client.ts';
import type { InferenceInput } from '../../../src/inference/input.ts';
import type { Clock } from '../../../src/kernel/clock.ts';
import type { Uuid } from '../../../src/kernel/ids.ts';
import { pause } from '../../../src/metering/periodic.ts';
import { PRICE_LEAD_MS } from '../../../src/pricing/resolver.ts';
import { CLOSER_DEFAULTS, type CloserOptions, EpochCloser } from '../../../src/proofs/epochs/closer.ts';
import type { DigestSigner } from '../../../src/proofs/log/types.ts';
import { openProofs, type Proofs } from '../../../src/proofs/open.ts';
import { DESK_DEFAULTS } from '../../../src/proofs/receipts/desk.ts';
import { DocumentStore } from '../../../src/proofs/receipts/document-store.ts';
import { ReceiptIssuer } from '../../../src/proofs/receipts/issuer.ts';
import { testSigner } from '../../kit/log.ts';
import { openBilling, PRICE, priceBackbone } from '../billing/kit.ts';
import { plays } from '../inference/fake-engine.ts';
import { collect, expire, only, plainInput, quiesce, take, testCaller } from '../inference/harness.ts';
import { actorOf } from '../pricing/kit.ts';

/** The database's own time, moved: usage records are dated by it. */
export class ShiftedClock implements Clock {
  #ahead = 0;
  nowMs(): number {
    return Date.now() + this.#ahead;
  }
  monotonicMs(): number {
    return this.nowMs();
  }
  advance(ms: number): void {
    this.#ahead += ms;
  }
}

export const reader = (tenantId: Uuid): Principal => ({
  ...{ kind: 'TENANT', tenantId, keyId: tenantId, scopes: ['usage:read'] },
});

/** Every request has five tokens. */
const PLAYS = plays(() => 5);

const text = z.string();

/** `patchbay-epoch/1`. */
export const epochSchema = z.strictObject({
  format: z.literal('patchbay-epoch/1'),
  log: text,
  epoch: z.strictObject({
    ...{
      number: text,
      firstSize: text,
      size: text,
      root: text,
      closedAt: text,
      previous: text,
      receipts: text,
    },
    accounts: z.strictObject({ root: text, size: text }),
    quarantined: z.array(z.strictObject({ request: text, leaf: text.nullable(), reason: text })),
    released: z.array(z.strictObject({ request: text, leaf: text.nullable(), epoch: text })),
  }),
  head: z.strictObject({ root: text, size: text, signedAt: text, signature: text }),
  signedAt: text,
  signature: text,
});

const neighbour = z
  .strictObject({ index: text, key: text, commitment: text, path: z.array(text) })
  .nullable();

/** `patchbay-statement/1`. */
export const statementSchema = z.strictObject({
  ...{ format: z.literal('patchbay-statement/1'), log: text, epoch: text, kind: text, subject: text },
  present: z
    .strictObject({
      ...{ salt: text, index: text, path: z.array(text) },
      account: z.record(z.string(), z.unknown()),
    })
    .nullable(),
  absent: z.strictObject({ before: neighbour, after: neighbour }).nullable(),
});

/** Requests of two tenants on adapters of two owners, one of which shares what it earns, with receipts in the log. */
export async function openEpochs() {
  const kit = await openBilling();
  const { db } = kit;
  const clock = new ShiftedClock();
  await priceBackbone(kit, { ...PRICE, platformFeePpm: 100_000n });
  const [one, other, third] = [await kit.tenant(), await kit.tenant(), await kit.tenant()];
  const royal = await kit.adapterWithRoyalty('royal', one, 250_000n);
  const rich = await kit.adapterWithRoyalty('rich', other, 400_000n);
  const terms = {
    beneficiaries: [
      { tenantId: one, parts: 3n },
      { tenantId: third, parts: 4n },
    ],
  };
  const proposal = await kit.splits.propose(actorOf(one), {
    ...{
      idempotencyKey: randomUUID(),
      adapterId: royal.adapterId,
      adapterVersionId: null,
      terms,
      effectiveFrom: null,
    },
  });
  await kit.splits.decide(actorOf(third), { proposalId: proposal.id, agrees: true });
  kit.clock.advance(PRICE_LEAD_MS + 1);
  const opened: Proofs[] = [];
  const onError = (error: unknown) => {
    throw error;
  };
  const open = async (database: Database): Promise<Proofs> => {
    const made = await openProofs(
      { database, clock, signer: testSigner(), randomBytes, pause, onError },
      { desk: { ...DESK_DEFAULTS, betweenMs: 0 } },
    );
    opened.push(made);
    return made;
  };
  const api = await kit.process({ proofs: open });
  api.engine.script = PLAYS;
  const [proofs] = opened;
  if (proofs === undefined) throw new Error('The process has no proofs.');
  const logId = await proofs.keys.logId();
  const documents = new DocumentStore({ database: db.database });
  // Whatever is there counts as left behind.
  const issuer = new ReceiptIssuer(
    { logId, batchMax: 500, lostAfterMs: 0 },
    { ...{ database: db.database, clock, signer: testSigner(), randomBytes }, documents },
  );
  const superuser = new pg.Client({ connectionString: db.adminUrl });
  await superuser.connect();
  // What a superuser can do who also disables the triggers.
  await superuser.query('SET session_replication_role = replica');

  const world = {
    ...{ kit, db, clock, api, proofs, logId, one, other, third, royal, rich },

    ask(adapters: readonly { adapter: string; weight?: number }[] = []): InferenceInput {
      const { plainBackbone: _plain, ...input } = plainInput(3, { maxTokens: 8 });
      return adapters.length === 0 ? { ...input, plainBackbone: true } : { ...input, adapters };
    },

    /** Settles a request of five tokens; its id. */
    async serve(
      tenantId: Uuid,
      adapters: readonly { adapter: string; weight?: number }[] = [],
    ): Promise<Uuid> {
      const { requestId, receipt } = await api.service.generate(testCaller(tenantId), world.ask(adapters));
      await receipt?.();
      return requestId;
    },

    /** A stream of which a part was read, and more was generated. */
    async begin(tenantId: Uuid, process = api) {
      process.engine.script = null;
      const stream = await process.service.infer(testCaller(tenantId), world.ask([{ adapter: 'rich' }]));
      await take(stream);
      const sequence = await process.engine.sequence(process.engine.all.length - 1);
      sequence.emit(1, 2);
      await take(stream);
      return { stream, sequence };
    },

    /** A stream that was left, one that failed, a failure that delivered nothing, and one whose process was lost. */
    async serveBadly(tenantId: Uuid): Promise<void> {
      const left = await world.begin(tenantId);
      left.sequence.emit(3, 4, 5);
      await left.stream.return?.();
      const failed = await world.begin(tenantId);
      failed.sequence.end('error');
      await collect(failed.stream);
      const before = api.engine.all.length;
      const nothing = api.service.generate(testCaller(tenantId), world.ask());
      (await api.engine.sequence(before)).end('error');
      await nothing;
      api.engine.script = PLAYS;
      await world.lose(tenantId);
      await quiesce(api);
    },

    /** A request whose process is lost, and that another one settles; its id. Nobody waits for its receipt. */
    async lose(tenantId: Uuid): Promise<Uuid> {
      const lost = await kit.process({ proofs: open });
      await world.begin(tenantId, lost);
      await expire(db, lost);
      const { settled } = await api.metering.recoverExpired();
      return only(settled).requestId;
    },

    /** Signs everything that was settled; the process does so too, and no faster than once in a second. */
    async sign(): Promise<void> {
      const waiting = () =>
        db.admin('SELECT request_id FROM receipt_pending WHERE created_at < now() LIMIT 1');
      while ((await waiting()).length > 0) await issuer.issueLost();
    },

    /** Signs everything that was settled, and puts it into the log. */
    async log(): Promise<void> {
      await world.sign();
      await proofs.appender.run();
    },

    closer(
      options: Partial<CloserOptions> = {},
      database: Pick<Database, 'withSystemPg'> = db.database,
      signer: DigestSigner = testSigner(),
    ): EpochCloser {
      const pace = { intervalMs: 0, leavesMax: 100_000 };
      return new EpochCloser(
        { ...CLOSER_DEFAULTS, ...pace, ...options, logId },
        { database, clock, signer, documents: new DocumentStore({ database: db.database }), randomBytes },
      );
    },

    /** The database, which tells when so many statements were run in a transaction. */
    countingDatabase(statements: number, tell: () => void): Pick<Database, 'withSystemPg'> {
      let left = statements;
      return {
        withSystemPg: (work) =>
          db.database.withSystemPg((client) => {
            const counted = Object.create(client, {
              query: {
                value: (text: string, values: unknown[]) => {
                  left -= 1;
                  if (left === 0) tell();
                  return client.query(text, values);
                },
              },
            });
            return work(counted);
          }),
      };
    },

    /** Changes rows past every guard. */
    async plant(text: string, values: unknown[] = []): Promise<void> {
      const { rowCount } = await superuser.query(text, values);
      if (rowCount !== 1) throw new Error(`${rowCount} rows were changed by ${text}`);
    },

    /** Keeps tables as they are, for {@link restore}. */
    async keep(tables: readonly string[]): Promise<void> {
      for (const table of tables)
        await superuser.query(`CREATE TABLE kept_${table} AS SELECT * FROM ${table}`);
    },

    /** Takes back everything that was planted in tables since they were kept. */
    async restore(tables: readonly string[]): Promise<void> {
      for (const table of tables) {
        await superuser.query(`DELETE FROM ${table}`);
        await superuser.query(`INSERT INTO ${table} SELECT * FROM kept_${table}`);
        await superuser.query(`DROP TABLE kept_${table}`);
      }
    },

    /** What is quarantined now, by request. */
    async quarantined(): Promise<Readonly<Record<Uuid, string>>> {
      const rows = await db.admin<{ id: Uuid; reason: string }>(
        `SELECT q.request_id AS id, q.reason FROM epoch_quarantined q
         WHERE NOT EXISTS (
           SELECT FROM epoch_released r WHERE r.quarantined_in = q.epoch AND r.request_id = q.request_id)`,
      );
      return Object.fromEntries(rows.map(({ id, reason }) => [id, reason]));
    },

    async close(): Promise<void> {
      await superuser.end();
      await kit.close();
    },
  };
  return world;
}

export type EpochWorld = Awaited<ReturnType<typeof openEpochs>>;
