// An API process whose clients ask until they are refused: charge-process.ts <app URL> <system URL>. Each line that it
// reads is an order, and each line that it writes what came of it.
import { createInterface } from 'node:readline';
import { z } from 'zod';
import { AccountBook } from '../../../src/billing/account-book.ts';
import { Pricer, recharge } from '../../../src/billing/pricer.ts';
import { systemClock } from '../../../src/kernel/clock.ts';
import { PatchbayError } from '../../../src/kernel/errors.ts';
import { LEDGER_DEFAULTS, LedgerService } from '../../../src/ledger/service.ts';
import { PriceResolver } from '../../../src/pricing/resolver.ts';
import { plays } from '../inference/fake-engine.ts';
import { collect, plainInput, startProcess, testCaller } from '../inference/harness.ts';

const order = z.object({ tenantId: z.string(), clients: z.number(), maxTokens: z.number() });
const [appUrl = '', systemUrl = ''] = process.argv.slice(2);
const report = (event: object) => process.stdout.write(`${JSON.stringify(event)}\n`);
const clock = systemClock;
const api = await startProcess(
  { appUrl, systemUrl },
  {
    recharge,
    pricer: (database) =>
      new Pricer({
        resolver: new PriceResolver({ database, clock }),
        accounts: new AccountBook(new LedgerService(LEDGER_DEFAULTS, { database, clock })),
        clock,
      }),
  },
);
api.engine.script = plays(({ stop }) => stop.maxTokens);
report({ event: 'ready' });

for await (const line of createInterface({ input: process.stdin })) {
  const { tenantId, clients, maxTokens } = order.parse(JSON.parse(line));
  const caller = testCaller(tenantId);
  let served = 0;
  const client = async (): Promise<void> => {
    for (;;) {
      try {
        await collect(await api.service.infer(caller, plainInput(3, { maxTokens })));
        served += 1;
      } catch (error) {
        if (error instanceof PatchbayError && error.code === 'BUDGET_EXCEEDED') return;
        throw error;
      }
    }
  };
  await Promise.all(Array.from({ length: clients }, client));
  report({ event: 'done', served });
}
await api.close();
