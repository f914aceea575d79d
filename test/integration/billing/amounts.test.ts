import { randomUUID } from 'node:crypto';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { AccountService } from '../../../src/billing/accounts.ts';
import { PLATFORM_TENANT_ID } from '../../../src/db/platform.ts';
import { SOURCES } from '../../../src/exports/sources.ts';
import { writeExport } from '../../../src/exports/write.ts';
import { quoteRequest } from '../../../src/pricing/quote.ts';
import { PRICE_LEAD_MS } from '../../../src/pricing/resolver.ts';
import { PRICE_LIMITS } from '../../../src/pricing/terms.ts';
import { createInvoicing } from '../../kit/invoicing.ts';
import { parseCsv } from '../../unit/exports/sample.ts';
import { collect, take, testCaller } from '../inference/harness.ts';
import { actorOf, OPERATOR, ofBackbone } from '../pricing/kit.ts';
import { BACKBONE, type BillingKit, openBilling } from './kit.ts';

let kit: BillingKit;
let folder: string;
beforeAll(async () => {
  kit = await openBilling();
  folder = await mkdtemp(join(tmpdir(), 'patchbay-amounts-'));
});
afterAll(async () => {
  await kit.close();
  await rm(folder, { recursive: true, force: true });
});

const PROMPT = 4_001;
const MOST = 89;
const ADMITTED = { promptTokens: PROMPT, maxTokens: MOST };

/** The sum of a column of an export's rows that are so. */
async function exported(source: 'charges' | 'ledger', tenantId: string, from: Date, until: Date) {
  const path = join(folder, `${randomUUID()}.csv`);
  const extract = { source: SOURCES[source], reach: { kind: 'TENANT' as const, tenantId }, from, until };
  const { signal } = new AbortController();
  await writeExport(kit.db.database, extract, { path, format: 'csv', signal });
  const [head = [], ...rows] = parseCsv(await readFile(path, 'utf8'));
  return (column: string, where: (cell: (name: string) => string | null) => boolean = () => true): bigint =>
    rows
      .filter((row) => where((name) => row[head.indexOf(name)] ?? null))
      .reduce((sum, row) => sum + BigInt(row[head.indexOf(column)] || 0), 0n);
}

test('amounts past 2^53 are exact from the quote to the hold, the capture, the earnings, the bill and the exports', async () => {
  // Odd enough that no sum ends in zeros, which a number could keep.
  const dearest = PRICE_LIMITS.perMillionMax - 123_457n;
  const hundredfold = PRICE_LIMITS.classPpmMax;
  await kit.setPrice(ofBackbone(BACKBONE), {
    inputPerMillion: dearest,
    cachedInputPerMillion: dearest,
    outputPerMillion: dearest,
    classPpm: { INTERACTIVE: hundredfold, STANDARD: 1_000_000n, BATCH: 1_000_000n },
  });
  const owner = await kit.tenant();
  const { versionId } = await kit.adapterWithRoyalty('dear', owner, PRICE_LIMITS.royaltySharePpmMax);
  kit.clock.advance(PRICE_LEAD_MS + 1);
  const tenantId = await kit.customer(10n ** 17n);
  const api = await kit.process();

  // One token of three was cached; all lines are exact, and the royalty is ten times their sum.
  const lines = [PROMPT - 1, 1, 88].map((tokens) => {
    const exact = BigInt(tokens) * dearest * hundredfold;
    const [whole, rest] = [exact / 10n ** 12n, exact % 10n ** 12n];
    const half = 5n * 10n ** 11n;
    return whole + (rest > half || (rest === half && whole % 2n === 1n) ? 1n : 0n);
  });
  const base = lines.reduce((sum, amount) => sum + amount, 0n);
  const royalty = 10n * base;
  const cost = base + royalty;
  const requests = 3n;
  expect(requests * cost).toBeGreaterThan(2n ** 53n);
  expect(BigInt(Number(requests * cost)), 'a number would lose it').not.toBe(requests * cost);

  const { maximum } = await quoteRequest(kit.resolver, {
    ...{ tenantId, backboneDigest: BACKBONE, adapters: [{ versionId, weight: 1 }], priority: 'INTERACTIVE' },
    ...ADMITTED,
  });
  for (let number = 0n; number < requests; number += 1n) {
    const stream = await api.service.infer(testCaller(tenantId), {
      promptIds: Array.from({ length: PROMPT }, (_, i) => (i % 900) + 1),
      adapters: [{ adapter: 'dear' }],
      maxTokens: MOST,
      priority: 'INTERACTIVE',
    });
    await take(stream);
    expect(await kit.balance(tenantId)).toMatchObject({
      posted: 10n ** 17n - number * cost,
      held: maximum.total,
    });
    const sequence = await api.engine.sequence(Number(number));
    sequence.emit(...Array.from({ length: 88 }, (_, i) => i + 1));
    sequence.end('stop', undefined, { cachedPromptTokens: 1 });
    await collect(stream);
  }
  const total = requests * cost;
  expect(await kit.balance(tenantId)).toMatchObject({ posted: 10n ** 17n - total, held: 0n });
  expect(await kit.posted(owner, 'EARNINGS')).toBe(requests * royalty);
  expect(await kit.posted(PLATFORM_TENANT_ID, 'PLATFORM_BASE')).toBe(requests * base);
  const day = { from: new Date(Date.now() - 86_400_000), to: new Date(Date.now() + 86_400_000) };
  const accounts = new AccountService({ database: kit.db.database });
  const earnings = await accounts.earnings(
    actorOf(owner),
    { tenantId: null, ...day },
    { first: 9, after: null },
  );
  expect(earnings.items).toMatchObject([{ adapterVersionId: versionId, amount: requests * royalty }]);
  const [rolled] = await kit.db.admin(
    `SELECT sum(amount_nano)::text AS amount FROM usage_rollup WHERE tenant_id = $1 AND kind = 'tenant'`,
    [tenantId],
  );
  expect(rolled).toEqual({ amount: String(total) });
  const ledger = await exported('ledger', tenantId, day.from, day.to);
  expect(ledger('amount_nano', (cell) => cell('subject_id') === null && cell('record') === 'posting')).toBe(
    -total,
  );

  // As if the month of the requests were over.
  const month = new Date(Date.UTC(new Date().getUTCFullYear(), new Date().getUTCMonth() - 2, 1));
  const ended = new Date(month.getTime() + 9 * 86_400_000);
  await kit.db.admin(`
    BEGIN;
    SET LOCAL session_replication_role = replica;
    UPDATE usage_charge SET ended_at = '${ended.toISOString()}';
    UPDATE usage_record SET ended_at = '${ended.toISOString()}';
    UPDATE usage_share SET ended_at = '${ended.toISOString()}';
    UPDATE ledger_transfer SET created_at = '${ended.toISOString()}' WHERE reference_type = 'inference';
    UPDATE ledger_posting p SET created_at = '${ended.toISOString()}'
    FROM ledger_transfer t WHERE t.id = p.transfer_id AND t.reference_type = 'inference';
    UPDATE tenant SET created_at = '2020-01-01' WHERE id = '${tenantId}';
    COMMIT`);
  const { periods } = createInvoicing({ database: kit.db.database, clock: kit.clock });
  const closing = { idempotencyKey: randomUUID(), tenantId, period: month.toISOString().slice(0, 7) };
  const bill = await periods.close(OPERATOR, closing);
  expect(bill.document).toMatchObject({
    chargesNano: total,
    totalNano: total,
    lines: [{ requests, royaltyNano: requests * royalty, totalNano: total }],
  });
  expect(bill.content).toContain(`"totalNano":"${total}"`);
  const charges = await exported('charges', tenantId, month, new Date(ended.getTime() + 1));
  expect(charges('total_nano')).toBe(total);
  expect(charges('royalty_nano')).toBe(requests * royalty);
});
