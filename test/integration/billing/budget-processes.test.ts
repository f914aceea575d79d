import { type ChildProcess, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { z } from 'zod';
import { SEED } from '../ledger/kit.ts';
import { type Customer, type MoneyKit, openMoney } from './money-kit.ts';

/** 64 workers in three processes. */
const WORKERS = [22, 21, 21] as const;
const reportSchema = z.discriminatedUnion('event', [
  z.object({ event: z.literal('ready') }),
  z.object({ event: z.literal('done'), spent: z.string(), refused: z.number() }),
]);

interface Order {
  readonly tenants: readonly {
    readonly tenantId: string;
    readonly keyId: string;
    readonly adapterId: string;
  }[];
  readonly workers: number;
  readonly attempts: number;
  readonly amount: number;
  readonly seed: number | null;
}

/** A process that charges when it is told to. */
class Spender {
  readonly exited: Promise<void>;
  readonly #child: ChildProcess;
  readonly #reports: AsyncIterator<string>;

  constructor(url: string) {
    const child = spawn(
      process.execPath,
      ['test/kit/run-ts.mjs', 'test/integration/billing/budget-process.ts', url],
      { stdio: ['pipe', 'pipe', 'inherit'] },
    );
    this.#child = child;
    this.exited = new Promise((resolve) => child.once('exit', () => resolve()));
    this.#reports = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  }

  async next() {
    const line = await this.#reports.next();
    if (line.done === true) throw new Error('The process has ended.');
    return reportSchema.parse(JSON.parse(line.value));
  }

  async run(order: Order) {
    this.#child.stdin?.write(`${JSON.stringify(order)}\n`);
    const report = await this.next();
    if (report.event !== 'done') throw new Error('The process reports out of turn.');
    return report;
  }

  end(): void {
    this.#child.stdin?.end();
  }
}

let kit: MoneyKit;
let processes: readonly Spender[] = [];
beforeAll(async () => {
  kit = await openMoney();
  processes = WORKERS.map(() => new Spender(kit.db.systemUrl));
  await Promise.all(processes.map((one) => one.next()));
});
afterAll(async () => {
  for (const one of processes) one.end();
  await Promise.all(processes.map((one) => one.exited));
  await kit.db.dispose();
});

/** All processes at once; what they say they spent, and how often they were refused. */
async function everywhere(order: Omit<Order, 'workers'>) {
  const reports = await Promise.all(
    processes.map((one, index) =>
      one.run({
        ...order,
        workers: WORKERS[index] ?? 0,
        seed: order.seed === null ? null : order.seed + 1_000 * index,
      }),
    ),
  );
  return {
    spent: reports.reduce((sum, report) => sum + BigInt(report.spent), 0n),
    refused: reports.reduce((sum, report) => sum + report.refused, 0),
  };
}

async function customer(): Promise<Customer & { readonly adapterId: string }> {
  const made = await kit.customer();
  const { adapterId } = await kit.adapter(made.tenantId, kit.backboneDigest);
  return { ...made, adapterId };
}

const named = ({ tenantId, keyId, adapterId }: Customer & { readonly adapterId: string }) => ({
  tenantId,
  keyId,
  adapterId,
});

test('64 workers in three processes take exactly the nearly empty budget, and tell its thresholds once', async () => {
  for (const scope of ['TENANT', 'KEY', 'ADAPTER'] as const) {
    const one = await customer();
    const subject =
      scope === 'TENANT'
        ? { scope }
        : scope === 'KEY'
          ? { scope, keyId: one.keyId }
          : { scope, adapterId: one.adapterId };
    await kit.setBudget(one, { subject, limit: 700n, alertsPpm: [500_000, 1_000_000] });
    const { spent, refused } = await everywhere({
      tenants: [named(one)],
      attempts: 5,
      amount: 7,
      seed: null,
    });
    // 100 of the 320 attempts fit.
    expect([scope, spent, refused]).toEqual([scope, 700n, 220]);
    const [state] = await kit.budgets.list(one.actor, null);
    expect(state).toMatchObject({ spent: 700n, held: 0n, left: 0n });
    const told = (await kit.events(one.tenantId))
      .filter(({ kind }) => kind === 'budget.threshold')
      .map(({ payload }) => payload['thresholdPpm']);
    expect(told).toContain(1_000_000);
    expect(new Set(told).size).toBe(told.length);
    // Of thresholds that one round passes together the highest is told.
    expect(told.every((ppm) => ppm === 500_000 || ppm === 1_000_000)).toBe(true);
  }
});

test('what does not divide the budget leaves less than one request of it', async () => {
  const one = await customer();
  await kit.setBudget(one, { limit: 1_000n });
  const { spent } = await everywhere({ tenants: [named(one)], attempts: 5, amount: 7, seed: null });
  expect(spent).toBe(994n);
});

test('whatever is held and spent, no budget is passed, nothing stays held, and nobody waits in a circle', async () => {
  const customers = await Promise.all(Array.from({ length: 4 }, customer));
  for (const one of customers) {
    await kit.setBudget(one, { limit: 3_000n });
    await kit.setBudget(one, { period: 'MONTH', limit: 2_500n });
    await kit.setBudget(one, { subject: { scope: 'KEY', keyId: one.keyId }, limit: 2_000n });
    await kit.setBudget(one, { subject: { scope: 'ADAPTER', adapterId: one.adapterId }, limit: 1_500n });
  }
  const { spent, refused } = await everywhere({
    tenants: customers.map(named),
    attempts: 8,
    amount: 60,
    seed: SEED,
  });
  const lists = await Promise.all(customers.map((one) => kit.budgets.list(one.actor, null)));
  for (const states of lists) {
    // Every request counts in all four, so that the smallest one decides.
    expect(new Set(states.map((state) => state.spent)).size, `seed ${SEED}`).toBe(1);
    for (const state of states) {
      expect(state.held, `seed ${SEED}`).toBe(0n);
      expect(state.spent <= 1_500n, `seed ${SEED}: ${state.spent}`).toBe(true);
    }
  }
  expect(lists.reduce((sum, [state]) => sum + (state?.spent ?? 0n), 0n)).toBe(spent);
  expect(refused).toBeGreaterThan(0);
  const left = await kit.db.admin('SELECT count(*)::integer AS holds FROM budget_hold');
  expect(left).toEqual([{ holds: 0 }]);
  const deadlocks = await kit.db.admin(
    'SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()',
  );
  expect(deadlocks).toEqual([{ deadlocks: '0' }]);
});
