import { randomUUID } from 'node:crypto';
import { createInterface } from 'node:readline';
import { z } from 'zod';
import { Database } from '../../../src/db/client.ts';
import { createInvoicing } from '../../kit/invoicing.ts';
import { ManualClock, OPERATOR } from '../pricing/kit.ts';

// A process that finalises invoices. It reads their ids as one line, finalises all of them at once, and reports a line.

const order = z.object({ nowMs: z.number(), invoiceIds: z.array(z.string()) });

const [appUrl = '', systemUrl = ''] = process.argv.slice(2);
const report = (event: object) => process.stdout.write(`${JSON.stringify(event)}\n`);
const database = new Database({ appUrl, systemUrl, applicationName: 'numbers', systemConnectionsMax: 4 });
const clock = new ManualClock();
const { invoices } = createInvoicing({ database, clock });
// The first statement opens the connections and loads what runs them.
await database.querySystem('SELECT 1', []);
report({ numbers: [] });

for await (const line of createInterface({ input: process.stdin })) {
  const { nowMs, invoiceIds } = order.parse(JSON.parse(line));
  clock.set(nowMs);
  const done = await Promise.all(
    invoiceIds.map((invoiceId) => invoices.finalise(OPERATOR, { idempotencyKey: randomUUID(), invoiceId })),
  );
  report({ numbers: done.map(({ number }) => number) });
}
await database.close();
