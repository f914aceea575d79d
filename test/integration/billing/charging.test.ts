import { readFile } from 'node:fs/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { PLATFORM_TENANT_ID } from '../../../src/db/platform.ts';
import { PatchbayError } from '../../../src/kernel/errors.ts';
import { newId, type Uuid } from '../../../src/kernel/ids.ts';
import { PRICE_LEAD_MS } from '../../../src/pricing/resolver.ts';
import { reconcile } from '../../../src/reconciliation/reconcile.ts';
import { findRollupDifferences } from '../../../src/usage/consistency.ts';
import { cli } from '../../unit/cli/fake-io.ts';
import { type FakeSequence, plays } from '../inference/fake-engine.ts';
import {
  collect,
  endOf,
  expire,
  only,
  plainInput,
  recordsOf,
  type TestProcess,
  take,
  testCaller,
} from '../inference/harness.ts';
import { type BillingKit, openBilling, priceBackbone } from './kit.ts';

let kit: BillingKit;
let api: TestProcess;

beforeAll(async () => {
  kit = await openBilling();
  await priceBackbone(kit, {
    inputPerMillion: 1_000_000_000n,
    cachedInputPerMillion: 500_000_000n,
    outputPerMillion: 2_000_000_000n,
    platformFeePpm: 100_000n,
  });
  api = await kit.process();
});
afterAll(() => kit.close());

/** 3 prompt tokens and at most 10 more: 3,001 nano-units for the prompt at most, and 20,000 for the rest. */
const MOST = 23_001n;
const input = () => plainInput(3, { maxTokens: 10 });

async function holdsOf(tenantId: Uuid): Promise<number> {
  return (await kit.db.admin('SELECT FROM ledger_open_hold WHERE tenant_id = $1', [tenantId])).length;
}

async function transfersOf(tenantId: Uuid): Promise<string[]> {
  const rows = await kit.db.admin<{ kind: string }>(
    `SELECT kind FROM ledger_transfer WHERE tenant_id = $1 AND reference_type = 'inference' ORDER BY kind`,
    [tenantId],
  );
  return rows.map((row) => row.kind);
}

describe('a request that costs something', () => {
  it('holds the most it can cost, and captures what it used, all in the transactions of metering', async () => {
    const tenantId = await kit.customer(100_000n);
    const stream = await api.service.infer(testCaller(tenantId), input());
    await take(stream);
    expect(await kit.balance(tenantId)).toMatchObject({
      posted: 100_000n,
      held: MOST,
      available: 100_000n - MOST,
    });
    const sequence = await api.engine.sequence(api.engine.all.length - 1);
    sequence.emit(1, 2, 3, 4);
    sequence.end('stop', undefined, { cachedPromptTokens: 1 });
    await collect(stream);

    // Two prompt tokens at 1,000, one cached at 500, four generated at 2,000.
    const cost = 2_000n + 500n + 8_000n;
    expect(await kit.balance(tenantId)).toMatchObject({ posted: 100_000n - cost, held: 0n });
    const record = only(await recordsOf(kit.db, tenantId));
    expect(
      await kit.db.admin('SELECT amount_nano, currency FROM usage_record WHERE id = $1', [record.id]),
    ).toEqual([{ amount_nano: String(cost), currency: 'USD' }]);
    expect(
      await kit.db.admin(
        `SELECT part, adapter_version_id, input_tokens, cached_tokens, output_tokens, input_nano, cached_nano,
                output_nano, rank_nano, royalty_nano, fee_nano, total_nano FROM usage_charge WHERE request_id = $1`,
        [record.id],
      ),
    ).toEqual([
      {
        part: 0,
        adapter_version_id: null,
        input_tokens: 2,
        cached_tokens: 1,
        output_tokens: 4,
        input_nano: '2000',
        cached_nano: '500',
        output_nano: '8000',
        rank_nano: '0',
        royalty_nano: '0',
        fee_nano: '0',
        total_nano: String(cost),
      },
    ]);
    expect(await transfersOf(tenantId)).toEqual(['PENDING', 'POST']);
    expect(
      await kit.db.admin('SELECT kind, subject_id, payload FROM outbox_event WHERE tenant_id = $1', [
        tenantId,
      ]),
    ).toMatchObject([
      {
        kind: 'request.settled',
        subject_id: record.id,
        payload: { amountNano: String(cost), currency: 'USD' },
      },
    ]);
    expect(
      await kit.db.admin(
        'SELECT kind, sum(amount_nano) AS amount FROM usage_rollup WHERE tenant_id = $1 GROUP BY kind ORDER BY kind',
        [tenantId],
      ),
    ).toEqual([
      { kind: 'caller', amount: String(cost) },
      { kind: 'tenant', amount: String(cost) },
    ]);
  });

  it('pays the owner their royalty but for the fee, by adapter version, and the platform the rest', async () => {
    const owner = await kit.tenant();
    const { versionId } = await kit.adapterWithRoyalty('royal', owner, 250_000n);
    kit.clock.advance(PRICE_LEAD_MS + 1);
    const tenantId = await kit.customer(1_000_000n);
    const before = {
      base: await kit.posted(PLATFORM_TENANT_ID, 'PLATFORM_BASE'),
      fee: await kit.posted(PLATFORM_TENANT_ID, 'PLATFORM_FEE'),
    };
    api.engine.script = plays(() => 5);
    const adapters = [{ adapter: 'royal' }];
    const plain = input();
    const { plainBackbone: _plain, ...rest } = plain;
    await collect(await api.service.infer(testCaller(tenantId), { ...rest, adapters }));
    api.engine.script = null;

    // The fake engine finds one of three prompt tokens cached.
    const base = 2_000n + 500n + 10_000n;
    const royalty = base / 4n;
    const fee = royalty / 10n;
    expect(await kit.posted(tenantId, 'CUSTOMER')).toBe(1_000_000n - base - royalty);
    expect(await kit.posted(owner, 'EARNINGS')).toBe(royalty - fee);
    expect((await kit.posted(PLATFORM_TENANT_ID, 'PLATFORM_BASE')) - before.base).toBe(base);
    expect((await kit.posted(PLATFORM_TENANT_ID, 'PLATFORM_FEE')) - before.fee).toBe(fee);
    expect(
      await kit.db.admin('SELECT amount, subject_id FROM ledger_posting WHERE tenant_id = $1', [owner]),
    ).toEqual([{ amount: String(royalty - fee), subject_id: versionId }]);
    expect(
      await kit.db.admin(
        'SELECT royalty_nano, fee_nano, currency FROM usage_share WHERE owner_tenant_id = $1',
        [owner],
      ),
    ).toEqual([{ royalty_nano: String(royalty), fee_nano: String(fee), currency: 'USD' }]);
  });

  it('that does not fit is refused with its quote, and leaves nothing anywhere', async () => {
    const tenantId = await kit.customer(MOST - 1n);
    const before = api.engine.all.length;
    await expect(
      api.service.infer(testCaller(tenantId), { ...input(), idempotencyKey: 'k' }),
    ).rejects.toMatchObject({
      code: 'BUDGET_EXCEEDED',
      meta: {
        currency: 'USD',
        maximum: '0.000023001',
        available: '0.000023',
        promptTokens: 3,
        maxTokens: 10,
      },
    });
    expect(api.engine.all).toHaveLength(before);
    expect(await transfersOf(tenantId)).toEqual([]);
    expect(await kit.db.admin('SELECT FROM inference_request WHERE tenant_id = $1', [tenantId])).toEqual([]);
    // The key is free for the request that fits.
    await kit.topUp(tenantId, 1n);
    api.engine.script = plays(() => 1);
    await collect(await api.service.infer(testCaller(tenantId), { ...input(), idempotencyKey: 'k' }));
    api.engine.script = null;
    expect(await recordsOf(kit.db, tenantId)).toHaveLength(1);
  });

  it('that the engine refuses gives its hold back', async () => {
    const tenantId = await kit.customer(MOST);
    api.engine.refusals.push(new PatchbayError('ENGINE_FULL', 'Full.'));
    await expect(api.service.infer(testCaller(tenantId), input())).rejects.toMatchObject({
      code: 'ENGINE_FULL',
    });
    expect(await kit.balance(tenantId)).toMatchObject({ posted: MOST, held: 0n });
    expect(await transfersOf(tenantId)).toEqual(['PENDING', 'VOID']);
  });

  it('whose client leaves is captured for what was committed', async () => {
    const tenantId = await kit.customer(100_000n);
    const stream = await api.service.infer(testCaller(tenantId), input());
    await take(stream);
    const sequence = await api.engine.sequence(api.engine.all.length - 1);
    sequence.emit(1, 2);
    await take(stream);
    const left = stream.return?.();
    sequence.end('cancelled', undefined, { cachedPromptTokens: 0 });
    await left;
    expect(await kit.balance(tenantId)).toMatchObject({ posted: 100_000n - 3_000n - 4_000n, held: 0n });
  });

  it('of a process that is lost is captured from what it had committed, by whoever recovers it', async () => {
    const tenantId = await kit.customer(100_000n);
    const lost = await kit.process();
    const [first, second] = [
      await lost.service.infer(testCaller(tenantId), input()),
      await lost.service.infer(testCaller(tenantId), input()),
    ];
    await take(first);
    await take(second);
    (await lost.engine.sequence(0)).emit(1, 2, 3);
    await take(first);
    expect(await holdsOf(tenantId)).toBe(2);
    await expire(kit.db, lost);
    expect((await api.metering.recoverExpired()).settled).toHaveLength(2);
    // Two prompt tokens at 1,000, one cached at 500, three generated at 2,000. Of the second nothing was delivered, so it
    // costs nothing.
    expect(await kit.balance(tenantId)).toMatchObject({ posted: 100_000n - 8_500n, held: 0n });
    expect(await holdsOf(tenantId)).toBe(0);
    // The process that comes back can neither charge nor release any more.
    (await lost.engine.sequence(0)).end('stop');
    expect(endOf(await collect(first))).toMatchObject({ error: { code: 'LEASE_LOST' } });
    expect(await kit.balance(tenantId)).toMatchObject({ posted: 100_000n - 8_500n, held: 0n });
  });

  it.each([0, 1, 2, 3])(
    'with %i cached prompt tokens costs what it costs when its process is lost',
    async (cached) => {
      const lost = await kit.process();
      const play = async (process: TestProcess, ends: (sequence: FakeSequence) => Promise<void>) => {
        const tenantId = await kit.customer(100_000n);
        const before = process.engine.all.length;
        const stream = await process.service.infer(testCaller(tenantId), input());
        await take(stream);
        const sequence = await process.engine.sequence(before);
        sequence.cachedPromptTokens = cached;
        // Two chunks, because every one says it anew.
        sequence.emit(1, 2);
        await take(stream);
        sequence.emit(3);
        await take(stream);
        await ends(sequence);
        await collect(stream);
        return kit.db.admin(
          `SELECT r.prompt_tokens, r.cached_prompt_tokens, r.completion_tokens, r.amount_nano, c.input_tokens,
                c.cached_tokens, c.output_tokens, c.input_nano, c.cached_nano, c.output_nano, c.total_nano, b.posted
         FROM usage_record r JOIN usage_charge c ON c.request_id = r.id JOIN ledger_account a ON a.tenant_id = r.tenant_id
         JOIN ledger_balance b ON b.account_id = a.id WHERE r.tenant_id = $1`,
          [tenantId],
        );
      };
      const regular = await play(api, async (sequence) => sequence.end('stop'));
      const recovered = await play(lost, async (sequence) => {
        await expire(kit.db, lost);
        await api.metering.recoverExpired();
        sequence.end('stop');
      });
      expect(recovered).toEqual(regular);
      const cost = 1_000 * (3 - cached) + 500 * cached + 3 * 2_000;
      expect(recovered).toMatchObject([{ cached_prompt_tokens: cached, total_nano: String(cost) }]);
    },
  );

  it('may go as far below zero as its credit limit lets it', async () => {
    const tenantId = await kit.customer();
    const accountId = (await kit.balance(tenantId)).accountId;
    await kit.ledger.setCreditLimit(accountId, MOST, newId(kit.clock));
    api.engine.script = plays(() => 10);
    await collect(await api.service.infer(testCaller(tenantId), input()));
    await expect(api.service.infer(testCaller(tenantId), input())).rejects.toMatchObject({
      code: 'BUDGET_EXCEEDED',
    });
    api.engine.script = null;
    expect((await kit.balance(tenantId)).posted).toBe(-22_500n);
  });
});

describe('a budget', () => {
  /** A budget of the tenant over what is named. */
  async function budget(
    tenantId: Uuid,
    limit: bigint,
    more: { scope?: string; subject?: Uuid; alerts?: number[] } = {},
  ) {
    const id = newId(kit.clock);
    await kit.db.admin(
      `INSERT INTO budget (id, tenant_id, scope, subject_id, period, currency, limit_nano, alerts_ppm, created_at, updated_at)
       VALUES ($1, $2, $3, $4, 'MONTH', 'USD', $5, $6, now(), now())`,
      [
        id,
        tenantId,
        more.scope ?? 'TENANT',
        more.subject ?? '00000000-0000-0000-0000-000000000000',
        String(limit),
        more.alerts ?? [],
      ],
    );
    return id;
  }

  const taken = (id: Uuid) =>
    kit.db.admin('SELECT spent_nano, held_nano FROM budget_period WHERE budget_id = $1', [id]);

  it('of the tenant refuses what may exceed it, with the quote and when it begins anew, and holds nothing', async () => {
    const tenantId = await kit.customer(1_000_000n);
    const id = await budget(tenantId, 40_000n, { alerts: [500_000, 800_000, 1_000_000] });
    api.engine.script = plays(() => 10);
    await collect(await api.service.infer(testCaller(tenantId), input()));
    api.engine.script = null;
    expect(await taken(id)).toEqual([{ spent_nano: '22500', held_nano: '0' }]);
    const refused = api.service.infer(testCaller(tenantId), input());
    await expect(refused).rejects.toMatchObject({
      code: 'BUDGET_EXCEEDED',
      meta: {
        budgetId: id,
        scope: 'TENANT',
        period: 'MONTH',
        maximum: '0.000023001',
        spent: '0.0000225',
        limit: '0.00004',
      },
    });
    expect(await kit.balance(tenantId)).toMatchObject({ posted: 1_000_000n - 22_500n, held: 0n });
    expect(await transfersOf(tenantId)).toEqual(['PENDING', 'POST']);
    expect(await taken(id)).toEqual([{ spent_nano: '22500', held_nano: '0' }]);
    expect(
      await kit.db.admin(
        `SELECT kind, payload ->> 'thresholdPpm' AS at FROM outbox_event WHERE subject_id = $1 ORDER BY position`,
        [id],
      ),
    ).toEqual([
      { kind: 'budget.threshold', at: '500000' },
      { kind: 'budget.exhausted', at: null },
    ]);
  });

  it('of a key and of an adapter count that key and that adapter alone', async () => {
    const owner = await kit.tenant();
    const { adapterId } = await kit.adapterWithRoyalty('counted', owner, 0n);
    kit.clock.advance(PRICE_LEAD_MS + 1);
    const tenantId = await kit.customer(1_000_000n);
    const caller = testCaller(tenantId);
    const [ofKey, ofAdapter] = [
      await budget(tenantId, 50_000n, { scope: 'KEY', subject: caller.keyId }),
      await budget(tenantId, 30_000n, { scope: 'ADAPTER', subject: adapterId }),
    ];
    api.engine.script = plays(() => 10);
    const { plainBackbone: _plain, ...rest } = input();
    await collect(await api.service.infer(caller, { ...rest, adapters: [{ adapter: 'counted' }] }));
    await collect(await api.service.infer(testCaller(tenantId), input()));
    expect(await taken(ofKey)).toEqual([{ spent_nano: '22500', held_nano: '0' }]);
    expect(await taken(ofAdapter)).toEqual([{ spent_nano: '22500', held_nano: '0' }]);
    await expect(
      api.service.infer(testCaller(tenantId), { ...rest, adapters: [{ adapter: 'counted' }] }),
    ).rejects.toMatchObject({ code: 'BUDGET_EXCEEDED', meta: { budgetId: ofAdapter, scope: 'ADAPTER' } });
    await collect(await api.service.infer(caller, input()));
    await expect(api.service.infer(caller, input())).rejects.toMatchObject({
      meta: { budgetId: ofKey, scope: 'KEY' },
    });
    await collect(await api.service.infer(testCaller(tenantId), input()));
    api.engine.script = null;
  });

  it('keeps nothing of a request that a quota or the balance refuses after it', async () => {
    const tenantId = await kit.customer(MOST - 1n);
    const id = await budget(tenantId, 1_000_000n);
    await expect(api.service.infer(testCaller(tenantId), input())).rejects.toMatchObject({
      code: 'BUDGET_EXCEEDED',
      meta: { available: '0.000023' },
    });
    await kit.topUp(tenantId, 1_000_000n);
    await kit.db.admin(
      'INSERT INTO tenant_quota (tenant_id, updated_at, requests_per_minute) VALUES ($1, now(), 1)',
      [tenantId],
    );
    // The request that the balance refused was given back to the quota, so one fits.
    api.engine.script = plays(() => 10);
    await collect(await api.service.infer(testCaller(tenantId), input()));
    api.engine.script = null;
    await expect(api.service.infer(testCaller(tenantId), input())).rejects.toMatchObject({
      code: 'QUOTA_EXCEEDED',
    });
    expect(await taken(id)).toEqual([{ spent_nano: '22500', held_nano: '0' }]);
    expect(await kit.db.admin('SELECT FROM budget_hold WHERE tenant_id = $1', [tenantId])).toEqual([]);
    expect(await transfersOf(tenantId)).toEqual(['PENDING', 'POST']);
  });
});

describe('reconciliation', () => {
  const period = { from: new Date(0), to: new Date(4e12), tenantId: null };
  /** `patchbay reconcile` on this database. */
  const run = (...flags: string[]) =>
    cli(['reconcile', ...flags], {
      environment: { DATABASE_URL: kit.db.adminUrl, PATCHBAY_SECRET: kit.db.secret },
    });

  it('finds nothing wrong with all of the above', async () => {
    const rows = await kit.db.admin<{ n: string }>(
      'SELECT count(*) AS n FROM usage_record WHERE amount_nano > 0',
    );
    expect(Number(rows[0]?.n)).toBeGreaterThan(8);
    const lost = await kit.db.admin(`SELECT FROM usage_record WHERE settled_by = 'recovery'`);
    expect(await reconcile(kit.db.database, period)).toMatchObject({
      uncounted: lost.length,
      differences: [],
    });
    const [from, to] = [new Date('2020-01-01T00:00:00Z'), new Date('2040-01-01T00:00:00Z')];
    expect(await findRollupDifferences(kit.db.database, { from, to })).toEqual([]);
    const { code, out } = await run('--from', '2020-01-01', '--to', '2040-01-01');
    expect(code).toBe(0);
    expect(out).toMatch(
      /^Everything that was counted, charged and paid agrees\. \d+ requests; .* of \d+\.\n$/,
    );
  });

  it('is not changed by a migration that counts anew what was settled before it', async () => {
    const [from, to] = [new Date('2020-01-01T00:00:00Z'), new Date('2040-01-01T00:00:00Z')];
    const sums = 'SELECT sum(attributed_us)::text AS us, sum(earned_nano)::text AS earned FROM usage_rollup';
    const before = await kit.db.admin<{ us: string; earned: string }>(sums);
    expect(Number(before[0]?.us)).toBeGreaterThan(0);
    expect(Number(before[0]?.earned)).toBeGreaterThan(0);
    await kit.db.admin('UPDATE usage_rollup SET attributed_us = 0, earned_nano = 0');
    expect(await findRollupDifferences(kit.db.database, { from, to })).not.toEqual([]);
    const migration = await readFile('prisma/migrations/0013_economics/migration.sql', 'utf8');
    const [backfill = ''] = /^WITH share AS[\s\S]*?;$/m.exec(migration) ?? [];
    await kit.db.admin(backfill);
    expect(await kit.db.admin(sums)).toEqual(before);
    expect(await findRollupDifferences(kit.db.database, { from, to })).toEqual([]);
  });

  it('is refused for a period that is none', async () => {
    expect((await run('--from', '2026-02-30', '--to', '2026-03-01')).code).toBe(2);
    expect((await run('--from', '2026-03-01', '--to', '2026-03-01')).code).toBe(2);
  });

  it('shows each thing that does not agree', async () => {
    const tenantId = await kit.customer(1_000_000n);
    api.engine.script = plays(() => 2);
    for (let i = 0; i < 4; i += 1) await collect(await api.service.infer(testCaller(tenantId), input()));
    api.engine.script = null;
    const [charge, tokens, amount, missing] = (await recordsOf(kit.db, tenantId)).map(({ id }) => id);
    await kit.db.admin(`SET session_replication_role = replica;
      UPDATE usage_charge SET output_nano = output_nano + 1, total_nano = total_nano + 1 WHERE request_id = '${charge}';
      UPDATE usage_charge SET output_tokens = output_tokens + 1 WHERE request_id = '${tokens}';
      UPDATE ledger_transfer SET amount = amount + 1 WHERE reference_id = '${amount}' AND kind = 'POST';
      DELETE FROM usage_record WHERE id = '${missing}';
      SET session_replication_role = origin`);
    const { differences } = await reconcile(kit.db.database, period);
    expect(differences.map(({ rule, subjectId }) => [rule, subjectId])).toEqual([
      ...[charge, tokens].toSorted().map((id) => ['RECORD_CHARGES', id]),
      ['CHARGE_RECORD', missing],
      ['RECORD_CAPTURE', amount],
      ['CAPTURE_RECORD', missing],
      ['PLATFORM', charge],
    ]);
    const { code, out } = await run('--from', '2020-01-01', '--to', '2040-01-01');
    expect(code).toBe(1);
    expect(out).toMatch(new RegExp(`^CAPTURE_RECORD +REQUEST ${missing} +${tenantId} +- +- +`, 'm'));
  });
});

describe('a request without a price', () => {
  it('is refused, never free', async () => {
    const unpriced = await openBilling();
    const process = await unpriced.process();
    const tenantId = await unpriced.customer(1_000_000n);
    await expect(process.service.infer(testCaller(tenantId), input())).rejects.toMatchObject({
      code: 'PRICE_MISSING',
    });
    expect(process.engine.all).toEqual([]);
    await unpriced.close();
  });

  it('of zero is recorded at zero, and touches no account', async () => {
    const free = await openBilling();
    await priceBackbone(free, {});
    const process = await free.process();
    process.engine.script = plays(() => 3);
    const tenantId = await free.customer();
    await collect(await process.service.infer(testCaller(tenantId), input()));
    expect(await free.db.admin('SELECT amount_nano, hold_id FROM usage_record')).toEqual([
      { amount_nano: '0', hold_id: null },
    ]);
    expect(await free.db.admin('SELECT FROM ledger_transfer')).toEqual([]);
    const ever = { from: new Date(0), to: new Date(4e12), tenantId: null };
    expect(await reconcile(free.db.database, ever)).toMatchObject({
      ...{ requests: 1, uncounted: 0, differences: [] },
    });
    await free.close();
  });
});
