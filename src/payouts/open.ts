import { PayoutBatchService } from './batches.ts';
import type { ChainPayouts } from './chain/open.ts';
import { EarningsCorrectionService } from './corrections.ts';
import { PayoutDestinationService } from './destinations.ts';
import { EarningsService } from './earnings.ts';
import { PayoutOutcomeService } from './outcomes.ts';
import type { PayoutRail } from './rail.ts';
import type { PayoutDeps, PayoutOptions } from './types.ts';

/** Everything about payouts. */
export interface PayoutServices {
  readonly earnings: Pick<EarningsService, 'balances' | 'statement'>;
  readonly corrections: Pick<EarningsCorrectionService, 'adjust'>;
  readonly destinations: Pick<PayoutDestinationService, 'set' | 'list'>;
  readonly batches: Pick<
    PayoutBatchService,
    'create' | 'approve' | 'cancel' | 'submit' | 'resume' | 'expire' | 'list' | 'get'
  >;
  readonly outcomes: Pick<PayoutOutcomeService, 'importResults' | 'resolveUnknown' | 'list'>;
  /** Null where nothing is paid on a chain. */
  readonly chain: ChainPayouts | null;
}

/** What the services of payouts are made of. */
export interface PayoutParts extends Omit<PayoutDeps, 'rails'> {
  readonly file: PayoutRail;
  readonly chain: ChainPayouts | null;
}

/** Makes the services of payouts. */
export function openPayouts(options: PayoutOptions, parts: PayoutParts): PayoutServices {
  const { chain, database, clock } = parts;
  const dependencies = { database, clock, rails: { FILE: parts.file, CHAIN: chain?.rail ?? null } };
  return {
    chain,
    earnings: new EarningsService(options, dependencies),
    corrections: new EarningsCorrectionService(dependencies),
    destinations: new PayoutDestinationService(options, dependencies),
    batches: new PayoutBatchService(options, dependencies),
    outcomes: new PayoutOutcomeService(dependencies),
  };
}
