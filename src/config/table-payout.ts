import type { Read } from './read.ts';
import { durationMs, money } from './setting.ts';

const MAX_UNITS = '1000000000';

/** When and how beneficiaries are paid. Amounts are in units of the installation's currency. */
export function payoutTable(read: Read) {
  return {
    payouts: {
      holdbackMs: read(
        'Payouts',
        durationMs(
          {
            env: 'PATCHBAY_PAYOUT_HOLDBACK',
            doc: 'Earnings that are younger than this are not paid yet, so that corrections can come first.',
          },
          { default: '168h', min: '0', max: '8760h' },
        ),
      ),
      minimumNano: read(
        'Payouts',
        money(
          {
            env: 'PATCHBAY_PAYOUT_MINIMUM',
            doc: 'The least that is paid to a beneficiary at a time; what is less is carried over.',
          },
          { default: '10', min: '0', max: MAX_UNITS },
        ),
      ),
      secondPersonAboveNano: read(
        'Payouts',
        money(
          {
            env: 'PATCHBAY_PAYOUT_SECOND_PERSON_ABOVE',
            doc: 'A batch of more than this is approved by another operator than the one who drafted it. 0: every batch.',
          },
          { default: '1000', min: '0', max: MAX_UNITS },
        ),
      ),
      destinationDelayMs: read(
        'Payouts',
        durationMs(
          {
            env: 'PATCHBAY_PAYOUT_DESTINATION_DELAY',
            doc: 'After this long a destination that replaces another takes effect.',
          },
          { default: '72h', min: '0', max: '8760h' },
        ),
      ),
      draftTtlMs: read(
        'Payouts',
        durationMs(
          {
            env: 'PATCHBAY_PAYOUT_DRAFT_TTL',
            doc: 'A batch that was not handed over for this long is cancelled, and what it holds is free again.',
          },
          { default: '336h', min: '1h', max: '8760h' },
        ),
      ),
    },
  };
}
