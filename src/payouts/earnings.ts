import { z } from 'zod';
import { type Actor, reaches, requireScope } from '../auth/principal.ts';
import { PatchbayError } from '../kernel/errors.ts';
import type { Uuid } from '../kernel/ids.ts';
import { parsePeriod } from '../kernel/period.ts';
import { leastPayable, payableNow } from './draft.ts';
import { type PayoutRail, RAIL_KINDS } from './rail.ts';
import type {
  EarningsBalance,
  EarningsStatement,
  PayoutDeps,
  PayoutOptions,
  StatementLine,
} from './types.ts';

const amount = z.string().transform(BigInt);
const balanceRows = z.array(
  z.object({
    asset: z.string(),
    posted: amount,
    held: amount,
    maturing: amount,
    payable: amount,
    kind: z.enum(RAIL_KINDS).nullable(),
  }),
);
const statementRows = z.array(
  z.object({
    kind: z.enum(['OPENING', 'EARNED', 'CORRECTION', 'PAID', 'RETURNED']),
    subject_id: z.string().nullable(),
    amount,
    postings: z.string().transform(Number),
  }),
);
type StatementRow = z.infer<typeof statementRows>[number];

/** What beneficiaries have earned: balances and statements, read off the ledger. */
export class EarningsService {
  readonly #options: PayoutOptions;
  readonly #deps: PayoutDeps;

  constructor(options: PayoutOptions, dependencies: PayoutDeps) {
    this.#options = options;
    this.#deps = dependencies;
  }

  /** A beneficiary's earnings by currency; of the actor's own tenant when none is named. */
  async balances(actor: Actor, tenantId: Uuid | null): Promise<readonly EarningsBalance[]> {
    const id = tenantOf(actor, tenantId);
    const { clock, database, rails } = this.#deps;
    const now = new Date(clock.nowMs());
    const before = new Date(now.getTime() - this.#options.holdbackMs);
    const rows = balanceRows.parse(
      await database.withTenant(
        id,
        (tx) => tx.$queryRaw`
          SELECT asset, posted::text, held::text, maturing::text, payable::text, (
            SELECT d.kind FROM payout_destination d WHERE d.effective_from <= ${now}::timestamptz
            ORDER BY d.effective_from DESC, d.id DESC LIMIT 1) AS kind
          FROM patchbay.own_earnings_payable(${before}::timestamptz) ORDER BY asset`,
      ),
    );
    return Promise.all(
      rows.map(async ({ asset: currency, posted, held, maturing, payable: past, kind }) => {
        // By the rail that would pay it; a bank, where nothing says more.
        const rail = rails[kind ?? 'FILE'] ?? rails.FILE;
        const unit = rail.unitNano(currency);
        const least = await leastOf(rail, currency);
        const payable =
          least === null ? 0n : payableNow(past, leastPayable(this.#options, unit, least), unit);
        return { currency, posted, held, maturing, payable, carried: past - payable };
      }),
    );
  }

  /** A beneficiary's statement of a month in a currency. A month that has not ended is told of as far as it is. */
  async statement(
    actor: Actor,
    wanted: { readonly tenantId: Uuid | null; readonly currency: string; readonly period: string },
  ): Promise<EarningsStatement> {
    const tenantId = tenantOf(actor, wanted.tenantId);
    const { clock, database } = this.#deps;
    const { label: period, start: from, end: to } = parsePeriod(wanted.period);
    const { currency } = wanted;
    const rows = statementRows.parse(
      await database.withTenant(
        tenantId,
        (tx) => tx.$queryRaw`
          SELECT kind, subject_id::text, amount::text, postings::text
          FROM patchbay.own_earnings_statement(${currency}, ${from}::timestamptz, ${to}::timestamptz)
          ORDER BY kind, subject_id NULLS FIRST`,
      ),
    );
    const isComplete = clock.nowMs() >= to.getTime();
    return { tenantId, currency, period, from, to, isComplete, ...statementOf(rows) };
  }
}

/** What a rail says when it does not pay, or is not set up as it should be; neither hides what was earned. */
const PAYS_NOTHING: ReadonlySet<string> = new Set(['PAYOUT_RAIL', 'CHAIN_CODE_DIFFERS']);

/** The least that the rail pays of a currency, in nano-units; null when it pays nothing in it now. */
async function leastOf(rail: PayoutRail, currency: string): Promise<bigint | null> {
  try {
    return (await rail.terms(currency)).leastNano;
  } catch (error) {
    if (error instanceof PatchbayError && PAYS_NOTHING.has(error.code)) return null;
    throw error;
  }
}

/** The rows put together; the closing balance is their sum. */
function statementOf(
  rows: readonly StatementRow[],
): Pick<EarningsStatement, 'opening' | 'earned' | 'corrections' | 'paid' | 'returned' | 'closing'> {
  const sum = (kind: StatementRow['kind']): bigint =>
    rows.filter((row) => row.kind === kind).reduce((total, row) => total + row.amount, 0n);
  const lines = (kind: StatementRow['kind']): readonly StatementLine[] =>
    rows
      .filter((row) => row.kind === kind)
      .map((row) => ({ adapterVersionId: row.subject_id, amount: row.amount, postings: row.postings }));
  return {
    opening: sum('OPENING'),
    earned: lines('EARNED'),
    corrections: lines('CORRECTION'),
    paid: -sum('PAID'),
    returned: sum('RETURNED'),
    closing: rows.reduce((total, row) => total + row.amount, 0n),
  };
}

function tenantOf(actor: Actor, tenantId: Uuid | null): Uuid {
  requireScope(actor, 'billing:read');
  const id = tenantId ?? actor.tenantId;
  if (reaches(actor, id)) return id;
  throw new PatchbayError('NOT_FOUND', 'No such tenant is visible to you.', { field: 'tenant' });
}
