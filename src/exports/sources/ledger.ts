import { column, nullable } from '../column.ts';
import { defineSource } from '../source.ts';

const NANO = 'nano-units of the asset';

/** Transfers and postings. */
export const ledger = defineSource({
  name: 'ledger',
  scope: 'billing:read',
  description:
    'One row for each transfer that was made on behalf of the tenant (`record` is `transfer`, `line` is 0), and one for ' +
    'each posting on an account of the tenant (`record` is `posting`). A posting on the account of a beneficiary is there ' +
    'without its transfer, which belongs to the payer. The sum of `amount_nano` over all postings of an account is ' +
    'its balance.',
  timeColumn: 'created_at',
  orderedBy: 'transfer_id, line',
  columns: [
    column('transfer_id', 'uuid', 'The transfer.'),
    column(
      'line',
      'integer',
      'Number of the posting within the transfer, from 1; 0 for the transfer itself.',
    ),
    column('record', 'text', '`transfer` or `posting`.'),
    column(
      'tenant_id',
      'uuid',
      'Of a transfer: on whose behalf it is made. Of a posting: whose account it is on.',
    ),
    nullable('kind', 'text', 'Of a transfer: `SINGLE`, `PENDING`, `POST`, `VOID` or `EXPIRE`.'),
    column('asset', 'text', 'What the amounts are in.'),
    nullable(
      'account_id',
      'uuid',
      'Of a posting: its account. Of a transfer that holds or resolves: the account that is held. Null for a single transfer.',
    ),
    nullable(
      'account_kind',
      'text',
      'Of a posting: what its account is for, such as `CUSTOMER` or `EARNINGS`.',
    ),
    nullable(
      'amount_nano',
      'bigint',
      'Of a posting: what it adds to the account; negative takes away.',
      NANO,
    ),
    nullable(
      'moved_nano',
      'bigint',
      'Of a transfer: the sum of its positive postings, whoever’s they are.',
      NANO,
    ),
    nullable('held_nano', 'bigint', 'Of a transfer: what it holds, or held until it was resolved.', NANO),
    nullable('pending_id', 'uuid', 'Of a transfer that resolves: the pending transfer.'),
    nullable('business_key', 'text', 'Of a transfer that starts something: what makes it unique.'),
    nullable('reference_type', 'text', 'Of a transfer: what it is about, such as `inference`.'),
    nullable('reference_id', 'uuid', 'Of a transfer: which, such as the request.'),
    nullable(
      'subject_id',
      'uuid',
      'Of a posting: what it is for, such as the adapter version that earned it.',
    ),
    nullable('expires_at', 'timestamp', 'Of a pending transfer: when anybody may release it.'),
    column('created_at', 'timestamp', 'When it was made.'),
  ],
  parts: [
    {
      from: 'ledger_transfer t',
      id: 't.id',
      line: '0::integer',
      time: 't.created_at',
      tenant: 't.tenant_id',
      cells: {
        transfer_id: 't.id',
        line: '0',
        record: `'transfer'`,
        tenant_id: 't.tenant_id',
        kind: 't.kind',
        asset: 't.asset',
        account_id: 't.account_id',
        account_kind: 'NULL',
        amount_nano: 'NULL',
        moved_nano: 't.amount',
        held_nano: 't.held',
        pending_id: 't.pending_id',
        business_key: 't.business_key',
        reference_type: 't.reference_type',
        reference_id: 't.reference_id',
        subject_id: 'NULL',
        expires_at: 't.expires_at',
        created_at: 't.created_at',
      },
    },
    {
      from: 'ledger_posting p',
      id: 'p.transfer_id',
      line: 'p.line::integer',
      time: 'p.created_at',
      tenant: 'p.tenant_id',
      through: { from: 'ledger_account a', on: 'p.account_id = a.id', tenant: 'a.tenant_id' },
      cells: {
        transfer_id: 'p.transfer_id',
        line: 'p.line',
        record: `'posting'`,
        tenant_id: 'p.tenant_id',
        kind: 'NULL',
        asset: 'a.asset',
        account_id: 'p.account_id',
        account_kind: 'a.kind',
        amount_nano: 'p.amount',
        moved_nano: 'NULL',
        held_nano: 'NULL',
        pending_id: 'NULL',
        business_key: 'NULL',
        reference_type: 'NULL',
        reference_id: 'NULL',
        subject_id: 'p.subject_id',
        expires_at: 'NULL::timestamptz',
        created_at: 'p.created_at',
      },
    },
  ],
});
