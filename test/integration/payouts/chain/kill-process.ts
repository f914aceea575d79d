import { z } from 'zod';
import { ChainOutbox } from '../../../../src/chain/outbox/outbox.ts';
import { PatchbayError } from '../../../../src/kernel/errors.ts';
import { Distributors } from '../../../../src/payouts/chain/distributors.ts';
import { openChainPayouts } from '../../../../src/payouts/chain/open.ts';
import { ChainSettlement } from '../../../../src/payouts/chain/settlement.ts';
import { FilePayoutRail } from '../../../../src/payouts/file-rail.ts';
import { openPayouts } from '../../../../src/payouts/open.ts';
import { PAYOUT_DEFAULTS } from '../../../../src/payouts/types.ts';
import { ManualClock } from '../../../kit/fake-runner.ts';
import { MortalDatabase, mortal } from '../../../kit/mortal.ts';

// A process that hands a batch over, or settles trees, and kills itself at one point of it. It asks the chain nothing.

const order = z.object({
  appUrl: z.string(),
  systemUrl: z.string(),
  folder: z.string(),
  nowMs: z.number(),
  actor: z.object({
    kind: z.literal('OPERATOR'),
    tenantId: z.string(),
    keyId: z.string(),
    scopes: z.array(z.string()),
  }),
  /** Where to die, such as `transaction 1 before commit`. */
  point: z.string(),
  step: z.enum(['submit', 'settle']),
  batchId: z.string(),
  distributor: z.string(),
  token: z.string(),
});
const work = order.parse(JSON.parse(process.argv[2] ?? ''));

const clock = new ManualClock();
clock.advance(work.nowMs);
const { appUrl, systemUrl, folder, distributor, token } = work;
const database = new MortalDatabase({ appUrl, systemUrl, applicationName: 'mortal' }, mortal(work.point));
const chainId = 31_337n;
const chain = {
  account: null,
  provider: async () => {
    throw new PatchbayError('CHAIN_UNREACHABLE', 'There is no chain here.');
  },
  finalBlock: async () => null,
};
const place = { chainId, distributor, token };
const deps = { database, clock, chain, outbox: new ChainOutbox({ chainId }, { database, clock }) };
const payouts = openPayouts(PAYOUT_DEFAULTS, {
  ...{ database, clock, file: new FilePayoutRail({ folder }) },
  chain: openChainPayouts(place, { ...deps, signer: null }),
});
if (work.step === 'submit') await payouts.batches.submit(work.actor, work.batchId);
else await new ChainSettlement(deps).run(await new Distributors(place, deps).require());
await database.close();
