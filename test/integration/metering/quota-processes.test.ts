import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { z } from 'zod';
import { Database } from '../../../src/db/client.ts';
import { systemClock } from '../../../src/kernel/clock.ts';
import { newId, type Uuid } from '../../../src/kernel/ids.ts';
import { METERING_DEFAULTS, Metering } from '../../../src/metering/metering.ts';
import { LineProcess } from '../../kit/line-process.ts';
import { createTestDatabase, type TestDatabase } from '../../kit/postgres.ts';
import { freeRecharge } from '../../kit/unpriced.ts';

const PROCESSES = 3;
const readySchema = z.object({ event: z.literal('ready'), instanceId: z.string() });
const doneSchema = z.object({
  event: z.literal('done'),
  admitted: z.number(),
  refused: z.array(z.string()),
});

interface Order {
  readonly tenantIds: readonly Uuid[];
  readonly attempts: number;
  readonly promptTokens: number;
  readonly maxTokens: number;
}

/** A process that admits when it is told to. */
class Admitter extends LineProcess {
  instanceId = '';

  async ready(): Promise<void> {
    this.instanceId = (await this.next(readySchema)).instanceId;
  }

  async run(order: Order): Promise<z.infer<typeof doneSchema>> {
    this.send(order);
    return await this.next(doneSchema);
  }
}

let db: TestDatabase;
let processes: Admitter[] = [];

beforeAll(async () => {
  db = await createTestDatabase();
  processes = Array.from(
    { length: PROCESSES },
    () => new Admitter('test/integration/metering/quota-process.ts', [db.appUrl, db.systemUrl]),
  );
  await Promise.all(processes.map((one) => one.ready()));
});
afterAll(async () => {
  await Promise.all(processes.map((one) => one.end()));
  await db.dispose();
});

/** A tenant with the limits, by their columns. */
async function limited(limits: Readonly<Record<string, number>>): Promise<Uuid> {
  const id = newId(systemClock);
  await db.admin(`INSERT INTO tenant (id, name, slug, created_at) VALUES ($1, 'x', $2, now())`, [
    id,
    `t-${id.slice(-12)}`,
  ]);
  const columns = Object.keys(limits);
  await db.admin(
    `INSERT INTO tenant_quota (tenant_id, updated_at, ${columns.join(', ')})
     VALUES ($1, now(), ${columns.map((_, index) => `$${index + 2}`).join(', ')})`,
    [id, ...Object.values(limits)],
  );
  return id;
}

/** All processes at once. */
async function everywhere(among: readonly Admitter[], order: Order) {
  const reports = await Promise.all(among.map((one) => one.run(order)));
  return {
    admitted: reports.reduce((sum, { admitted }) => sum + admitted, 0),
    refused: reports.flatMap(({ refused }) => refused),
  };
}

describe('three processes on one database', () => {
  test('admit exactly as many requests in a minute as the tenant may have', async () => {
    const tenantId = await limited({ requests_per_minute: 100 });
    const { admitted, refused } = await everywhere(processes, {
      tenantIds: [tenantId],
      attempts: 90,
      promptTokens: 5,
      maxTokens: 5,
    });
    expect(admitted).toBe(100);
    expect(refused).toHaveLength(3 * 90 - 100);
    expect(new Set(refused)).toEqual(new Set(['REQUESTS_PER_MINUTE']));
    const rows = await db.admin('SELECT 1 FROM inference_request WHERE tenant_id = $1', [tenantId]);
    expect(rows).toHaveLength(100);
  });

  test('never exceed the tokens in and out', async () => {
    for (const [column, kind] of [
      ['prompt_tokens_per_minute', 'PROMPT_TOKENS_PER_MINUTE'],
      ['completion_tokens_per_minute', 'COMPLETION_TOKENS_PER_MINUTE'],
    ] as const) {
      const tenantId = await limited({ [column]: 1_000 });
      const { admitted, refused } = await everywhere(processes, {
        tenantIds: [tenantId],
        attempts: 60,
        promptTokens: 7,
        maxTokens: 7,
      });
      expect(admitted).toBe(Math.floor(1_000 / 7));
      expect(new Set(refused)).toEqual(new Set([kind]));
    }
  });

  test('count the streams of a tenant together, and those of a killed process no more', async () => {
    const tenantId = await limited({ concurrent_streams: 30 });
    const order = { tenantIds: [tenantId], attempts: 11, promptTokens: 1, maxTokens: 1 };
    expect((await everywhere(processes, { ...order, attempts: 25 })).admitted).toBe(30);
    // On a busy machine one of them may have come too late for any.
    const [held] = await db.admin<{ count: string; instance_id: string }>(
      `SELECT instance_id, count(*) FROM inference_request WHERE tenant_id = $1
       GROUP BY instance_id ORDER BY count(*) DESC LIMIT 1`,
      [tenantId],
    );
    const freed = Number(held?.count);
    expect(freed).toBeGreaterThan(0);
    const lost = processes.find(({ instanceId }) => instanceId === held?.instance_id);
    if (lost === undefined) throw new Error('There are processes.');
    const others = processes.filter((one) => one !== lost);
    lost.child.kill('SIGKILL');
    await lost.exited;
    processes = others;
    // Its lease has not run out, so it may be alive for all that anybody knows.
    expect((await everywhere(others, { ...order, attempts: 1 })).admitted).toBe(0);
    await db.admin(`UPDATE instance SET lease_expires_at = now() - interval '1 second' WHERE id = $1`, [
      lost.instanceId,
    ]);
    const database = new Database({ appUrl: db.appUrl, systemUrl: db.systemUrl });
    const sweeper = new Metering(METERING_DEFAULTS, {
      database,
      clock: systemClock,
      recharge: freeRecharge,
    });
    await sweeper.recoverExpired();
    await sweeper.stop();
    await database.close();
    expect((await everywhere(others, { ...order, attempts: 25 })).admitted).toBe(Math.min(freed, 50));
  });

  test('admit for many tenants with limits at once without waiting for each other in a circle', async () => {
    const tenants = await Promise.all(Array.from({ length: 6 }, () => limited({ requests_per_minute: 20 })));
    // Each process names them in another order, as callers do.
    const reports = await Promise.all(
      processes.map((one, turn) =>
        one.run({
          tenantIds: [...tenants.slice(turn), ...tenants.slice(0, turn)],
          attempts: 15,
          promptTokens: 1,
          maxTokens: 1,
        }),
      ),
    );
    expect(reports.reduce((sum, { admitted }) => sum + admitted, 0)).toBe(6 * 20);
    const rows = await db.admin<{ count: string }>(
      'SELECT count(*) FROM inference_request WHERE tenant_id = ANY($1) GROUP BY tenant_id',
      [tenants],
    );
    expect(rows.map(({ count }) => Number(count))).toEqual(tenants.map(() => 20));
    const deadlocks = await db.admin<{ deadlocks: string }>(
      'SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()',
    );
    expect(deadlocks).toEqual([{ deadlocks: '0' }]);
  });
});
