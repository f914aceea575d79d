import { PayoutBatchService } from './batches.ts';
import { EarningsCorrectionService } from './corrections.ts';
import { PayoutDestinationService } from './destinations.ts';
import { EarningsService } from './earnings.ts';
import { PayoutOutcomeService } from './outcomes.ts';
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
}

/** Makes the services of payouts. */
export function openPayouts(options: PayoutOptions, dependencies: PayoutDeps): PayoutServices {
  return {
    earnings: new EarningsService(options, dependencies),
    corrections: new EarningsCorrectionService(dependencies),
    destinations: new PayoutDestinationService(options, dependencies),
    batches: new PayoutBatchService(options, dependencies),
    outcomes: new PayoutOutcomeService(dependencies),
  };
}
