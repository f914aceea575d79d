import { randomUUID } from 'node:crypto';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { PLATFORM_TENANT_ID } from '../../../src/db/platform.ts';
import { verifyLedger } from '../../../src/ledger/verify.ts';
import type { PaymentOrder, PayoutRail } from '../../../src/payouts/rail.ts';
import type { Payout, PayoutBatch } from '../../../src/payouts/types.ts';
import { resultsFile, type Said } from '../../unit/payouts/files.ts';
import { type Beneficiary, codeOf, newCurrency, openPayoutsKit, type PayoutsKit, SEED, UNIT } from './kit.ts';
import { Oracle, type OracleBatch, type OraclePayout, sum } from './oracle.ts';

const HOLDBACK_MS = 1_000;
const RULES = { holdbackMs: HOLDBACK_MS, minimum: 5n * UNIT, unit: 10_000_000n };
const BENEFICIARIES = 3;

/** Where the next order fails: the process was lost before, or after, the rail had it. */
let crash: 'before' | 'after' | null = null;

class CrashingRail implements PayoutRail {
  readonly kind = 'FILE';
  private readonly rail: PayoutRail;

  constructor(rail: PayoutRail) {
    this.rail = rail;
  }

  get refuses() {
    return this.rail.refuses;
  }

  unitNano(currency: string): bigint {
    return this.rail.unitNano(currency);
  }

  requireAgreed() {
    return this.rail.requireAgreed();
  }

  terms(currency: string) {
    return this.rail.terms(currency);
  }

  requireTakes(currency: string) {
    return this.rail.requireTakes(currency);
  }

  neverTook(batchId: string) {
    return this.rail.neverTook(batchId);
  }

  async submit(order: PaymentOrder) {
    const where = crash;
    crash = null;
    if (where === 'before') throw new Error('lost before');
    const receipt = await this.rail.submit(order);
    if (where === 'after') throw new Error('lost after');
    return receipt;
  }
}

/** Of the present run. Each has an installation of its own, because its currency is the one that operators correct in. */
let kit: PayoutsKit;

const BACKBONE = `
INSERT INTO backbone (id, name, digest, family, shape, created_at)
VALUES (gen_random_uuid(), 'b', repeat('ab', 32), 'llama', '{}', now())`;
const PRICE = `
INSERT INTO price_version (
  id, tenant_id, backbone_digest, currency, input_nano_per_million, cached_input_nano_per_million,
  output_nano_per_million, rank_nano_per_million, interactive_ppm, standard_ppm, batch_ppm, platform_fee_ppm,
  effective_from, created_at)
VALUES (gen_random_uuid(), $1, repeat('ab', 32), $2, 1, 1, 1, 0, 1000000, 1000000, 1000000, 0, now(), now())`;

const who = fc.nat(BENEFICIARIES - 1);
const pick = fc.nat(20);
const outcome = fc.constantFrom('PAID' as const, 'FAILED' as const, 'UNKNOWN' as const);
const crashes = fc.constantFrom(null, null, 'before' as const, 'after' as const);
const operation = fc.oneof(
  // What rarely comes about by chance: somebody earns enough, and a batch of it is handed over.
  {
    weight: 6,
    arbitrary: fc.record({
      kind: fc.constant('pay' as const),
      who,
      parts: fc.integer({ min: 20, max: 99 }),
      crash: crashes,
    }),
  },
  {
    weight: 4,
    arbitrary: fc.record({
      kind: fc.constant('earn' as const),
      who,
      parts: fc.integer({ min: 1, max: 40 }),
      rest: fc.nat(99),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constant('adjust' as const),
      who,
      parts: fc.integer({ min: -30, max: 10 }),
    }),
  },
  {
    weight: 4,
    arbitrary: fc.record({ kind: fc.constant('wait' as const), ms: fc.constantFrom(1, 400, 1_001, 1_001) }),
  },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant('draft' as const) }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant('approve' as const), pick }) },
  {
    weight: 4,
    arbitrary: fc.record({
      kind: fc.constant('submit' as const),
      pick,
      crash: crashes,
    }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('cancel' as const), pick }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('resume' as const) }) },
  {
    weight: 4,
    arbitrary: fc.record({
      kind: fc.constant('results' as const),
      outcomes: fc.array(outcome, { minLength: 1, maxLength: 4 }),
    }),
  },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('again' as const) }) },
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constant('resolve' as const),
      pick,
      outcome: fc.constantFrom('PAID' as const, 'FAILED' as const),
    }),
  },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant('return' as const), pick }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('seal' as const) }) },
);
type Operation = typeof operation extends fc.Arbitrary<infer T> ? T : never;

/** How often something happened. */
type Seen = Record<
  'PAID' | 'FAILED' | 'UNKNOWN' | 'RETURNED' | 'crash' | 'resume' | 'resolve' | 'again' | 'taken' | 'given',
  number
>;

/** One run: some beneficiaries of a currency of its own, in the database and in the oracle. */
class Comparison {
  readonly oracle = new Oracle(BENEFICIARIES, RULES);
  private readonly currency = newCurrency();
  private readonly people: Beneficiary[] = [];
  private readonly batches = new Map<OracleBatch, PayoutBatch>();
  private readonly payouts = new Map<OraclePayout, Payout>();
  private lastFile: string | null = null;
  private references = 0;
  /** How often something happened that the runs are about. */
  private readonly seen: Seen;

  constructor(seen: Seen) {
    this.seen = seen;
  }

  async begin(): Promise<void> {
    await kit.db.admin(BACKBONE);
    await kit.db.admin(PRICE, [PLATFORM_TENANT_ID, this.currency]);
    for (let i = 0; i < BENEFICIARIES; i += 1) this.people.push(await kit.beneficiary(this.currency));
  }

  async perform(op: Operation): Promise<void> {
    const { clock } = kit;
    if (op.kind === 'pay') {
      await this.perform({ kind: 'earn', who: op.who, parts: op.parts, rest: 7 });
      clock.advance(HOLDBACK_MS + 1);
      await this.draft();
      await this.approve(1);
      await this.submit(1, op.crash);
    } else if (op.kind === 'earn') {
      const amount = (BigInt(op.parts) * UNIT) / 4n + BigInt(op.rest);
      await kit.earn(this.person(op.who), this.currency, amount);
      this.oracle.post(op.who, clock.nowMs(), amount);
    } else if (op.kind === 'adjust') await this.adjust(op.who, op.parts);
    else if (op.kind === 'wait') clock.advance(op.ms);
    else if (op.kind === 'draft') await this.draft();
    else if (op.kind === 'approve') await this.approve(op.pick);
    else if (op.kind === 'submit') await this.submit(op.pick, op.crash);
    else if (op.kind === 'cancel') await this.cancel(op.pick);
    else if (op.kind === 'resume') await this.resume();
    else if (op.kind === 'results') await this.results(op.outcomes);
    else if (op.kind === 'resolve') await this.resolve(op.pick, op.outcome);
    else if (op.kind === 'return') await this.giveBack(op.pick);
    else if (op.kind === 'seal') await kit.sealer.run();
    else if (this.lastFile !== null) {
      await kit.payouts.outcomes.importResults(kit.drafter, this.lastFile);
      this.seen.again += 1;
    }
  }

  /** What everybody has, in the database. */
  async compareSums(): Promise<void> {
    const accounts = this.people.map(({ accountId }) => accountId);
    const before = new Date(kit.clock.nowMs() - HOLDBACK_MS);
    const rows = await kit.db.admin<{ posted: string; held: string; payable: string }>(
      `SELECT posted::text, held::text, payable::text FROM patchbay.earnings_payable($1, $2)
       ORDER BY array_position($1, account_id)`,
      [accounts, before],
    );
    expect(rows).toEqual(
      this.people.map((_, index) => ({
        posted: String(this.oracle.posted(index)),
        held: String(this.oracle.held(index)),
        payable: String(this.oracle.payable(index, before.getTime())),
      })),
    );
  }

  /** What everybody is told to have. */
  async compareBalances(): Promise<void> {
    const before = kit.clock.nowMs() - HOLDBACK_MS;
    for (const [index, person] of this.people.entries()) {
      const [balance] = await kit.payouts.earnings.balances(person.principal, null);
      const past = this.oracle.payable(index, before);
      const payable = past < RULES.minimum ? 0n : past - (past % RULES.unit);
      const { posted, held } = { posted: this.oracle.posted(index), held: this.oracle.held(index) };
      expect(balance).toMatchObject({ posted, held, payable, carried: past - payable });
    }
  }

  /** Where everything stands. */
  async compareStates(): Promise<void> {
    for (const [batch, { id }] of this.batches) {
      const found = await kit.payouts.batches.get(kit.drafter, id);
      expect(found?.state).toBe(batch.state);
      const states = new Map((await kit.payoutsOf(id)).map((payout) => [payout.id, payout.state]));
      for (const payout of batch.payouts) expect(states.get(this.idOf(payout))).toBe(payout.state);
    }
  }

  /** What must hold whatever the oracle says. */
  async conclude(): Promise<void> {
    const out = await kit.paidOut(this.currency);
    const paid = this.people.map((_, index) => this.oracle.paid(index) - this.oracle.returned(index));
    expect(out).toBe(sum(paid));
    const ids = this.people.map(({ tenantId }) => tenantId);
    const sent = (await kit.payments()).filter(({ tenantId }) => ids.includes(tenantId));
    // No payment is in two files, and none was made that is in none.
    expect(new Set(sent.map(({ key }) => key)).size).toBe(sent.length);
    const keys = new Set(sent.map(({ key }) => key));
    for (const [payout, { paymentKey }] of this.payouts) {
      if (['PAID', 'FAILED', 'UNKNOWN', 'RETURNED'].includes(payout.state))
        expect(keys.has(paymentKey)).toBe(true);
      if (['PENDING', 'CANCELLED'].includes(payout.state)) expect(keys.has(paymentKey)).toBe(false);
    }
    // The bank, if it made every payment that is not known to have failed, has paid nobody more than was ever earned.
    for (const [index, account] of this.oracle.accounts.entries()) {
      const most = sum(
        account.payouts
          .filter(({ state }) => !['FAILED', 'CANCELLED', 'RETURNED'].includes(state))
          .map(({ amount }) => amount),
      );
      const earned = sum(account.postings.filter(({ amount }) => amount > 0n).map(({ amount }) => amount));
      expect(most <= earned).toBe(true);
      expect(this.oracle.posted(index) + (paid[index] ?? 0n)).toBe(
        sum(account.postings.map(({ amount }) => amount)),
      );
    }
    const [total] = await kit.db.admin<{ total: string }>(
      `SELECT coalesce(sum(p.amount), 0)::text AS total FROM ledger_posting p JOIN ledger_account a ON a.id = p.account_id WHERE a.asset = $1`,
      [this.currency],
    );
    expect(total?.total).toBe('0');
  }

  /** An operator corrects; asked for again under its key it is the same correction, or refused when it is another. */
  private async adjust(who: number, parts: number): Promise<void> {
    const { tenantId, accountId } = this.person(who);
    const amount = (BigInt(parts) * UNIT) / 4n;
    const idempotencyKey = randomUUID();
    const adjust = (of: bigint) =>
      kit.payouts.corrections.adjust(kit.drafter, {
        ...{ idempotencyKey, tenantId, adapterVersionId: null, amount: of, reason: 'Checked' },
      });
    if (parts === 0) {
      expect(await codeOf(adjust(amount))).toBe('BAD_INPUT');
      return;
    }
    const made = await adjust(amount);
    this.oracle.post(who, kit.clock.nowMs(), amount);
    this.seen[parts < 0 ? 'taken' : 'given'] += 1;
    expect(await adjust(amount)).toEqual(made);
    expect(await codeOf(adjust(-amount))).toBe('IDEMPOTENCY_CONFLICT');
    const lines = await kit.db.admin<{ kind: string; amount: string }>(
      `SELECT a.kind, p.amount::text FROM ledger_posting p JOIN ledger_account a ON a.id = p.account_id
       WHERE p.transfer_id = $1 ORDER BY p.account_id = $2`,
      [made.transferId, accountId],
    );
    expect(lines).toEqual([
      { kind: 'ADJUSTMENT', amount: String(-amount) },
      { kind: 'EARNINGS', amount: String(amount) },
    ]);
  }

  private async draft(): Promise<void> {
    const expected = this.oracle.draft(kit.clock.nowMs());
    if (expected === null) {
      expect(await codeOf(kit.create(this.currency))).toBe('PAYOUT_NOTHING_DUE');
      return;
    }
    const batch = await kit.create(this.currency);
    const found = await kit.payoutsOf(batch.id);
    expect(found).toHaveLength(expected.payouts.length);
    for (const payout of expected.payouts) {
      const own = found.find(({ tenantId }) => tenantId === this.person(payout.who).tenantId);
      expect(own?.amountNano).toBe(payout.amount);
      if (own !== undefined) this.payouts.set(payout, own);
    }
    this.batches.set(expected, batch);
  }

  private async approve(index: number): Promise<void> {
    const picked = this.picked(index, ['DRAFT']);
    if (picked === null) return;
    const [expected, { id }] = picked;
    const code = await codeOf(kit.payouts.batches.approve(kit.approver, id));
    expect(code).toBe(expected.state === 'CANCELLED' ? 'PAYOUT_STATE' : null);
    if (expected.state === 'DRAFT') expected.state = 'APPROVED';
  }

  private async submit(index: number, where: typeof crash): Promise<void> {
    const picked = this.picked(index, ['APPROVED', 'SUBMITTING']);
    if (picked === null) return;
    const [expected, { id }] = picked;
    const reaches = ['APPROVED', 'SUBMITTING'].includes(expected.state);
    if (reaches) crash = where;
    if (reaches && where !== null) this.seen.crash += 1;
    const code = await codeOf(kit.payouts.batches.submit(kit.drafter, id));
    if (['DRAFT', 'CANCELLED'].includes(expected.state)) expect(code).toBe('PAYOUT_STATE');
    else expect(code).toBe(reaches && where !== null ? `not ours: Error: lost ${where}` : null);
    if (expected.state === 'APPROVED') this.oracle.send(expected);
    if (expected.state === 'SUBMITTING' && where === null) this.oracle.sent(expected);
  }

  private async cancel(index: number): Promise<void> {
    const picked = this.picked(index, ['DRAFT', 'APPROVED']);
    if (picked === null) return;
    const [expected, { id }] = picked;
    const may = ['DRAFT', 'APPROVED'].includes(expected.state);
    const code = await codeOf(kit.payouts.batches.cancel(kit.drafter, id));
    expect(code).toBe(may || expected.state === 'CANCELLED' ? null : 'PAYOUT_STATE');
    if (may) this.oracle.cancel(expected);
  }

  private async resume(): Promise<void> {
    await kit.payouts.batches.resume();
    for (const batch of this.oracle.batches) {
      if (batch.state !== 'SUBMITTING') continue;
      this.oracle.sent(batch);
      this.seen.resume += 1;
    }
  }

  /** What the bank says of payments that it has, the oldest first: those that are sent, and unknown ones. */
  private async results(outcomes: readonly ('PAID' | 'FAILED' | 'UNKNOWN')[]): Promise<void> {
    const inFiles = new Set((await kit.payments()).map(({ key }) => key));
    const open = [...this.payouts].filter(
      ([{ state }, { paymentKey }]) => ['SENDING', 'UNKNOWN'].includes(state) && inFiles.has(paymentKey),
    );
    const said: Said[] = [];
    for (const [index, state] of outcomes.entries()) {
      const [payout, known] = open[index] ?? [];
      if (payout === undefined || known === undefined) break;
      if (payout.state === state) continue;
      payout.state = state;
      this.seen[state] += 1;
      this.references += 1;
      const reference = `B-${known.id}-${this.references}`;
      said.push({ key: known.paymentKey, amount: known.amountNano, state, reference });
    }
    if (said.length === 0) return;
    this.lastFile = resultsFile(said);
    await kit.payouts.outcomes.importResults(kit.drafter, this.lastFile);
    this.oracle.settle();
  }

  /** A payment that was made comes back, and another one never does. */
  private async giveBack(index: number): Promise<void> {
    const all = [...this.payouts].filter(([{ state }]) => state !== 'UNKNOWN' && state !== 'RETURNED');
    const paid = all.filter(([{ state }]) => state === 'PAID');
    const from = paid.length > 0 && index % 4 !== 0 ? paid : all;
    const [payout, known] = from[index % Math.max(1, from.length)] ?? [];
    if (payout === undefined || known === undefined) return;
    this.references += 1;
    const back = { key: known.paymentKey, amount: known.amountNano, reference: `R-${this.references}` };
    const code = await codeOf(kit.say([{ ...back, state: 'RETURNED' }]));
    expect(code).toBe(payout.state === 'PAID' ? null : 'PAYOUT_STATE');
    if (payout.state !== 'PAID') return;
    this.oracle.giveBack(payout, kit.clock.nowMs());
    this.seen.RETURNED += 1;
  }

  private async resolve(index: number, state: 'PAID' | 'FAILED'): Promise<void> {
    const all = [...this.payouts];
    const unknown = all.filter(([{ state }]) => state === 'UNKNOWN');
    const from = unknown.length > 0 && index % 4 !== 0 ? unknown : all;
    const [payout, known] = from[index % Math.max(1, from.length)] ?? [];
    if (payout === undefined || known === undefined) return;
    this.references += 1;
    const input = { payoutId: known.id, outcome: state, bankReference: `R-${known.id}-${this.references}` };
    const code = await codeOf(kit.payouts.outcomes.resolveUnknown(kit.approver, input));
    expect(code).toBe(payout.state === 'UNKNOWN' ? null : 'PAYOUT_STATE');
    if (payout.state === 'UNKNOWN') {
      payout.state = state;
      this.seen.resolve += 1;
    }
    this.oracle.settle();
  }

  /** A batch; mostly one in a state in which something can be done with it. */
  private picked(
    index: number,
    wanted: readonly OracleBatch['state'][],
  ): readonly [OracleBatch, PayoutBatch] | null {
    const all = [...this.batches];
    const fitting = all.filter(([{ state }]) => wanted.includes(state));
    const from = fitting.length > 0 && index % 4 !== 0 ? fitting : all;
    return from[index % Math.max(1, from.length)] ?? null;
  }

  private person(index: number): Beneficiary {
    const found = this.people[index];
    if (found === undefined) throw new Error('There is such a beneficiary.');
    return found;
  }

  private idOf(payout: OraclePayout): string {
    return this.payouts.get(payout)?.id ?? '';
  }
}

test(`random interleavings do what the oracle says, and pay nobody twice or more than earned (seed ${SEED})`, async () => {
  const seen: Seen = {
    ...{ PAID: 0, FAILED: 0, UNKNOWN: 0, RETURNED: 0 },
    ...{ crash: 0, resume: 0, resolve: 0, again: 0, taken: 0, given: 0 },
  };
  await fc.assert(
    fc.asyncProperty(
      fc.array(operation, { minLength: 20, maxLength: 40, size: 'max' }),
      async (operations) => {
        const run = new Comparison(seen);
        crash = null;
        kit = await openPayoutsKit({
          options: { holdbackMs: HOLDBACK_MS, minimumNano: RULES.minimum },
          wrapRail: (rail) => new CrashingRail(rail),
        });
        try {
          await run.begin();
          for (const [index, op] of operations.entries()) {
            await run.perform(op);
            await run.compareSums();
            if (index % 8 === 0) await run.compareStates();
          }
          await run.compareBalances();
          await run.compareStates();
          await run.conclude();
          expect((await verifyLedger(kit.db.database)).problems).toEqual([]);
        } finally {
          await kit.dispose();
        }
      },
    ),
    { seed: SEED, numRuns: 8 },
  );
  // The runs came to the states that they are about.
  expect(Object.entries(seen).filter(([, times]) => times === 0)).toEqual([]);
});
