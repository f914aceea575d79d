import { z } from 'zod';
import type { Principal } from '../../../src/auth/principal.ts';
import { LedgerSealer, SEALER_DEFAULTS } from '../../../src/ledger/sealer.ts';
import { SplitService } from '../../../src/pricing/splits.ts';
import { ManualClock } from '../../kit/fake-runner.ts';
import { createInvoicing } from '../../kit/invoicing.ts';
import { MortalDatabase, mortal } from '../../kit/mortal.ts';

// A process that does one thing to bills, the chain of the ledger or a split, and kills itself at one point of it.

const keyed = { idempotencyKey: z.string() };
const order = z.object({
  appUrl: z.string(),
  systemUrl: z.string(),
  nowMs: z.number(),
  actor: z.object({
    kind: z.enum(['OPERATOR', 'TENANT']),
    tenantId: z.string(),
    keyId: z.string(),
    scopes: z.array(z.string()),
  }),
  /** Where to die, such as `transaction 1 before commit`. */
  point: z.string(),
  step: z.discriminatedUnion('kind', [
    z.object({ kind: z.literal('close'), ...keyed, tenantId: z.string(), period: z.string() }),
    z.object({ kind: z.enum(['finalise', 'markPaid', 'void']), ...keyed, invoiceId: z.string() }),
    z.object({ kind: z.enum(['collect', 'seal']) }),
    z.object({ kind: z.literal('decide'), proposalId: z.string() }),
  ]),
});

const { appUrl, systemUrl, nowMs, actor, point, step } = order.parse(JSON.parse(process.argv[2] ?? ''));
const clock = new ManualClock();
clock.advance(nowMs);
const database = new MortalDatabase({ appUrl, systemUrl, applicationName: 'mortal' }, mortal(point));
await carryOut(step, actor);
await database.close();

async function carryOut(work: typeof step, who: Principal): Promise<unknown> {
  const { periods, invoices } = createInvoicing({ database, clock });
  switch (work.kind) {
    case 'close':
      return periods.close(who, work);
    case 'finalise':
      return invoices.finalise(who, work);
    case 'markPaid':
      return invoices.markPaid(who, { ...work, reference: null, topUpId: null });
    case 'void':
      return invoices.void(who, work);
    case 'collect':
      return invoices.collectOpenCharges();
    case 'seal':
      return new LedgerSealer(SEALER_DEFAULTS, { database, clock }).run();
    case 'decide':
      return new SplitService({ database, clock }).decide(who, { proposalId: work.proposalId, agrees: true });
  }
}
