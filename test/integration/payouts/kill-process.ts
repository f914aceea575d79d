import { z } from 'zod';
import type { Principal } from '../../../src/auth/principal.ts';
import { FilePayoutRail, type RailDisk, railDisk } from '../../../src/payouts/file-rail.ts';
import { openPayouts } from '../../../src/payouts/open.ts';
import { PAYOUT_DEFAULTS } from '../../../src/payouts/types.ts';
import { ManualClock } from '../../kit/fake-runner.ts';
import { MortalDatabase, mortal } from '../../kit/mortal.ts';

// A process that carries one order out and kills itself at one point of it, as a machine that loses power would.

const principal = z.object({
  kind: z.literal('OPERATOR'),
  tenantId: z.string(),
  keyId: z.string(),
  scopes: z.array(z.string()),
});
const order = z.object({
  appUrl: z.string(),
  systemUrl: z.string(),
  folder: z.string(),
  nowMs: z.number(),
  actor: principal,
  /** Where to die, such as `transaction 1 before commit`. */
  point: z.string(),
  step: z.discriminatedUnion('kind', [
    z.object({ kind: z.literal('create'), currency: z.string(), idempotencyKey: z.string() }),
    z.object({ kind: z.enum(['approve', 'cancel', 'submit']), batchId: z.string() }),
    z.object({ kind: z.literal('import'), content: z.string() }),
    z.object({ kind: z.literal('resolve'), payoutId: z.string(), bankReference: z.string() }),
  ]),
});
type Order = z.infer<typeof order>;

const work: Order = order.parse(JSON.parse(process.argv[2] ?? ''));
const pass = mortal(work.point);

const mortalDisk: RailDisk = {
  ...railDisk,
  async write(path, content) {
    await pass('file before writing');
    if (work.point === 'file half written') await railDisk.write(path, content.slice(0, content.length / 2));
    await pass('file half written');
    await railDisk.write(path, content);
    await pass('file written');
  },
  async publish(folder, from, to) {
    await railDisk.publish(folder, from, to);
    await pass('file published');
  },
};

const clock = new ManualClock();
clock.advance(work.nowMs);
const { appUrl, systemUrl } = work;
const database = new MortalDatabase({ appUrl, systemUrl, applicationName: 'mortal' }, pass);
const rail = new FilePayoutRail({ folder: work.folder }, { disk: mortalDisk });
const { batches, outcomes } = openPayouts(PAYOUT_DEFAULTS, { database, clock, file: rail, chain: null });
await carryOut(work.step, work.actor);
await database.close();

async function carryOut(step: Order['step'], actor: Principal): Promise<unknown> {
  switch (step.kind) {
    case 'create':
      return batches.create(actor, { ...step, earnedBefore: null });
    case 'approve':
      return batches.approve(actor, step.batchId);
    case 'cancel':
      return batches.cancel(actor, step.batchId);
    case 'submit':
      return batches.submit(actor, step.batchId);
    case 'import':
      return outcomes.importResults(actor, step.content);
    case 'resolve':
      return outcomes.resolveUnknown(actor, { ...step, outcome: 'PAID' });
  }
}
