import { column } from '../column.ts';
import { defineSource } from '../source.ts';

/** Corrections of invoices. */
export const creditNotes = defineSource({
  name: 'credit_notes',
  scope: 'billing:read',
  description:
    'One row for each credit note: what was given back of a final invoice, and why. Credit notes never change. All of an ' +
    'invoice’s together give back no more than was charged for it.',
  timeColumn: 'created_at',
  orderedBy: 'credit_note_id',
  columns: [
    column('credit_note_id', 'uuid', 'The credit note.'),
    column('tenant_id', 'uuid', 'The tenant that gets the money back.'),
    column('number', 'text', 'Number of the credit note; there are no gaps within a year.'),
    column('invoice_id', 'uuid', 'The invoice that it corrects.'),
    column('invoice_number', 'text', 'Number of that invoice.'),
    column('currency', 'text', 'What the amount is in.'),
    column('amount_nano', 'bigint', 'What is given back; positive.', 'nano-units of the currency'),
    column('reason', 'text', 'Why, in the operator’s words.'),
    column('created_at', 'timestamp', 'When it was made.'),
  ],
  parts: [
    {
      from: 'credit_note c',
      id: 'c.id',
      line: '0::integer',
      time: 'c.created_at',
      tenant: 'c.tenant_id',
      cells: {
        credit_note_id: 'c.id',
        tenant_id: 'c.tenant_id',
        number: 'c.number',
        invoice_id: 'c.invoice_id',
        invoice_number: 'SELECT i.number FROM invoice i WHERE i.id = c.invoice_id',
        currency: 'c.currency',
        amount_nano: 'c.amount_nano',
        reason: 'c.reason',
        created_at: 'c.created_at',
      },
    },
  ],
});
