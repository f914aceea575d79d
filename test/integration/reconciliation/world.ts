import { randomUUID } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PLATFORM_TENANT_ID } from '../../../src/db/platform.ts';
import type { InferenceInput } from '../../../src/inference/input.ts';
import { newId, type Uuid } from '../../../src/kernel/ids.ts';
import { NANO } from '../../../src/kernel/money.ts';
import { FilePayoutRail } from '../../../src/payouts/file-rail.ts';
import { openPayouts } from '../../../src/payouts/open.ts';
import { PAYOUT_DEFAULTS } from '../../../src/payouts/types.ts';
import { PRICE_LEAD_MS } from '../../../src/pricing/resolver.ts';
import { createInvoicing } from '../../kit/invoicing.ts';
import { createTenancy } from '../../kit/tenancy.ts';
import { resultsFile } from '../../unit/payouts/files.ts';
import { openBilling, PRICE, priceBackbone } from '../billing/kit.ts';
import { plays } from '../inference/fake-engine.ts';
import { collect, expire, plainInput, take, testCaller } from '../inference/harness.ts';
import { OPERATOR } from '../pricing/kit.ts';

/** The month that everything is about, and one around it and what was paid for it. */
export const FEBRUARY = { from: new Date('2024-02-01T00:00:00Z'), to: new Date('2024-03-01T00:00:00Z') };
export const SPRING = { from: FEBRUARY.from, to: new Date('2024-04-01T00:00:00Z') };
const ENDED_AT = '2024-02-10T12:00:00Z';
const IBANS = ['DE89370400440532013000', 'GB29NWBK60161331926819'] as const;

/**
 * Requests that were served, charged and then moved into a past month, past all guards; their invoices in every state, and
 * payouts. Nothing in it differs.
 */
export async function openWorld() {
  const kit = await openBilling();
  const { db, clock, ledger } = kit;
  const { database } = db;
  await priceBackbone(kit, { ...PRICE, platformFeePpm: 100_000n });
  const [one, other] = [await kit.tenant(), await kit.tenant()];
  const royal = await kit.adapterWithRoyalty('royal', one, 250_000n);
  await kit.adapterWithRoyalty('rich', other, 400_000n);
  clock.advance(PRICE_LEAD_MS + 1);
  const api = await kit.process();
  const customers = {
    open: await kit.customer(1_000_000n),
    draft: await kit.customer(1_000_000n),
    final: await kit.customer(1_000_000n),
    gone: await kit.customer(1_000_000n),
  };
  const ask = (adapters: readonly { adapter: string; weight?: number }[]): InferenceInput => {
    const { plainBackbone: _plain, ...input } = plainInput(3, { maxTokens: 8 });
    return adapters.length === 0 ? { ...input, plainBackbone: true } : { ...input, adapters };
  };
  api.engine.script = plays(() => 5);
  for (const tenantId of Object.values(customers)) {
    const caller = testCaller(tenantId);
    await collect(await api.service.infer(caller, ask([{ adapter: 'royal' }])));
    await collect(
      await api.service.infer(
        caller,
        ask([
          { adapter: 'royal', weight: 2 },
          { adapter: 'rich', weight: -1 },
        ]),
      ),
    );
    await api.service.generate(caller, ask([]));
  }
  api.engine.script = null;

  /** A stream of the open customer of which a part was read, and more was generated. */
  const begin = async (process = api) => {
    const stream = await process.service.infer(testCaller(customers.open), ask([{ adapter: 'rich' }]));
    await take(stream);
    const sequence = await process.engine.sequence(process.engine.all.length - 1);
    sequence.emit(1, 2);
    await take(stream);
    return { stream, sequence };
  };
  const left = await begin();
  left.sequence.emit(3, 4, 5);
  await left.stream.return?.();
  const failed = await begin();
  failed.sequence.end('error');
  await collect(failed.stream);
  // A failure that delivered nothing costs nothing.
  const before = api.engine.all.length;
  const nothing = api.service.generate(testCaller(customers.open), ask([]));
  (await api.engine.sequence(before)).end('error');
  await nothing;
  const lost = await kit.process();
  await begin(lost);
  await expire(db, lost);
  await api.metering.recoverExpired();

  // Periods are closed when they are over, so what was served just now becomes what was served then.
  await db.admin(`BEGIN; SET LOCAL session_replication_role = replica;
    UPDATE usage_record SET ended_at = '${ENDED_AT}';
    UPDATE usage_charge SET ended_at = '${ENDED_AT}';
    UPDATE usage_share SET ended_at = '${ENDED_AT}';
    UPDATE ledger_posting SET created_at = '${ENDED_AT}'
    WHERE transfer_id IN (SELECT id FROM ledger_transfer WHERE reference_type = 'inference');
    UPDATE ledger_transfer SET created_at = '${ENDED_AT}' WHERE reference_type = 'inference';
    UPDATE tenant SET created_at = '2024-01-01T00:00:00Z'; COMMIT`);

  clock.set(Date.UTC(2024, 0, 1));
  const { invoices, periods, terms } = createInvoicing({ database, clock });
  const keyed = () => ({ idempotencyKey: randomUUID() });
  const wanted = { currency: 'USD', freeNano: 100n, minimumNano: 0n, tiers: [] };
  await terms.set(OPERATOR, { ...keyed(), tenantId: null, terms: wanted, effectiveFrom: null });
  clock.set(Date.UTC(2024, 2, 2));
  const close = (tenantId: Uuid) => periods.close(OPERATOR, { ...keyed(), tenantId, period: '2024-02' });
  const finalise = (invoiceId: Uuid) => invoices.finalise(OPERATOR, { ...keyed(), invoiceId });
  const [draft, final, gone] = [
    await close(customers.draft),
    await close(customers.final),
    await close(customers.gone),
  ];
  await finalise(final.id);
  await finalise(gone.id);
  await invoices.credit(OPERATOR, { ...keyed(), invoiceId: final.id, amountNano: 7n, reason: 'An outage' });
  await invoices.void(OPERATOR, { ...keyed(), invoiceId: gone.id });

  const folder = await mkdtemp(join(tmpdir(), 'patchbay-world-'));
  const tenancy = createTenancy(database, clock);
  const operator = (await tenancy.createOperatorKey()).principal;
  const payouts = openPayouts(
    { ...PAYOUT_DEFAULTS, holdbackMs: 0 },
    { database, clock, file: new FilePayoutRail({ folder }), chain: null },
  );
  const adjustment = await ledger.openAccount(PLATFORM_TENANT_ID, 'ADJUSTMENT', 'USD');
  /** Gives the owners more than requests of some tokens earn. */
  const grant = async (): Promise<void> => {
    for (const tenantId of [one, other]) {
      const [id, amount] = [newId(clock), 50n * NANO];
      await ledger.post({
        ...{ id, tenantId, asset: 'USD', key: id, referenceType: 'correction', referenceId: null },
        lines: [
          { accountId: await ledger.openAccount(tenantId, 'EARNINGS', 'USD'), amount, subjectId: null },
          { accountId: adjustment, amount: -amount, subjectId: null },
        ],
      });
    }
    clock.advance(24 * 3_600_000);
  };
  for (const [index, tenantId] of [one, other].entries()) {
    const { principal } = await tenancy.createKey(tenantId, ['payouts:write', 'billing:read']);
    const accountReference = IBANS[index] ?? '';
    await payouts.destinations.set(principal, { ...keyed(), accountName: 'Ada', accountReference });
  }
  const draftBatch = () =>
    payouts.batches.create(operator, { ...keyed(), currency: 'USD', earnedBefore: null });
  const payoutsOf = async (batchId: Uuid) =>
    (await payouts.outcomes.list(operator, { tenantId: null, batchId }, { first: 10, after: null })).items;
  await grant();
  const sent = await draftBatch();
  await payouts.batches.approve(operator, sent.id);
  await payouts.batches.submit(operator, sent.id);
  const made = await payoutsOf(sent.id);
  const said = made.map(({ paymentKey: key, amountNano: amount, tenantId }) =>
    tenantId === one
      ? { key, amount, state: 'UNKNOWN' }
      : { key, amount, state: 'PAID', reference: 'bank-1' },
  );
  await payouts.outcomes.importResults(operator, resultsFile(said));
  await grant();
  const batch = await draftBatch();

  return {
    ...{ kit, database, customers, close, finalise, operator, payouts, draft, final, batch },
    owners: { one, other },
    versionId: royal.versionId,
    unknown: made.find(({ tenantId }) => tenantId === one)?.id ?? '',
    async dispose(): Promise<void> {
      await tenancy.authenticator.close();
      await kit.close();
      await rm(folder, { recursive: true, force: true });
    },
  };
}

export type World = Awaited<ReturnType<typeof openWorld>>;
