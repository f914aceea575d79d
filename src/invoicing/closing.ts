import type { PoolClient } from 'pg';
import type { Actor } from '../auth/principal.ts';
import type { Tx } from '../db/client.ts';
import { SQLSTATE, sqlState } from '../db/errors.ts';
import { PLATFORM_TENANT_ID } from '../db/platform.ts';
import { PatchbayError } from '../kernel/errors.ts';
import { newId, type Uuid } from '../kernel/ids.ts';
import { type Period, parsePeriod } from '../kernel/period.ts';
import type { RequestContext } from '../tenant/audit.ts';
import { sums } from './adjustments.ts';
import { documentText, hashOf, type InvoiceDocument } from './document.ts';
import { readDocument, readNames } from './facts.ts';
import { adjustmentKey } from './keys.ts';
import { minimumCharge } from './open-charge.ts';
import { type Done, type InvoicingDeps, operate, requireOperatorOf } from './operation.ts';
import { billingAccounts, lockAvailable, postMovements } from './posting.ts';
import { nextRevision, readPrepaid } from './prepaid.ts';
import { readInvoice } from './reader.ts';
import type { Invoice } from './rows.ts';

/** How long after its end a period stays open: processes' clocks differ, and what ends at midnight is written after it. */
export const CLOSE_GRACE_MS = 60_000;

/** Which period to close. */
export interface ClosePeriodInput {
  readonly idempotencyKey: string;
  readonly tenantId: Uuid;
  /** Such as `2028-02`. */
  readonly period: string;
}

/** What a period comes to, read before it is closed. */
interface Reading {
  readonly document: InvoiceDocument;
  readonly names: Readonly<Record<string, string>>;
  readonly customerName: string;
  readonly prepaidNano: bigint;
}

/** What bills say besides what they are about. */
export interface InvoiceOptions {
  /** Who writes them, in lines; null to say nothing. */
  readonly issuer: string | null;
}

/** Closes periods: what a tenant's requests of a month cost becomes a draft, and its adjustments are posted. */
export class PeriodCloser {
  readonly #options: InvoiceOptions;
  readonly #deps: InvoicingDeps;

  constructor(options: InvoiceOptions, dependencies: InvoicingDeps) {
    this.#options = options;
    this.#deps = dependencies;
  }

  /** Closes a period of a tenant, once. For operators. */
  async close(actor: Actor, input: ClosePeriodInput, context: RequestContext = {}): Promise<Invoice> {
    const { tenantId, period: label, idempotencyKey } = input;
    const operation = {
      actor,
      context,
      name: 'closePeriod',
      action: 'period.close',
      targetType: 'tenant',
      targetId: tenantId,
      idempotencyKey,
      args: { tenantId, period: label },
    };
    await requireOperatorOf(this.#deps, operation);
    const period = parsePeriod(label);
    requireOver(period, this.#deps.clock.nowMs());
    const reading = await this.#read(tenantId, period);
    const work = (tx: Tx): Promise<Done> => this.#write(tx, tenantId, period, reading);
    try {
      return await operate(this.#deps, operation, work, readInvoice);
    } catch (error) {
      const state = sqlState(error);
      if (state === SQLSTATE.checkViolation) {
        throw new PatchbayError('TERMS_CONFLICT', 'Terms of the period were set while it was being closed.', {
          field: 'period',
          fix: 'Close it again.',
          cause: error,
        });
      }
      if (state !== SQLSTATE.uniqueViolation) throw error;
      throw new PatchbayError('INVOICE_STATE', `The period ${label} is closed already.`, {
        field: 'period',
        fix: 'Read the invoice of the period.',
        cause: error,
      });
    }
  }

  /**
   * Reads the period in a snapshot in which nothing of it is unsettled and everything agrees. A request that is admitted later ends later too,
   * so no charge can be added to the period afterwards, and the sums need not be made while anything is locked.
   */
  #read(tenantId: Uuid, period: Period): Promise<Reading> {
    return this.#deps.database.withSystemPg(async (client) => {
      await client.query('SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY');
      await client.query('SET LOCAL statement_timeout = 0');
      const customerName = await readCustomer(client, tenantId, period);
      // Requests end by the database's clock, so it is the database that must agree that the period is over.
      const { rows } = await client.query<{
        readonly unsettled: number;
        readonly over: boolean;
        readonly closed: boolean;
      }>(
        `SELECT (SELECT count(*)::integer FROM inference_request WHERE tenant_id = $1 AND admitted_at < $2) AS unsettled,
                now() >= $2 AS over,
                EXISTS (SELECT FROM invoice WHERE tenant_id = $1 AND period_end = $2) AS closed`,
        [tenantId, period.end.toISOString()],
      );
      const { unsettled = 0, over = false, closed = false } = rows[0] ?? {};
      if (!over) throw notOver(period);
      if (unsettled > 0) {
        throw new PatchbayError('PERIOD_OPEN', `The period ${period.label} has unsettled requests.`, {
          field: 'period',
          fix: 'Wait until they have ended; those of a lost server are settled when its lease has run out.',
          meta: { unsettled },
        });
      }
      // Of a period that is closed this is answered by the invoice, as it was then.
      if (!closed) {
        const scope = { from: period.start, to: period.end, tenantId };
        await this.#deps.books.requireAgreed(scope, 'period', client);
      }
      const document = await readDocument(client, tenantId, period);
      const prepaidNano = await readPrepaid(client, document);
      return { document, customerName, prepaidNano, names: await readNames(client, document) };
    });
  }

  async #write(tx: Tx, tenantId: Uuid, period: Period, reading: Reading): Promise<Done> {
    const { clock } = this.#deps;
    const { document, names, customerName, prepaidNano } = reading;
    const { currency, chargesNano, totalNano, adjustments } = document;
    const { reductionNano, minimumNano } = sums(adjustments);
    const id = newId(clock);
    const createdAt = new Date(clock.nowMs());
    const content = documentText(document);
    const bill = { periodStart: period.start, revision: await nextRevision(tx, tenantId, period) };
    // First: it fails when the period is closed, before anything is posted.
    await tx.invoice.create({
      data: {
        id,
        tenantId,
        ...bill,
        ...this.#options,
        periodEnd: period.end,
        currency,
        customerName,
        names,
        content,
        contentSha256: hashOf(content),
        chargesNano: String(chargesNano),
        reductionNano: String(reductionNano),
        minimumNano: String(minimumNano),
        totalNano: String(totalNano),
        prepaidNano: String(prepaidNano),
        createdAt,
      },
    });
    const accounts = await billingAccounts(tx, clock, tenantId, currency);
    const available = (await lockAvailable(tx, accounts)) + reductionNano;
    const minimum = minimumCharge({
      id,
      tenantId,
      currency,
      ...bill,
      amountNano: minimumNano,
    });
    const fits = minimumNano <= available;
    await postMovements(tx, clock, accounts, [
      {
        ...minimum,
        direction: 'CREDIT',
        amountNano: reductionNano,
        key: adjustmentKey('reductions', bill),
      },
      ...(fits ? [minimum] : []),
    ]);
    if (!fits) {
      const data = { invoiceId: id, tenantId, currency, amountNano: minimumNano, createdAt };
      await tx.invoiceOpenCharge.create({ data });
    }
    const after = {
      period: period.label,
      state: 'DRAFT',
      totalNano: String(totalNano),
      openNano: String(fits ? 0n : minimumNano),
    };
    return { id, tenantId, targetType: 'invoice', after };
  }
}

/** The tenant's name. A month in which it was no customer is none to bill: a minimum charge would be due for it. */
async function readCustomer(client: PoolClient, tenantId: Uuid, period: Period): Promise<string> {
  const { rows } = await client.query<{
    readonly name: string;
    readonly created_at: Date;
    readonly closed_at: Date | null;
    readonly billable: boolean;
  }>(
    `SELECT name, created_at, closed_at, patchbay.is_billable(id, $3) AS billable
     FROM tenant WHERE id = $1 AND id <> $2`,
    [tenantId, PLATFORM_TENANT_ID, period.start.toISOString()],
  );
  const [tenant] = rows;
  if (tenant === undefined) {
    throw new PatchbayError('NOT_FOUND', 'There is no such tenant.', { field: 'tenant' });
  }
  if (tenant.billable) return tenant.name;
  const { created_at: createdAt, closed_at: closedAt } = tenant;
  const isLate = createdAt >= period.end;
  throw new PatchbayError(
    'BAD_INPUT',
    isLate
      ? `The tenant was created after ${period.label}.`
      : `The tenant was closed before ${period.label}.`,
    {
      field: 'period',
      meta: isLate
        ? { createdAt: createdAt.toISOString() }
        : { closedAt: closedAt === null ? null : closedAt.toISOString() },
    },
  );
}

/** Throws PERIOD_OPEN until a little after the end of the period. */
export function requireOver(period: Period, nowMs: number): void {
  if (nowMs < period.end.getTime() + CLOSE_GRACE_MS) throw notOver(period);
}

function notOver(period: Period): PatchbayError {
  const from = new Date(period.end.getTime() + CLOSE_GRACE_MS).toISOString();
  return new PatchbayError('PERIOD_OPEN', `The period ${period.label} can be closed from ${from} on.`, {
    field: 'period',
    fix: 'Wait until then.',
    meta: { closableFrom: from },
  });
}
