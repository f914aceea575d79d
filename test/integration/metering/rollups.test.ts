import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { PatchbayError } from '../../../src/kernel/errors.ts';
import { findRollupDifferences } from '../../../src/usage/consistency.ts';
import { UsageService } from '../../../src/usage/service.ts';
import { totalOf } from '../../../src/usage/sums.ts';
import { createTestDatabase, type TestDatabase } from '../../kit/postgres.ts';
import { plays } from '../inference/fake-engine.ts';
import {
  collect,
  expire,
  plainInput,
  recordsOf,
  startProcess,
  type TestAdapter,
  type TestProcess,
  testAdapter,
  testCaller,
} from '../inference/harness.ts';

const SEED = Number(process.env['PATCHBAY_TEST_SEED'] ?? 20_260_301);

const owners = [testCaller(), testCaller()];
const adapters = new Map<string, TestAdapter>(
  ['a', 'b', 'c'].map((name, i) => [name, testAdapter(name, owners[i % 2]?.tenantId ?? '')]),
);
const callers = [testCaller(), testCaller(), testCaller()];

/** The whole time that this file can write in. */
const period = {
  from: new Date(Date.now() - 7_200_000),
  to: new Date(Date.now() + 7_200_000),
  bucket: 'hour',
} as const;

let db: TestDatabase;
let usage: UsageService;

beforeAll(async () => {
  db = await createTestDatabase();
  usage = new UsageService({ database: db.database });
});
afterAll(() => db.dispose());

interface Job {
  readonly caller: number;
  readonly on: number;
  readonly blend: readonly { readonly adapter: string; readonly weight: number }[];
  readonly prompt: number;
  readonly tokens: number;
  readonly fate: 'finish' | 'leave' | 'fail' | 'die';
}

const job: fc.Arbitrary<Job> = fc.record({
  caller: fc.nat(2),
  on: fc.nat(1),
  blend: fc.uniqueArray(
    fc.record({
      adapter: fc.constantFrom('a', 'b', 'c'),
      weight: fc.constantFrom(1, -0.5, 0.1, 2.25),
    }),
    { maxLength: 3, selector: (use) => use.adapter },
  ),
  prompt: fc.integer({ min: 1, max: 9 }),
  tokens: fc.integer({ min: 0, max: 12 }),
  fate: fc.constantFrom('finish', 'finish', 'leave', 'fail', 'die'),
});

async function perform(processes: readonly TestProcess[], { caller, on, blend, prompt, tokens, fate }: Job) {
  const api = processes[on] ?? processes[0];
  const who = callers[caller] ?? testCaller();
  if (api === undefined) throw new Error('No process');
  const more = blend.length === 0 ? {} : { plainBackbone: false, adapters: blend };
  const before = api.engine.all.length;
  const stream = await api.service.infer(who, plainInput(prompt, more));
  if (fate === 'finish') {
    await collect(stream);
    return;
  }
  await stream.next();
  if (fate === 'leave') {
    await stream.next();
    await stream.return?.();
    return;
  }
  const sequence = api.engine.all[before];
  if (fate === 'fail') sequence?.end('error', new PatchbayError('ENGINE_FAILED', 'x').toPublic());
  else if (tokens > 0) await stream.next();
  if (fate === 'fail') await collect(stream);
}

describe('rollups', () => {
  it(`equal the records after any mixture of endings, from several processes (seed ${SEED})`, async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(job, { minLength: 1, maxLength: 24 }), async (jobs) => {
        const processes = [await startProcess(db, { adapters }), await startProcess(db, { adapters })];
        const survivor = await startProcess(db, { adapters });
        for (const api of processes) api.engine.script = plays((request) => request.promptIds.length);
        await Promise.all(jobs.map((one) => perform(processes, one)));
        // Whatever still runs belongs to a process that is now declared dead.
        for (const api of processes) await expire(db, api);
        await survivor.metering.recoverExpired();
        for (const api of processes) await api.metering.lease.renew();
        expect(await findRollupDifferences(db.database, period)).toEqual([]);
        expect(await db.admin('SELECT id FROM inference_request')).toEqual([]);
        await Promise.all([...processes, survivor].map((api) => api.close()));
      }),
      { seed: SEED, numRuns: 12 },
    );
  });

  it('count a blend once for the tenant and once for each adapter', async () => {
    const api = await startProcess(db, { adapters });
    api.engine.script = plays(() => 4);
    const caller = testCaller();
    const blend = [
      { adapter: 'a', weight: 1 },
      { adapter: 'b', weight: 1 },
    ];
    await collect(await api.service.infer(caller, plainInput(3, { plainBackbone: false, adapters: blend })));
    await collect(await api.service.infer(caller, plainInput(2)));

    const whole = totalOf(await usage.sums(caller.tenantId, 'tenant', period));
    expect(whole).toMatchObject({ requests: 2n, promptTokens: 5n, completionTokens: 8n });
    const byVersion = await usage.sums(caller.tenantId, 'caller', period);
    const requestsBy = new Map(byVersion.map((sum) => [sum.adapterId, sum.requests]));
    expect(requestsBy).toEqual(
      new Map<string | null | undefined, bigint>([
        [null, 1n],
        [adapters.get('a')?.adapterId, 1n],
        [adapters.get('b')?.adapterId, 1n],
      ]),
    );
    // What was computed for it is split, and adds up to the whole: 0.625 ms of the blend, and 0.625 of the other.
    const attributed = await db.admin<{ kind: string; us: string }>(
      `SELECT kind, attributed_us AS us FROM usage_rollup WHERE tenant_id = $1 ORDER BY kind, attributed_us`,
      [caller.tenantId],
    );
    expect(attributed).toEqual([
      ...['312', '313', '625'].map((us) => ({ kind: 'caller', us })),
      { kind: 'tenant', us: '1250' },
    ]);
    const one = await usage.sums(caller.tenantId, 'caller', period, {
      adapterId: adapters.get('b')?.adapterId ?? '',
    });
    expect(totalOf(one)).toMatchObject({ requests: 1n, completionTokens: 4n });
    await api.close();
  });

  it('give days as the sums of their hours, and refuse periods that are empty or too long', async () => {
    const [caller] = callers;
    const tenantId = caller?.tenantId ?? '';
    const days = await usage.sums(tenantId, 'tenant', { ...period, bucket: 'day' });
    const dayRange = { from: days[0]?.start ?? new Date(), to: period.to, bucket: 'hour' } as const;
    expect(totalOf(await usage.sums(tenantId, 'tenant', dayRange))).toEqual(totalOf(days));
    expect(() => usage.sums(tenantId, 'tenant', { ...period, to: period.from })).toThrow(PatchbayError);
    const long = { from: new Date(0), to: new Date(), bucket: 'hour' } as const;
    expect(() => usage.sums(tenantId, 'tenant', long)).toThrow(/2000 buckets/);
  });

  it('are found out when they differ from the records', async () => {
    const [caller] = callers;
    await db.admin(
      `UPDATE usage_rollup SET completion_tokens = completion_tokens + 1 WHERE kind = 'tenant' AND tenant_id = $1`,
      [caller?.tenantId],
    );
    const differences = await findRollupDifferences(db.database, period);
    expect(differences.map((difference) => difference.kind)).toEqual(['tenant']);
  });
});

describe('records', () => {
  it('page by key, newest first, without gaps or repeats', async () => {
    const [caller] = callers;
    const tenantId = caller?.tenantId ?? '';
    const all = (await recordsOf(db, tenantId)).map((row) => row.id).reverse();
    const seen: string[] = [];
    let after: string | undefined;
    for (;;) {
      const page = await usage.records(tenantId, { first: 7, ...(after === undefined ? {} : { after }) });
      seen.push(...page.items.map((record) => record.requestId));
      after = seen.at(-1);
      if (!page.hasNext) break;
    }
    expect(all.length).toBeGreaterThan(7);
    expect(seen).toEqual(all);
  });

  it('filter by adapter, and show the exact shares of a blend', async () => {
    const api = await startProcess(db, { adapters });
    api.engine.script = plays(() => 1);
    const caller = testCaller();
    const blend = [
      { adapter: 'a', weight: -0.1 },
      { adapter: 'c', weight: 0.2 },
    ];
    const events = await collect(
      await api.service.infer(caller, plainInput(1, { plainBackbone: false, adapters: blend })),
    );
    await collect(await api.service.infer(caller, plainInput(1)));
    const page = await usage.records(
      caller.tenantId,
      { first: 10 },
      { adapterId: adapters.get('c')?.adapterId ?? '' },
    );
    expect(page.items).toHaveLength(1);
    const shares = page.items[0]?.adapters.map((use) => [
      use.weight,
      use.shareNumerator,
      use.shareDenominator,
    ]);
    expect(new Set(shares)).toEqual(
      new Set([
        [-0.1, 1n, 3n],
        [0.2, 2n, 3n],
      ]),
    );
    const [started] = events;
    const requestId = started?.kind === 'started' ? started.requestId : '';
    expect(await usage.request(caller.tenantId, requestId)).toMatchObject({ state: 'settled', requestId });
    expect(await usage.request(testCaller().tenantId, requestId)).toBeNull();
    await api.close();
  });
});
