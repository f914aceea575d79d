import type { Actor } from '../auth/principal.ts';
import type { Tx } from '../db/client.ts';
import { PatchbayError } from '../kernel/errors.ts';
import { newId, type Uuid } from '../kernel/ids.ts';
import { budgetExceeded } from '../ledger/errors.ts';
import type { RequestContext } from '../tenant/audit.ts';
import { sums } from './adjustments.ts';
import { voidKey } from './keys.ts';
import { collectOpenCharge } from './open-charge.ts';
import { type Done, type InvoicingDeps, type Operation, operate, requireOperatorOf } from './operation.ts';
import { bringPayment, payIfNothingIsDue, settleIfNothingIsDue } from './payment.ts';
import { billingAccounts, lockAvailable, postMovements } from './posting.ts';
import { lockInvoice, readInvoice } from './reader.ts';
import { type CreditNote, type Invoice, type InvoiceState, toCreditNote } from './rows.ts';
import { recordStep } from './steps.ts';
import { TERMS_LIMITS } from './terms.ts';

/** An invoice to do something to. */
export interface InvoiceInput {
  readonly idempotencyKey: string;
  readonly invoiceId: Uuid;
}

/** An invoice that was paid. */
export interface MarkPaidInput extends InvoiceInput {
  /** How, in the operator's words; null to say nothing. */
  readonly reference: string | null;
  /** The top-up that brought what is due already; null to have the payment posted now. */
  readonly topUpId: Uuid | null;
}

/** A correction. */
export interface CreateCreditNoteInput extends InvoiceInput {
  readonly amountNano: bigint;
  readonly reason: string;
}

/** What became of open charges. */
export interface Collection {
  readonly posted: number;
  /** Those that wait on, and are tried again. */
  readonly failed: readonly { readonly invoiceId: Uuid; readonly error: unknown }[];
}

/** Open charges that fit as of now. Whoever posts one looks again, with the balance locked. */
const FITTING_CHARGES = `
SELECT o.invoice_id
FROM invoice_open_charge o
JOIN ledger_account a ON a.tenant_id = o.tenant_id AND a.kind = 'CUSTOMER' AND a.asset = o.currency
JOIN ledger_balance b ON b.account_id = a.id
WHERE b.credit_limit + b.posted - b.held >= o.amount_nano
ORDER BY o.invoice_id`;

const REFERENCE_CHARS_MAX = 200;
const REASON_CHARS_MAX = 1_000;

/** What becomes of drafts: DRAFT → FINALISED → PAID or VOID, and credit notes. All of it for operators. */
export class InvoiceService {
  readonly #deps: InvoicingDeps;

  constructor(dependencies: InvoicingDeps) {
    this.#deps = dependencies;
  }

  /**
   * Gives a draft its number, if the books of its period agree. From then on it never changes. One on which nothing is due
   * is paid with that.
   */
  async finalise(actor: Actor, input: InvoiceInput, context: RequestContext = {}): Promise<Invoice> {
    const operation = operationOf(actor, context, input, 'finaliseInvoice', 'invoice.finalise', {});
    await requireOperatorOf(this.#deps, operation);
    await requireDraftAgrees(this.#deps, input.invoiceId);
    return this.#change(operation, input.invoiceId, ['DRAFT'], async (tx, now) => {
      await tx.invoice.update({
        where: { id: input.invoiceId },
        data: { state: 'FINALISED', finalisedAt: now },
      });
      await payIfNothingIsDue(tx, input.invoiceId, now);
      return {};
    });
  }

  /**
   * Records that a final invoice is paid, and brings what is due on it to the customer's balance in the same transaction,
   * once. A minimum charge that was open is posted with it, or it is not paid.
   */
  async markPaid(actor: Actor, input: MarkPaidInput, context: RequestContext = {}): Promise<Invoice> {
    const { invoiceId, reference, topUpId } = input;
    const args = { reference, topUpId };
    const operation = operationOf(actor, context, input, 'markInvoicePaid', 'invoice.markPaid', args);
    requireText(reference ?? ' ', REFERENCE_CHARS_MAX, 'reference');
    return this.#change(operation, invoiceId, ['FINALISED'], async (tx, now, invoice) => {
      const paymentTransferId = await bringPayment(tx, this.#deps, invoice, topUpId);
      await collectOpenCharge(tx, this.#deps, invoiceId);
      await tx.invoice.update({
        where: { id: invoiceId },
        data: { state: 'PAID', paidAt: now, paymentReference: reference, paymentTransferId },
      });
      return { paymentReference: reference, paymentTransferId, paidNano: String(invoice.dueNano) };
    });
  }

  /**
   * Takes a final invoice back, so that its month can be billed anew: all that it has posted is undone, its credit notes
   * with it, and the charges of the month are what they were before it was closed. One that a customer has paid stays.
   */
  async void(actor: Actor, input: InvoiceInput, context: RequestContext = {}): Promise<Invoice> {
    const { invoiceId } = input;
    const operation = operationOf(actor, context, input, 'voidInvoice', 'invoice.void', {});
    return this.#change(operation, invoiceId, ['FINALISED', 'PAID'], async (tx, now, invoice) => {
      const { clock } = this.#deps;
      const { tenantId } = invoice;
      const { currency } = invoice.document;
      if (invoice.paymentTransferId !== null) {
        throw new PatchbayError('INVOICE_STATE', 'The customer has paid the invoice.', {
          field: 'invoice',
          fix: 'Correct it by a credit note.',
          meta: { state: invoice.state },
        });
      }
      const givenNano = givenBy(invoice);
      const accounts = await billingAccounts(tx, clock, tenantId, currency);
      const available = await lockAvailable(tx, accounts);
      if (givenNano > available) throw budgetExceeded(givenNano, available, { invoiceId });
      await postMovements(tx, clock, accounts, [
        {
          ...{
            tenantId,
            currency,
            key: voidKey(invoiceId),
            referenceType: 'invoice',
            referenceId: invoiceId,
          },
          direction: givenNano > 0n ? 'DEBIT' : 'CREDIT',
          amountNano: givenNano > 0n ? givenNano : -givenNano,
        },
      ]);
      await tx.invoiceOpenCharge.deleteMany({ where: { invoiceId } });
      await tx.invoice.update({ where: { id: invoiceId }, data: { state: 'VOID', voidedAt: now } });
      return { takenBackNano: String(givenNano) };
    });
  }

  /** Gives back a part of what was charged for a final invoice, or all of it. */
  async credit(
    actor: Actor,
    input: CreateCreditNoteInput,
    context: RequestContext = {},
  ): Promise<CreditNote> {
    const { invoiceId, amountNano, reason } = input;
    const { clock } = this.#deps;
    const args = { amountNano: String(amountNano), reason };
    const operation = operationOf(actor, context, input, 'createCreditNote', 'creditNote.create', args);
    await requireOperatorOf(this.#deps, operation);
    requireText(reason, REASON_CHARS_MAX, 'reason');
    if (amountNano < 1n || amountNano > TERMS_LIMITS.amountMax) {
      throw new PatchbayError('BAD_INPUT', `The amount must be 1 to ${TERMS_LIMITS.amountMax}.`, {
        field: 'amount',
      });
    }
    const work = async (tx: Tx): Promise<Done> => {
      const invoice = await lockInvoice(tx, invoiceId);
      requireState(invoice, ['FINALISED', 'PAID']);
      requireCreditable(invoice, amountNano);
      const { tenantId } = invoice;
      const { currency } = invoice.document;
      const id = newId(clock);
      const accounts = await billingAccounts(tx, clock, tenantId, currency);
      await postMovements(tx, clock, accounts, [
        {
          tenantId,
          currency,
          direction: 'CREDIT',
          amountNano,
          key: `credit_note:${id}`,
          referenceType: 'credit_note',
          referenceId: id,
        },
      ]);
      // Last, because its trigger locks the row that counts all credit notes. It sets the number.
      await tx.$executeRaw`
        INSERT INTO credit_note (id, tenant_id, invoice_id, currency, amount_nano, reason, created_at)
        VALUES (${id}::uuid, ${tenantId}::uuid, ${invoiceId}::uuid, ${currency}, ${String(amountNano)}::bigint,
                ${reason}, ${new Date(clock.nowMs())}::timestamptz)`;
      await settleIfNothingIsDue(tx, this.#deps, invoice);
      const { number } = await tx.creditNote.findUniqueOrThrow({ where: { id } });
      const after = { number, invoiceId, ...args };
      return { id, tenantId, targetType: 'creditNote', after };
    };
    return operate(this.#deps, operation, work, async (tx, id) =>
      toCreditNote(await tx.creditNote.findUniqueOrThrow({ where: { id } })),
    );
  }

  /** Posts the open charges that fit by now, each in a transaction of its own. One that fails stops no other. */
  async collectOpenCharges(): Promise<Collection> {
    const { database } = this.#deps;
    const open = await database.querySystem<{ readonly invoice_id: Uuid }>(FITTING_CHARGES, []);
    const failed: { readonly invoiceId: Uuid; readonly error: unknown }[] = [];
    let posted = 0;
    for (const { invoice_id: invoiceId } of open) {
      try {
        if (await database.withSystem((tx) => this.#collect(tx, invoiceId))) posted += 1;
      } catch (error) {
        // Somebody has taken what there was; it comes with a later look.
        if (error instanceof PatchbayError && error.code === 'BUDGET_EXCEEDED') continue;
        failed.push({ invoiceId, error });
      }
    }
    return { posted, failed };
  }

  /** Whether there was something to post. */
  async #collect(tx: Tx, invoiceId: Uuid): Promise<boolean> {
    const { clock } = this.#deps;
    const invoice = await lockInvoice(tx, invoiceId);
    const { openNano } = invoice;
    if (openNano === 0n) return false;
    await collectOpenCharge(tx, this.#deps, invoiceId);
    const states = { before: { openNano: String(openNano) }, after: { openNano: '0' } };
    await recordStep(tx, clock, invoice, 'collected', states);
    await settleIfNothingIsDue(tx, this.#deps, invoice);
    return true;
  }

  /** Changes an invoice that stands where it has to, and answers it as it then is. */
  async #change(
    operation: Operation,
    invoiceId: Uuid,
    from: readonly InvoiceState[],
    apply: (tx: Tx, now: Date, invoice: Invoice) => Promise<Done['after']>,
  ): Promise<Invoice> {
    await requireOperatorOf(this.#deps, operation);
    const work = async (tx: Tx): Promise<Done> => {
      const invoice = await lockInvoice(tx, invoiceId);
      requireState(invoice, from);
      const more = await apply(tx, new Date(this.#deps.clock.nowMs()), invoice);
      const { state, number } = await readInvoice(tx, invoiceId);
      return {
        id: invoiceId,
        tenantId: invoice.tenantId,
        targetType: 'invoice',
        before: { state: invoice.state },
        after: { state, number, ...more },
      };
    };
    return operate(this.#deps, operation, work, readInvoice);
  }
}

/** Throws RECONCILIATION_FAILED when a draft's period does not agree, the draft with it. Of others nothing is asked. */
async function requireDraftAgrees({ database, books }: InvoicingDeps, invoiceId: Uuid): Promise<void> {
  const [draft] = await database.querySystem<{
    readonly tenant_id: Uuid;
    readonly period_start: Date;
    readonly period_end: Date;
  }>(`SELECT tenant_id, period_start, period_end FROM invoice WHERE id = $1 AND state = 'DRAFT'`, [
    invoiceId,
  ]);
  if (draft === undefined) return;
  const scope = { from: draft.period_start, to: draft.period_end, tenantId: draft.tenant_id };
  await books.requireAgreed(scope, 'invoice');
}

function operationOf(
  actor: Actor,
  context: RequestContext,
  { idempotencyKey, invoiceId }: InvoiceInput,
  name: string,
  action: string,
  args: { readonly [name: string]: string | null },
): Operation {
  return {
    actor,
    context,
    name,
    action,
    targetType: 'invoice',
    targetId: invoiceId,
    idempotencyKey,
    args: { invoiceId, ...args },
  };
}

/** What credit notes can still give back: what was charged for the period and not given back yet. */
function leftToCredit({ document, openNano, creditNotes }: Invoice): bigint {
  return creditNotes.reduce((left, { amountNano }) => left - amountNano, document.totalNano - openNano);
}

/** What a bill has given the customer so far, less what it has charged besides the usage. */
function givenBy({ document, openNano, creditNotes }: Invoice): bigint {
  const { reductionNano, minimumNano } = sums(document.adjustments);
  const credited = creditNotes.reduce((sum, { amountNano }) => sum + amountNano, 0n);
  return reductionNano + credited - (minimumNano - openNano);
}

function requireCreditable(invoice: Invoice, amountNano: bigint): void {
  const left = leftToCredit(invoice);
  if (amountNano <= left) return;
  throw new PatchbayError('CREDIT_EXCEEDED', 'Credit notes cannot give back more than was charged.', {
    field: 'amount',
    meta: { left: String(left) },
  });
}

function requireState({ state }: Invoice, wanted: readonly InvoiceState[]): void {
  if (wanted.includes(state)) return;
  throw new PatchbayError(
    'INVOICE_STATE',
    `The invoice is ${state}; this needs one that is ${wanted.join(' or ')}.`,
    { field: 'invoice', meta: { state } },
  );
}

function requireText(text: string, charsMax: number, field: string): void {
  if (text.length >= 1 && [...text].length <= charsMax && !text.includes('\0')) return;
  throw new PatchbayError('BAD_INPUT', `The text must have 1 to ${charsMax} characters.`, { field });
}
