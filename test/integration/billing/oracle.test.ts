import { randomUUID } from 'node:crypto';
import fc from 'fast-check';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { FundsService } from '../../../src/billing/funds.ts';
import { PLATFORM_TENANT_ID } from '../../../src/db/platform.ts';
import type { InferenceEvent } from '../../../src/inference/events.ts';
import { PatchbayError } from '../../../src/kernel/errors.ts';
import type { Uuid } from '../../../src/kernel/ids.ts';
import { verifyLedger } from '../../../src/ledger/verify.ts';
import { PRICE_LEAD_MS } from '../../../src/pricing/resolver.ts';
import { reconcile } from '../../../src/reconciliation/reconcile.ts';
import type { FakeSequence } from '../inference/fake-engine.ts';
import { collect, expire, plainInput, type TestProcess, take, testCaller } from '../inference/harness.ts';
import { OPERATOR, ofBackbone } from '../pricing/kit.ts';
import { BACKBONE, type BillingKit, openBilling } from './kit.ts';
import { ChargingOracle, type Counts, type Rates } from './oracle.ts';

const SEED = Number(process.env['PATCHBAY_TEST_SEED'] ?? 20_261_130);
const PPM = 1_000_000n;

let kit: BillingKit;
let funds: FundsService;
let processes: readonly TestProcess[];
beforeAll(async () => {
  kit = await openBilling();
  funds = new FundsService({ database: kit.db.database, clock: kit.clock });
  await setPrice(1n, 1n, 1n);
  processes = [await kit.process(), await kit.process()];
});
afterAll(() => kit.close());

/** Adds a price of so many nano-units a token, which begins when the lead is over. */
async function setPrice(input: bigint, cached: bigint, output: bigint): Promise<Rates> {
  const { id, effectiveFrom } = await kit.setPrice(ofBackbone(BACKBONE), {
    inputPerMillion: input * PPM,
    cachedInputPerMillion: cached * PPM,
    outputPerMillion: output * PPM,
  });
  return { versionId: id, fromMs: effectiveFrom.getTime(), input, cached, output };
}

const who = fc.nat(1);
const rate = fc.bigInt({ min: 0n, max: 4n });
const operation = fc.oneof(
  {
    weight: 5,
    arbitrary: fc.record({
      kind: fc.constant('admit' as const),
      who,
      on: fc.nat(1),
      prompt: fc.integer({ min: 1, max: 5 }),
      most: fc.integer({ min: 1, max: 5 }),
      refused: fc.nat(7).map((draw) => draw === 0),
    }),
  },
  {
    weight: 4,
    arbitrary: fc.record({
      kind: fc.constant('finish' as const),
      pick: fc.nat(20),
      output: fc.nat(5),
      cached: fc.nat(5),
    }),
  },
  fc.record({ kind: fc.constant('leave' as const), pick: fc.nat(20) }),
  {
    weight: 3,
    arbitrary: fc.record({ kind: fc.constant('price' as const), input: rate, cached: rate, output: rate }),
  },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('wait' as const), ms: fc.nat(2_500) }) },
  fc.record({ kind: fc.constant('topUp' as const), who, parts: fc.integer({ min: 1, max: 30 }) }),
  fc.record({ kind: fc.constant('refund' as const), who, parts: fc.integer({ min: 1, max: 5 }) }),
  fc.record({ kind: fc.constant('take' as const), who, parts: fc.integer({ min: 1, max: 30 }) }),
  fc.record({ kind: fc.constant('lose' as const) }),
);
type Operation = typeof operation extends fc.Arbitrary<infer T> ? T : never;

interface Running {
  readonly number: number;
  readonly requestId: Uuid;
  readonly on: TestProcess;
  readonly counts: Counts;
  readonly sequence: FakeSequence;
  readonly stream: AsyncIterableIterator<InferenceEvent>;
}

/** One run: two customers, in the database and in the oracle. */
class Comparison {
  readonly oracle: ChargingOracle;
  readonly #tenants: readonly Uuid[];
  /** A nano-unit, or a number of them. */
  readonly #unit: bigint;
  #running: readonly Running[] = [];
  #admitted = 0;

  constructor(tenants: readonly Uuid[], rates: Rates, unit: bigint) {
    this.#tenants = tenants;
    this.#unit = unit;
    this.oracle = new ChargingOracle(tenants.length, rates);
  }

  async perform(op: Operation): Promise<void> {
    // Two prices cannot begin at once.
    kit.clock.advance(1);
    if (op.kind === 'wait') kit.clock.advance(op.ms);
    else if (op.kind === 'price') {
      const [input, cached, output] = [op.input * this.#unit, op.cached * this.#unit, op.output * this.#unit];
      this.oracle.changePrice(await setPrice(input, cached, output));
    } else if (op.kind === 'admit') await this.#admit(op);
    else if (op.kind === 'lose') await this.#lose();
    else if (op.kind === 'finish' || op.kind === 'leave') await this.#end(op);
    else if (op.kind === 'take') await this.#move(op.who, 'CORRECTION', -BigInt(op.parts) * this.#unit);
    else await this.#move(op.who, op.kind === 'topUp' ? 'TOP_UP' : 'REFUND', BigInt(op.parts) * this.#unit);
  }

  /** What everybody has, against the oracle. */
  async compare(): Promise<void> {
    for (const [index, expected] of this.oracle.customers.entries()) {
      const { posted, held, available } = await kit.balance(this.#tenants[index] ?? '');
      expect({ posted, held }).toEqual(expected);
      expect(available >= 0n).toBe(true);
    }
  }

  /** Ends what still runs, so that the next run begins with nothing. */
  async drain(): Promise<void> {
    while (this.#running.length > 0) await this.#end({ kind: 'finish', pick: 0, output: 1, cached: 1 });
  }

  async #admit(op: Operation & { kind: 'admit' }): Promise<void> {
    const on = processes[op.on];
    if (on === undefined) throw new Error('There are two processes.');
    const counts = { prompt: op.prompt, cached: 0, output: op.most };
    const number = this.#admitted++;
    const fits = this.oracle.admit(number, op.who, kit.clock.nowMs(), counts);
    const index = on.engine.all.length;
    if (op.refused && fits) on.engine.refusals.push(new PatchbayError('ENGINE_FULL', 'x'));
    const input = plainInput(op.prompt, { maxTokens: op.most });
    const caller = testCaller(this.#tenants[op.who] ?? '');
    try {
      const stream = await on.service.infer(caller, input);
      const started = await take(stream);
      if (started.kind !== 'started') throw new Error('A stream begins with its start.');
      expect(fits && !op.refused, 'it was admitted').toBe(true);
      const sequence = await on.engine.sequence(index);
      const { requestId } = started;
      this.#running = [...this.#running, { number, requestId, on, counts, sequence, stream }];
    } catch (error) {
      if (!(error instanceof PatchbayError)) throw error;
      expect(error.code).toBe(fits ? 'ENGINE_FULL' : 'BUDGET_EXCEEDED');
      expect(fits && !op.refused).toBe(false);
      // What never ran costs nothing, and holds nothing any more.
      if (fits) this.oracle.end(number, { prompt: 0, cached: 0, output: 0 });
    }
  }

  async #end(op: Operation & { kind: 'finish' | 'leave' }): Promise<void> {
    const one = this.#running[op.pick % Math.max(1, this.#running.length)];
    if (one === undefined) return;
    this.#running = this.#running.filter((other) => other !== one);
    const { prompt } = one.counts;
    if (op.kind === 'leave') {
      // Who leaves pays for the prompt, of which the engine had one token.
      await one.stream.return?.();
      await this.#settled(one, { prompt, cached: 1, output: 0 });
      return;
    }
    const used = {
      prompt,
      cached: Math.min(op.cached, prompt),
      output: Math.min(op.output, one.counts.output),
    };
    if (used.output > 0) one.sequence.emit(...Array.from({ length: used.output }, (_, i) => i + 1));
    one.sequence.end('stop', undefined, { cachedPromptTokens: used.cached });
    await collect(one.stream);
    await this.#settled(one, used);
  }

  /** The second process is lost: the first settles what it left, of which nothing was delivered. */
  async #lose(): Promise<void> {
    const [survivor, lost] = processes;
    if (survivor === undefined || lost === undefined) throw new Error('There are two processes.');
    const left = this.#running.filter(({ on }) => on === lost);
    await expire(kit.db, lost);
    await survivor.metering.recoverExpired();
    await lost.metering.lease.renew();
    this.#running = this.#running.filter(({ on }) => on !== lost);
    for (const one of left) {
      await this.#settled(one, { prompt: 0, cached: 0, output: 0 });
      one.sequence.end('cancelled');
      await collect(one.stream).catch(() => {});
    }
  }

  /** The record and its charge say what the oracle says, at the price of the admission. */
  async #settled({ number, requestId }: Running, used: Counts): Promise<void> {
    const { cost, rates } = this.oracle.end(number, used);
    const rows = await kit.db.admin(
      `SELECT r.amount_nano, c.total_nano, c.price_version FROM usage_record r JOIN usage_charge c ON c.request_id = r.id
       WHERE r.id = $1`,
      [requestId],
    );
    expect(rows).toEqual([
      { amount_nano: String(cost), total_nano: String(cost), price_version: rates.versionId },
    ]);
  }

  async #move(customer: number, kind: 'TOP_UP' | 'REFUND' | 'CORRECTION', amount: bigint): Promise<void> {
    const move = { idempotencyKey: randomUUID(), tenantId: this.#tenants[customer] ?? '', kind, amount };
    const done = await funds.move(OPERATOR, { ...move, reason: 'x' }).then(
      () => true,
      (error: unknown) => {
        expect(error).toMatchObject({ code: 'BUDGET_EXCEEDED' });
        return false;
      },
    );
    expect(done).toBe(this.oracle.move(customer, amount));
  }
}

test(`admissions, endings, losses, refunds and changes of prices: the database counts as the oracle does (seed ${SEED})`, async () => {
  const from = new Date(Date.now() - 3_600_000);
  await fc.assert(
    fc.asyncProperty(
      fc.array(operation, { minLength: 8, maxLength: 28 }),
      fc.constantFrom(1n, 10n ** 8n + 7n),
      async (operations, unit) => {
        const rates = await setPrice(unit, unit, 2n * unit);
        kit.clock.advance(PRICE_LEAD_MS + 1);
        const tenants = [await kit.customer(1n), await kit.customer(1n)];
        const before = await kit.posted(PLATFORM_TENANT_ID, 'PLATFORM_BASE');
        const comparison = new Comparison(tenants, rates, unit);
        for (const one of comparison.oracle.customers) one.posted = 1n;
        for (const op of [
          { kind: 'topUp', who: 0, parts: 40 } as const,
          { kind: 'topUp', who: 1, parts: 15 } as const,
          ...operations,
        ]) {
          await comparison.perform(op);
          await comparison.compare();
        }
        await comparison.drain();
        await comparison.compare();
        expect((await kit.posted(PLATFORM_TENANT_ID, 'PLATFORM_BASE')) - before).toBe(
          comparison.oracle.platform,
        );
      },
    ),
    { seed: SEED, numRuns: 7, endOnFailure: true },
  );
  // Conservation, and every hold resolved once.
  expect(await kit.db.admin('SELECT sum(amount)::text AS sum FROM ledger_posting')).toEqual([{ sum: '0' }]);
  expect(await kit.db.admin('SELECT FROM ledger_open_hold')).toEqual([]);
  expect(
    await kit.db.admin(
      `SELECT p.id FROM ledger_transfer p LEFT JOIN ledger_transfer r ON r.pending_id = p.id
       WHERE p.kind = 'PENDING' GROUP BY p.id HAVING count(r.id) <> 1`,
    ),
  ).toEqual([]);
  const to = new Date(Date.now() + 3_600_000);
  const report = await reconcile(kit.db.database, { from, to, tenantId: null });
  expect(report.differences).toEqual([]);
  expect((await verifyLedger(kit.db.database)).problems).toEqual([]);
});
