import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { Uuid } from '../../../src/kernel/ids.ts';
import { NO_ADAPTER } from '../../../src/metering/statements.ts';
import { DayRollup } from '../../../src/usage/days.ts';
import { UsageService } from '../../../src/usage/service.ts';
import { type RollupKind, SUM_GROUPS, totalOf } from '../../../src/usage/sums.ts';
import { createTestDatabase, type TestDatabase } from '../../kit/postgres.ts';
import { numbers } from '../billing/charge.ts';

const SEED = Number(process.env['PATCHBAY_TEST_SEED'] ?? 20_261_129);
const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
const KINDS: readonly RollupKind[] = ['tenant', 'caller', 'owner'];

let db: TestDatabase;
let usage: UsageService;
let days: DayRollup;
/** The beginning of the present day as the database has it. */
let today: number;
const tenants: readonly Uuid[] = [randomUUID(), randomUUID()];
/** Two versions of the first adapter, one of the second. */
const adapters = [randomUUID(), randomUUID()];
const versions = [0, 0, 1].map((of) => ({ version: randomUUID(), adapter: adapters[of] ?? '' }));

beforeAll(async () => {
  db = await createTestDatabase();
  usage = new UsageService({ database: db.database });
  days = new DayRollup({ afterMs: 0 }, { database: db.database });
  const [row] = await db.admin<{ today: Date }>(`SELECT date_trunc('day', now(), 'UTC') AS today`);
  today = row?.today.getTime() ?? 0;
  const draw = numbers(SEED);
  for (const id of tenants) {
    await db.admin(`INSERT INTO tenant (id, name, slug, created_at) VALUES ($1, 't', $2, now())`, [id, id]);
  }
  // Six days and the present one; the last hour of each day and the first are among them.
  const hours = Array.from({ length: 40 }, () => today - 6 * DAY_MS + draw(6 * 24) * HOUR_MS);
  for (const at of [...hours, today - HOUR_MS, today - DAY_MS, today]) {
    for (const kind of KINDS) {
      const one = kind === 'tenant' ? { version: NO_ADAPTER, adapter: NO_ADAPTER } : versions[draw(3)];
      await db.admin(
        `INSERT INTO usage_rollup (tenant_id, kind, adapter_version_id, adapter_id, bucket, shard, requests, prompt_tokens,
           cached_prompt_tokens, completion_tokens, compute_us, amount_nano)
         VALUES ($1, $2, $3, $4, $5, $6, 1, $7, 1, $8, $9, $10) ON CONFLICT DO NOTHING`,
        [
          ...[tenants[draw(2)], kind, one?.version, one?.adapter, new Date(at), draw(3)],
          ...[draw(100), draw(100), draw(1_000), String(2n ** 53n + BigInt(draw(9)))],
        ],
      );
    }
  }
});
afterAll(() => db.dispose());

const period = () => ({
  from: new Date(today - 6 * DAY_MS),
  to: new Date(today + DAY_MS),
  bucket: 'day' as const,
});

/** Every question about the period, for a tenant and for all, with its answer. */
async function answers() {
  const found: unknown[] = [];
  for (const kind of KINDS) {
    for (const by of SUM_GROUPS) {
      for (const bucket of ['hour', 'day'] as const) {
        for (const adapterId of [undefined, adapters[0]]) {
          const filter = { by, ...(adapterId === undefined ? {} : { adapterId }) };
          for (const range of [
            { ...period(), bucket },
            { from: new Date(today - 3 * DAY_MS + 5 * HOUR_MS), to: new Date(today + 1), bucket },
          ]) {
            found.push(await usage.sums(tenants[0] ?? '', kind, range, filter));
            found.push(await usage.sumsOfAllTenants(kind, range, filter));
          }
        }
      }
    }
  }
  return found;
}

const until = async (): Promise<Date | null | undefined> =>
  (await db.admin<{ until: Date | null }>('SELECT until FROM usage_rolled'))[0]?.until;

test(`sums of days that are over answer as their hours do, before and after (seed ${SEED})`, async () => {
  const before = await answers();
  expect(totalOf(await usage.sumsOfAllTenants('tenant', period())).requests).toBeGreaterThan(30n);
  expect(await until()).toBeNull();
  // Two at once: one adds a day, or the other does.
  const added = await Promise.all([days.run(), days.run()]);
  await days.run();
  expect(added.some((count) => count > 0)).toBe(true);
  expect(await until()).toEqual(new Date(today));
  expect(await answers()).toEqual(before);
  // The answers do come from the days: a day that says something else is told.
  const [day] = await db.admin<{ day: Date; requests: string }>(
    `SELECT day, requests FROM usage_rollup_day WHERE kind = 'all_tenant' ORDER BY day LIMIT 1`,
  );
  await db.admin('ALTER TABLE usage_rollup_day DISABLE TRIGGER append_only');
  await db.admin(
    `UPDATE usage_rollup_day SET requests = requests + 1000 WHERE kind = 'all_tenant' AND day = $1`,
    [day?.day],
  );
  const told = totalOf(await usage.sumsOfAllTenants('tenant', period())).requests;
  expect(told).toBeGreaterThan(1_000n);
  await db.admin(
    `UPDATE usage_rollup_day SET requests = requests - 1000 WHERE kind = 'all_tenant' AND day = $1`,
    [day?.day],
  );
  await db.admin('ALTER TABLE usage_rollup_day ENABLE TRIGGER append_only');
  expect(await answers()).toEqual(before);
});

test('a day is not summed up while a settlement that began in it may still write, and once it cannot', async () => {
  await days.run();
  // So that the present day counts as over.
  const early = new DayRollup({ afterMs: -DAY_MS }, { database: db.database });
  await db.database.withSystemPg(async (client) => {
    await client.query(
      `INSERT INTO usage_rollup (tenant_id, kind, adapter_version_id, adapter_id, bucket, shard, requests, prompt_tokens,
         cached_prompt_tokens, completion_tokens, compute_us)
       VALUES ($1, 'tenant', $2, $2, date_trunc('hour', now(), 'UTC'), 9, 7, 1, 0, 1, 1)`,
      [tenants[0], NO_ADAPTER],
    );
    expect(await early.run()).toBe(0);
  });
  const sums = await usage.sums(tenants[0] ?? '', 'tenant', period());
  expect(await early.run()).toBe(1);
  expect(await usage.sums(tenants[0] ?? '', 'tenant', period())).toEqual(sums);
  const [row] = await db.admin<{ requests: string }>(
    `SELECT requests FROM usage_rollup_day WHERE tenant_id = $1 AND kind = 'tenant' ORDER BY day DESC LIMIT 1`,
    [tenants[0]],
  );
  expect(Number(row?.requests)).toBeGreaterThanOrEqual(7);
});
