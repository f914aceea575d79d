import { spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { verifyInvoices } from '../../../src/invoicing/verify.ts';
import type { Uuid } from '../../../src/kernel/ids.ts';
import { LedgerSealer, SEALER_DEFAULTS } from '../../../src/ledger/sealer.ts';
import { verifyLedger } from '../../../src/ledger/verify.ts';
import { type Bundle, bundle } from '../../kit/bundle.ts';
import { actorOf, OPERATOR } from '../pricing/kit.ts';
import { AFTER_FEBRUARY, type Customer, FEBRUARY, type InvoicingKit, openInvoicing } from './kit.ts';

// At every commit of what happens to a bill a process is killed for real. Then the step is repeated, as an operator or
// another process would, and everything has happened once.

const COMMIT = (n: number) => [`transaction ${n} before commit`, `transaction ${n} after commit`];
const STEPS = ['close', 'finalise', 'collect', 'markPaid'] as const;
type Step = (typeof STEPS)[number] | 'void';
const POINTS: Readonly<Record<Step, readonly string[]>> = {
  close: COMMIT(1),
  finalise: COMMIT(1),
  // The first one only looks for what fits.
  collect: COMMIT(2),
  markPaid: COMMIT(1),
  void: COMMIT(1),
};

let kit: InvoicingKit;
let program: Bundle;
beforeAll(async () => {
  program = await bundle('test/integration/invoicing/kill-process.ts');
  kit = await openInvoicing();
});
afterAll(async () => {
  await kit.db.dispose();
  await program.remove();
});

/** Lets a process do something and die; answers with the signal that ended it. */
function die(point: string, step: object, actor = OPERATOR): Promise<NodeJS.Signals | null> {
  const { appUrl, systemUrl } = kit.db;
  const order = { appUrl, systemUrl, nowMs: kit.clock.nowMs(), actor, point, step };
  const child = spawn(process.execPath, [program.path, JSON.stringify(order)], {
    stdio: ['ignore', 'inherit', 'inherit'],
  });
  return new Promise((resolve) => child.once('exit', (_code, signal) => resolve(signal)));
}

/** One bill, every step of which can be taken again. */
class Life {
  readonly name: string;
  readonly dying: Step;
  readonly point: string;
  private readonly keys = new Map<Step, string>();
  private customer: Customer | undefined;
  private invoiceId: Uuid | undefined;

  constructor(dying: Step, point: string) {
    this.name = `${dying}: ${point}`;
    this.dying = dying;
    this.point = point;
  }

  /** A month of 500 of which 100 were paid in, with 50 off, and 70 more to the minimum that do not fit in yet. */
  async begin(): Promise<void> {
    const customer = await kit.customer(100n);
    await kit.ledger.setCreditLimit(customer.accountId, 400n, randomUUID());
    await kit.setTerms(customer.tenantId, { freeNano: 50n, minimumNano: 520n });
    await kit.charge(customer, { endedAt: '2024-02-10T00:00:00Z', inputNano: 500n });
    this.customer = customer;
  }

  async live(): Promise<void> {
    const steps: readonly Step[] = this.dying === 'void' ? ['close', 'finalise', 'void'] : STEPS;
    for (const step of steps) {
      // There is room for the open charge only now.
      if (step === 'collect') await kit.topUp(this.who, 20n);
      if (step === this.dying) expect(await die(this.point, this.order(step)), this.name).toBe('SIGKILL');
      await this.take(step);
      // What was done is not done again.
      if (step === this.dying) await this.take(step);
    }
  }

  async conclude(): Promise<void> {
    const [balance] = await kit.ledger.balances([this.who.accountId]);
    const invoice = await kit.invoicing.reader.get(OPERATOR, this.id);
    const isVoid = this.dying === 'void';
    expect(invoice, this.name).toMatchObject({
      state: isVoid ? 'VOID' : 'PAID',
      openNano: 0n,
      prepaidNano: 100n,
    });
    // Void: as before the month was closed. Paid: 20 of the top-up are left, after 520 less 100 came in.
    expect(balance?.posted, this.name).toBe(isVoid ? -400n : 20n);
    const kinds = (await kit.events(this.id)).map(({ kind }) => kind);
    expect(kinds, this.name).toEqual(['invoice.finalised', isVoid ? 'invoice.voided' : 'invoice.paid']);
  }

  private order(step: Step): object {
    const { tenantId } = this.who;
    const idempotencyKey = this.keyOf(step);
    if (step === 'close') return { kind: step, idempotencyKey, tenantId, period: FEBRUARY };
    if (step === 'collect') return { kind: step };
    return { kind: step, idempotencyKey, invoiceId: this.id };
  }

  /** The same in this process. */
  private async take(step: Step): Promise<void> {
    const { periods, invoices } = kit.invoicing;
    const { tenantId } = this.who;
    const idempotencyKey = this.keyOf(step);
    if (step === 'close') {
      this.invoiceId = (await periods.close(OPERATOR, { idempotencyKey, tenantId, period: FEBRUARY })).id;
    } else if (step === 'collect') await invoices.collectOpenCharges();
    else if (step === 'markPaid') {
      await invoices.markPaid(OPERATOR, {
        idempotencyKey,
        invoiceId: this.id,
        reference: null,
        topUpId: null,
      });
    } else await invoices[step](OPERATOR, { idempotencyKey, invoiceId: this.id });
  }

  private keyOf(step: Step): string {
    const key = this.keys.get(step) ?? randomUUID();
    this.keys.set(step, key);
    return key;
  }

  private get who(): Customer {
    if (this.customer === undefined) throw new Error('It has begun.');
    return this.customer;
  }

  private get id(): Uuid {
    if (this.invoiceId === undefined) throw new Error('The month is closed.');
    return this.invoiceId;
  }
}

const CASES = Object.values(POINTS).flat().length;

test(`a process that is killed at any of ${CASES} points bills nobody twice, and loses no bill`, {
  timeout: 120_000,
}, async () => {
  const wanted = [...STEPS, 'void'] as const;
  const lives = wanted.flatMap((step) => POINTS[step].map((point) => new Life(step, point)));
  kit.clock.set(Date.UTC(2024, 0, 2));
  for (const life of lives) await life.begin();
  kit.clock.set(AFTER_FEBRUARY);
  // A process that collects open charges collects everybody's: where it is to die at that, nobody else does so.
  const queue = lives.filter(({ dying }) => dying !== 'collect');
  const worker = async (): Promise<void> => {
    for (let next = queue.shift(); next !== undefined; next = queue.shift()) await next.live();
  };
  await Promise.all([worker(), worker()]);
  for (const life of lives.filter(({ dying }) => dying === 'collect')) await life.live();
  for (const life of lives) await life.conclude();
  expect((await verifyInvoices(kit.db.database)).problems).toEqual([]);
  expect((await verifyLedger(kit.db.database)).problems).toEqual([]);
});

test('a sealer that is killed leaves a chain that the next one goes on with', async () => {
  for (const point of COMMIT(1)) {
    await kit.topUp(await kit.customer(), 1n);
    expect(await die(point, { kind: 'seal' }), point).toBe('SIGKILL');
    await new LedgerSealer(SEALER_DEFAULTS, { database: kit.db.database, clock: kit.clock }).run();
    expect((await verifyLedger(kit.db.database)).problems, point).toEqual([]);
  }
  const [left] = await kit.db.admin<{ waiting: number }>(
    `SELECT count(*)::integer AS waiting FROM ledger_transfer t
     WHERE NOT EXISTS (SELECT FROM ledger_batch b WHERE t.id = ANY (b.transfer_ids))`,
  );
  expect(left).toEqual({ waiting: 0 });
});

test('a split that is agreed to by a process that is killed takes effect once', async () => {
  for (const point of COMMIT(1)) {
    const [owner, friend] = [await kit.pricing.tenant(), await kit.pricing.tenant()];
    const { adapterId } = await kit.pricing.adapter(owner, kit.backbone);
    const propose = (parts: bigint) => {
      kit.clock.advance(60_000);
      return kit.pricing.splits.propose(actorOf(owner), {
        ...{ idempotencyKey: randomUUID(), adapterId, adapterVersionId: null, effectiveFrom: null },
        terms: {
          beneficiaries: [
            { tenantId: owner, parts },
            { tenantId: friend, parts: 1n },
          ],
        },
      });
    };
    const first = await propose(1n);
    await kit.pricing.splits.decide(actorOf(friend), { proposalId: first.id, agrees: true });
    const { id: proposalId, state } = await propose(3n);
    expect(state).toBe('PENDING');
    expect(await die(point, { kind: 'decide', proposalId }, actorOf(friend)), point).toBe('SIGKILL');
    for (let i = 0; i < 2; i += 1) {
      const decided = await kit.pricing.splits.decide(actorOf(friend), { proposalId, agrees: true });
      expect(decided, point).toMatchObject({ state: 'ACTIVE', split: { adapterId } });
    }
    const [found] = await kit.db.admin(
      `SELECT (SELECT count(*)::integer FROM split_version WHERE adapter_id = $1) AS versions,
              (SELECT count(*)::integer FROM audit_log WHERE action = 'split.decide' AND outcome = 'DONE'
               AND target_id = $2) AS decisions`,
      [adapterId, proposalId],
    );
    expect(found, point).toEqual({ versions: 2, decisions: 1 });
  }
});
