import { column, nullable } from '../column.ts';
import { defineSource } from '../source.ts';

/** Payouts that have come to an end. */
export const payouts = defineSource({
  name: 'payouts',
  scope: 'billing:read',
  description:
    'One row for each payout whose outcome is known: paid, failed (the money is the beneficiary’s again) or cancelled with ' +
    'its batch. A payout is in the range in which its outcome became known, which is the last thing that happens to it; ' +
    'one that is on its way, or that the bank calls unknown, is in none yet. The account that it went to is named by ' +
    'its id alone: who may read account numbers finds them under that id.',
  timeColumn: 'ended_at',
  orderedBy: 'payout_id',
  columns: [
    column('payout_id', 'uuid', 'The payout.'),
    column('batch_id', 'uuid', 'The batch that it was paid in.'),
    column('line', 'integer', 'Its number within the batch, from 1.'),
    column('tenant_id', 'uuid', 'The beneficiary.'),
    column('state', 'text', '`PAID`, `FAILED` or `CANCELLED`.'),
    column('currency', 'text', 'What the amount is in.'),
    column('amount_nano', 'bigint', 'What was to be paid.', 'nano-units of the currency'),
    column('earned_before', 'timestamp', 'What was earned before this time is in it.'),
    column(
      'payment_key',
      'hex',
      'SHA-256 that makes the payment unique; it is in the payment file and in the bank’s results.',
    ),
    column('destination_id', 'uuid', 'The destination that the beneficiary had registered.'),
    column('destination_kind', 'text', 'What kind of destination that is, such as `FILE`.'),
    column('account_id', 'uuid', 'The account of earnings in the ledger that it was paid from.'),
    column('hold_id', 'uuid', 'The pending transfer in the ledger that held the amount.'),
    nullable('bank_reference', 'text', 'What the bank calls the payment.'),
    column('created_at', 'timestamp', 'When its batch was drafted.'),
    column('ended_at', 'timestamp', 'When its outcome became known.'),
  ],
  parts: [
    {
      // The states from which no other follows: until then the row changes.
      from: `(SELECT * FROM payout WHERE state IN ('PAID', 'FAILED', 'CANCELLED')) p`,
      id: 'p.id',
      line: '0::integer',
      time: 'p.state_changed_at',
      tenant: 'p.tenant_id',
      cells: {
        payout_id: 'p.id',
        batch_id: 'p.batch_id',
        line: 'p.line',
        tenant_id: 'p.tenant_id',
        state: 'p.state',
        currency: 'p.currency',
        amount_nano: 'p.amount_nano',
        earned_before: 'p.earned_before',
        payment_key: 'p.payment_key',
        destination_id: 'p.destination_id',
        destination_kind: 'SELECT d.kind FROM payout_destination d WHERE d.id = p.destination_id',
        account_id: 'p.account_id',
        hold_id: 'p.hold_id',
        bank_reference: 'p.bank_reference',
        created_at: 'p.created_at',
        ended_at: 'p.state_changed_at',
      },
    },
  ],
});
