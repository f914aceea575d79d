import { column, nullable } from '../column.ts';
import { defineSource, RANGE_END } from '../source.ts';

const NANO = 'nano-units of the currency';

/** The entries of an invoice's document, in its order: the whole, its lines, its adjustments. */
const ENTRIES = `CROSS JOIN LATERAL (SELECT i.content::jsonb AS whole OFFSET 0) d
CROSS JOIN LATERAL (
  SELECT 0 AS line, 'invoice' AS record, NULL::jsonb AS entry
  UNION ALL
  SELECT l.place::integer, 'line', l.entry
  FROM jsonb_array_elements(d.whole -> 'lines') WITH ORDINALITY AS l(entry, place)
  UNION ALL
  SELECT jsonb_array_length(d.whole -> 'lines') + a.place::integer, 'adjustment', a.entry
  FROM jsonb_array_elements(d.whole -> 'adjustments') WITH ORDINALITY AS a(entry, place)
) e`;

/** Whether something has happened to an invoice before the range ended. */
const happened = (time: string): string => `i.${time} < ${RANGE_END}`;

/** Final invoices, by line. */
export const invoices = defineSource({
  name: 'invoices',
  scope: 'billing:read',
  description:
    'One row for each final invoice (`record` is `invoice`, `line` is 0), one for each of its lines (`line`), and one ' +
    'for each adjustment by the terms of its period (`adjustment`): allowance, tiers, minimum. The sum of ' +
    '`amount_nano` over the rows of an invoice is its `total_nano`. An invoice is in the range in which it was finalised, and what ' +
    'it says never changes; drafts are in none. What can still change is whether it was paid or voided: `state`, ' +
    '`paid_at`, `voided_at` and `payment_reference` say what was so at the end of the range (`until`), so that the ' +
    'same range always gives the same bytes. Who wants to know how older invoices stand exports a range that begins ' +
    'as early and ends later. Corrections are `credit_notes`.',
  timeColumn: 'finalised_at',
  orderedBy: 'invoice_id, line',
  columns: [
    column('invoice_id', 'uuid', 'The invoice.'),
    column('line', 'integer', 'Number of the row within the invoice, from 1; 0 for the invoice itself.'),
    column('record', 'text', '`invoice`, `line` or `adjustment`.'),
    column('tenant_id', 'uuid', 'The tenant that is billed.'),
    column('customer_name', 'text', 'The name of the tenant when the period was closed.'),
    column('number', 'text', 'Number of the invoice; there are no gaps within a year.'),
    column('state', 'text', '`FINALISED`, `PAID` or `VOID`, as at the end of the range.'),
    column('period_start', 'timestamp', 'Beginning of the billed month, in UTC.'),
    column('period_end', 'timestamp', 'Its end, exclusive.'),
    column('finalised_at', 'timestamp', 'When the invoice became final and got its number.'),
    nullable('paid_at', 'timestamp', 'When it was paid, if that was before the end of the range.'),
    nullable('voided_at', 'timestamp', 'When it was voided, likewise.'),
    nullable('payment_reference', 'text', 'How it was paid, in the operator’s words; likewise.'),
    column('currency', 'text', 'What the amounts are in.'),
    column('charges_nano', 'decimal', 'Sum of the invoice’s lines; the same in all of its rows.', NANO),
    column('total_nano', 'decimal', 'What the invoice comes to; the same in all of its rows.', NANO),
    nullable(
      'amount_nano',
      'decimal',
      'What the row adds to the total; reductions are negative. Null for the invoice itself.',
      NANO,
    ),
    nullable('adapter_id', 'uuid', 'Of a line: the adapter; null for the plain backbone.'),
    nullable('adapter_version_id', 'uuid', 'Of a line: its version; null for the plain backbone.'),
    nullable('adapter_name', 'text', 'Of a line: how the version was called when the period was closed.'),
    nullable('backbone_digest', 'hex', 'Of a line: SHA-256 that names the backbone.'),
    nullable('backbone_name', 'text', 'Of a line: how the backbone was called when the period was closed.'),
    nullable('priority_class', 'text', 'Of a line: `INTERACTIVE`, `STANDARD` or `BATCH`.'),
    nullable('price_version_id', 'uuid', 'Of a line: the version of the price.'),
    nullable(
      'royalty_version_id',
      'uuid',
      'Of a line: the version of the royalty; null when there was none.',
    ),
    nullable(
      'requests',
      'bigint',
      'Of a line: requests; a blend counts in the line of each of its adapters.',
      'requests',
    ),
    nullable('input_tokens', 'bigint', 'Of a line: prompt tokens that were computed.', 'tokens'),
    nullable('cached_tokens', 'bigint', 'Of a line: prompt tokens that were not.', 'tokens'),
    nullable('output_tokens', 'bigint', 'Of a line: generated tokens.', 'tokens'),
    nullable('input_nano', 'decimal', 'Of a line: for input tokens.', NANO),
    nullable('cached_nano', 'decimal', 'Of a line: for cached tokens.', NANO),
    nullable('output_nano', 'decimal', 'Of a line: for output tokens.', NANO),
    nullable('rank_nano', 'decimal', 'Of a line: for the rank of the adapter.', NANO),
    nullable('royalty_nano', 'decimal', 'Of a line: royalty, the platform’s fee on it included.', NANO),
    nullable('adjustment_kind', 'text', 'Of an adjustment: `ALLOWANCE`, `TIER` or `MINIMUM`.'),
    nullable('tier_from_nano', 'decimal', 'Of a tier: from which amount of charges on it holds.', NANO),
    nullable('tier_discount_ppm', 'decimal', 'Of a tier: its discount.', 'parts per million'),
    nullable('tier_basis_nano', 'decimal', 'Of a tier: the charges that the discount is given on.', NANO),
    column('content_sha256', 'hex', 'SHA-256 of the invoice’s document, which never changes.'),
  ],
  parts: [
    {
      from: `invoice i ${ENTRIES}`,
      id: 'i.id',
      line: 'e.line',
      time: 'i.finalised_at',
      tenant: 'i.tenant_id',
      cells: {
        invoice_id: 'i.id',
        line: 'e.line',
        record: 'e.record',
        tenant_id: 'i.tenant_id',
        customer_name: 'i.customer_name',
        number: 'i.number',
        state: `CASE WHEN ${happened('paid_at')} THEN 'PAID' WHEN ${happened('voided_at')} THEN 'VOID' ELSE 'FINALISED' END`,
        period_start: 'i.period_start',
        period_end: 'i.period_end',
        finalised_at: 'i.finalised_at',
        paid_at: `CASE WHEN ${happened('paid_at')} THEN i.paid_at END`,
        voided_at: `CASE WHEN ${happened('voided_at')} THEN i.voided_at END`,
        payment_reference: `CASE WHEN ${happened('paid_at')} THEN i.payment_reference END`,
        currency: 'i.currency',
        charges_nano: 'i.charges_nano',
        total_nano: 'i.total_nano',
        amount_nano: `coalesce(e.entry ->> 'totalNano', e.entry ->> 'amountNano')`,
        adapter_id: `e.entry ->> 'adapterId'`,
        adapter_version_id: `e.entry ->> 'adapterVersionId'`,
        adapter_name: `i.names ->> (e.entry ->> 'adapterVersionId')`,
        backbone_digest: `decode(e.entry ->> 'backboneDigest', 'hex')`,
        backbone_name: `i.names ->> (e.entry ->> 'backboneDigest')`,
        priority_class: `e.entry ->> 'priority'`,
        price_version_id: `e.entry ->> 'priceVersionId'`,
        royalty_version_id: `e.entry ->> 'royaltyVersionId'`,
        requests: `e.entry ->> 'requests'`,
        input_tokens: `e.entry ->> 'inputTokens'`,
        cached_tokens: `e.entry ->> 'cachedTokens'`,
        output_tokens: `e.entry ->> 'outputTokens'`,
        input_nano: `e.entry ->> 'inputNano'`,
        cached_nano: `e.entry ->> 'cachedNano'`,
        output_nano: `e.entry ->> 'outputNano'`,
        rank_nano: `e.entry ->> 'rankNano'`,
        royalty_nano: `e.entry ->> 'royaltyNano'`,
        adjustment_kind: `e.entry ->> 'kind'`,
        tier_from_nano: `e.entry ->> 'fromNano'`,
        tier_discount_ppm: `e.entry ->> 'discountPpm'`,
        tier_basis_nano: `e.entry ->> 'basisNano'`,
        content_sha256: 'i.content_sha256',
      },
    },
  ],
});
