import { spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { readdir } from 'node:fs/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { verifyLedger } from '../../../src/ledger/verify.ts';
import type { Payout, PayoutBatch } from '../../../src/payouts/types.ts';
import { type Bundle, bundle } from '../../kit/bundle.ts';
import { resultsFile } from '../../unit/payouts/files.ts';
import { type Beneficiary, codeOf, newCurrency, openPayoutsKit, type PayoutsKit, UNIT } from './kit.ts';

// At every point of every step a process is killed for real. Then the steps are repeated, as an operator or another
// process would, and every beneficiary has been paid exactly once what it had earned.

const COMMIT = (n: number) => [`transaction ${n} before commit`, `transaction ${n} after commit`];
const POINTS = {
  create: COMMIT(1),
  // Those before it only read: who drafted it, and whether everything agrees.
  approve: COMMIT(4),
  submit: [
    ...COMMIT(1),
    ...['file before writing', 'file half written', 'file written', 'file published'],
    ...COMMIT(3),
  ],
  import: COMMIT(1),
  resolve: COMMIT(1),
  // The first payment comes back.
  giveBack: COMMIT(1),
  cancel: COMMIT(1),
} as const;
type Step = keyof typeof POINTS;
const CASES = Object.entries(POINTS).flatMap(([step, points]) => points.map((point) => `${step}: ${point}`));
const AMOUNTS = [20n * UNIT, 30n * UNIT + 7n];

let kit: PayoutsKit;
let program: Bundle;
beforeAll(async () => {
  program = await bundle('test/integration/payouts/kill-process.ts');
  kit = await openPayoutsKit();
});
afterAll(async () => {
  await kit.dispose();
  await program.remove();
});

/** Lets a process carry the step out and die; answers with the signal that ended it. */
function die(point: string, step: object): Promise<NodeJS.Signals | null> {
  const { appUrl, systemUrl } = kit.db;
  const actor = kit.drafter;
  const order = { appUrl, systemUrl, folder: kit.folder, nowMs: kit.clock.nowMs(), actor, point, step };
  const child = spawn(process.execPath, [program.path, JSON.stringify(order)], {
    stdio: ['ignore', 'inherit', 'inherit'],
  });
  return new Promise((resolve) => child.once('exit', (_code, signal) => resolve(signal)));
}

/** The life of one batch, every step of which can be taken again. */
class Life {
  readonly currency = newCurrency();
  readonly who: Beneficiary[] = [];
  private readonly idempotencyKey = randomUUID();
  private batch: PayoutBatch | undefined;

  async begin(): Promise<void> {
    for (const amount of AMOUNTS) {
      const one = await kit.beneficiary(this.currency);
      await kit.earn(one, this.currency, amount);
      this.who.push(one);
    }
  }

  get batchId(): string {
    if (this.batch === undefined) throw new Error('There is a batch.');
    return this.batch.id;
  }

  /** What a process is told to do for the step. */
  async order(step: Step): Promise<object> {
    const { currency, idempotencyKey } = this;
    if (step === 'create') return { kind: step, currency, idempotencyKey };
    if (step === 'import') return { kind: step, content: await this.results() };
    if (step === 'giveBack') return { kind: 'import', content: await this.returned() };
    if (step === 'resolve') {
      const { id: payoutId } = await this.unknown();
      return { kind: step, payoutId, bankReference: `FOUND-${payoutId}` };
    }
    return { kind: step, batchId: this.batchId };
  }

  /** The same in this process. */
  async take(step: Step): Promise<void> {
    const { batches, outcomes } = kit.payouts;
    const { currency, idempotencyKey } = this;
    if (step === 'create') {
      this.batch = await batches.create(kit.drafter, { idempotencyKey, currency, earnedBefore: null });
    } else if (step === 'import') await outcomes.importResults(kit.drafter, await this.results());
    else if (step === 'giveBack') await outcomes.importResults(kit.drafter, await this.returned());
    else if (step === 'resolve') {
      const { id: payoutId } = await this.unknown();
      const bankReference = `FOUND-${payoutId}`;
      await outcomes.resolveUnknown(kit.drafter, { payoutId, outcome: 'PAID', bankReference });
    } else await batches[step](kit.drafter, this.batchId);
  }

  /** The first payment is made; of the second the bank does not know. */
  private async results(): Promise<string> {
    const [first, second] = await this.payouts();
    return resultsFile([
      { key: first.paymentKey, amount: first.amountNano, state: 'PAID', reference: `B-${first.id}` },
      { key: second.paymentKey, amount: second.amountNano, state: 'UNKNOWN' },
    ]);
  }

  private async returned(): Promise<string> {
    const [first] = await this.payouts();
    const { paymentKey: key, amountNano: amount, id } = first;
    return resultsFile([{ key, amount, state: 'RETURNED', reference: `R-${id}` }]);
  }

  private async unknown(): Promise<Payout> {
    return (await this.payouts())[1];
  }

  private async payouts(): Promise<readonly [Payout, Payout]> {
    const found = await kit.payoutsOf(this.batchId);
    const [first, second] = this.who.map(({ tenantId }) =>
      found.find((payout) => payout.tenantId === tenantId),
    );
    if (first === undefined || second === undefined || found.length !== 2)
      throw new Error('There are two payouts.');
    return [first, second];
  }
}

const PAID_STEPS = ['create', 'approve', 'submit', 'import', 'resolve'] as const;
const RETURNED_STEPS = [...PAID_STEPS, 'giveBack'] as const;
const CANCELLED_STEPS = ['create', 'approve', 'cancel'] as const;

async function live(life: Life, dying: Step, point: string): Promise<void> {
  const steps: readonly Step[] =
    dying === 'cancel' ? CANCELLED_STEPS : dying === 'giveBack' ? RETURNED_STEPS : PAID_STEPS;
  for (const step of steps) {
    if (step === dying) expect(await die(point, await life.order(step)), `${step}: ${point}`).toBe('SIGKILL');
    await life.take(step);
    // What was done is not done again.
    if (step === dying) await life.take(step);
  }
}

test(`a process that is killed at any of ${CASES.length} points pays nobody twice, and loses nothing`, {
  timeout: 300_000,
}, async () => {
  const lives = CASES.map((name) => ({ name, life: new Life() }));
  for (const { life } of lives) await life.begin();
  kit.clock.advance(kit.options.holdbackMs + 1);
  const queue = [...lives];
  const worker = async (): Promise<void> => {
    for (let next = queue.shift(); next !== undefined; next = queue.shift()) {
      const [step = '', point = ''] = next.name.split(': ');
      const known = RETURNED_STEPS.find((one) => one === step) ?? 'cancel';
      await live(next.life, known, point);
    }
  };
  await Promise.all([worker(), worker()]);

  const payments = await kit.payments();
  expect(new Set(payments.map(({ key }) => key)).size).toBe(payments.length);
  for (const { name, life } of lives) {
    const isPaid = !name.startsWith('cancel');
    const isBack = name.startsWith('giveBack');
    const batch = await kit.payouts.batches.get(kit.drafter, life.batchId);
    expect(batch?.state, name).toBe(isPaid ? 'SETTLED' : 'CANCELLED');
    const wholes = AMOUNTS.map((amount) => amount - (amount % 10_000_000n));
    const sent = life.who.map(({ tenantId }) => payments.filter((payment) => payment.tenantId === tenantId));
    expect(
      sent.map((own) => own.map(({ amount }) => amount)),
      name,
    ).toEqual(wholes.map((amount) => (isPaid ? [amount] : [])));
    const balances = await Promise.all(life.who.map((one) => kit.balance(one)));
    expect(
      balances.map(({ posted, held }) => [posted, held]),
      name,
    ).toEqual(
      AMOUNTS.map((amount, i) => [isPaid && !(isBack && i === 0) ? amount % 10_000_000n : amount, 0n]),
    );
    const total = wholes.reduce((sum, amount, i) => (isBack && i === 0 ? sum : sum + amount), 0n);
    expect(await kit.paidOut(life.currency), name).toBe(isPaid ? total : 0n);
    if (isPaid) expect(await codeOf(kit.create(life.currency)), name).toBe('PAYOUT_NOTHING_DUE');
  }
  // What was left half-written is gone.
  expect((await readdir(kit.folder)).filter((name) => !name.endsWith('.csv'))).toEqual([]);
  const submitted = lives.filter(({ name }) => !name.startsWith('cancel'));
  expect(await readdir(kit.folder)).toHaveLength(submitted.length);
  await kit.sealer.run();
  expect((await verifyLedger(kit.db.database)).problems).toEqual([]);
});

test('a batch whose process was lost while it was handed over is finished by another process by itself', async () => {
  const life = new Life();
  await life.begin();
  kit.clock.advance(kit.options.holdbackMs + 1);
  await life.take('create');
  await life.take('approve');
  expect(await die('file half written', await life.order('submit'))).toBe('SIGKILL');
  const { resumed: all, failed } = await kit.payouts.batches.resume();
  const [resumed, ...others] = all;
  expect([...others, ...failed]).toEqual([]);
  expect(resumed).toMatchObject({ id: life.batchId, state: 'SUBMITTED' });
  expect(await kit.payouts.batches.resume()).toEqual({ resumed: [], failed: [] });
  const own = (await kit.payments()).filter(({ file }) => file === resumed?.railReference);
  expect(own).toHaveLength(AMOUNTS.length);
});
