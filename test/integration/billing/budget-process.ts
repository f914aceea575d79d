import { createInterface } from 'node:readline';
import pg from 'pg';
import { z } from 'zod';
import { systemClock } from '../../../src/kernel/clock.ts';
import { newId } from '../../../src/kernel/ids.ts';
import { chargeStatement, numbers } from './charge.ts';

// A process that charges budgets, as far as they go. It reads one order a line, carries it out, and reports one line.

const order = z.object({
  /** Each worker charges them in turn. */
  tenants: z.array(z.object({ tenantId: z.string(), keyId: z.string(), adapterId: z.string() })),
  workers: z.number(),
  attempts: z.number(),
  /** What is held for a request: up to this, or exactly this when nothing is drawn. */
  amount: z.number(),
  /** Draws amounts, and what of them is spent; null spends all of every amount. */
  seed: z.number().nullable(),
});

const [url = ''] = process.argv.slice(2);
const report = (event: object) => process.stdout.write(`${JSON.stringify(event)}\n`);
const pool = new pg.Pool({ connectionString: url, max: 24, application_name: 'budget-process' });
report({ event: 'ready' });

for await (const line of createInterface({ input: process.stdin })) {
  const work = order.parse(JSON.parse(line));
  const results = await Promise.all(Array.from({ length: work.workers }, (_, nth) => spend(work, nth)));
  report({
    event: 'done',
    spent: String(results.reduce((sum, { spent }) => sum + spent, 0n)),
    refused: results.reduce((sum, { refused }) => sum + refused, 0),
  });
}
await pool.end();

/** One worker: holds, and ends what it held with the next round, so that rounds do both. */
async function spend(work: z.infer<typeof order>, nth: number) {
  const draw = work.seed === null ? null : numbers(work.seed + nth);
  let [spent, refused] = [0n, 0];
  let ending: { id: string; amount: bigint; adapters: Record<string, bigint> }[] = [];
  for (let attempt = 0; attempt < work.attempts; attempt += 1) {
    const tenant = work.tenants[(attempt + nth) % work.tenants.length];
    if (tenant === undefined) throw new Error('There are tenants.');
    const amount = BigInt(draw === null ? work.amount : 1 + draw(work.amount));
    const id = newId(systemClock);
    const charge = { ...tenant, id, amount, adapters: { [tenant.adapterId]: amount } };
    const { text, values } = chargeStatement([charge], ending);
    const { rows } = await pool.query(text, values);
    spent += ending.reduce((sum, ended) => sum + ended.amount, 0n);
    ending = [];
    if (rows.length > 0) {
      refused += 1;
      continue;
    }
    const used = draw === null ? amount : BigInt(draw(Number(amount) + 1));
    ending = [{ id, amount: used, adapters: { [tenant.adapterId]: used } }];
  }
  const { text, values } = chargeStatement([], ending);
  await pool.query(text, values);
  return { spent: spent + ending.reduce((sum, ended) => sum + ended.amount, 0n), refused };
}
