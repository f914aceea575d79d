import { z } from 'zod';
import type { Tx } from '../db/client.ts';
import type { Clock } from '../kernel/clock.ts';
import { newId, type Uuid } from '../kernel/ids.ts';
import { AMOUNT_MAX } from '../ledger/types.ts';
import { paymentKey } from './key.ts';
import type { HeldPayout } from './money.ts';
import type { PayoutRail, RailKind } from './rail.ts';
import type { PayoutOptions } from './types.ts';
import { ceilTo, floorTo } from './unit.ts';

/** Somebody who can be paid. */
export interface Candidate {
  readonly tenantId: Uuid;
  readonly accountId: Uuid;
  readonly destinationId: Uuid;
  readonly kind: RailKind;
  readonly accountName: string;
  readonly accountReference: string;
  /** What is past the holdback window and held for nothing else. */
  readonly payable: bigint;
}

/** A payout that is about to be held. */
export interface DraftPayout extends HeldPayout {
  readonly tenantId: Uuid;
  readonly destinationId: Uuid;
  readonly paymentKey: string;
}

/** The least that is paid: the minimum, in amounts that the rail can pay, and not less than comes to anything there. */
export function leastPayable(
  options: Pick<PayoutOptions, 'minimumNano'>,
  unit: bigint,
  leastNano = unit,
): bigint {
  const least = ceilTo(unit, options.minimumNano);
  if (least < leastNano) return leastNano;
  return least;
}

/** What could be paid of an amount now; zero when it is carried over. */
export function payableNow(amount: bigint, least: bigint, unit: bigint): bigint {
  if (amount < least) return 0n;
  const whole = floorTo(unit, amount);
  return whole > AMOUNT_MAX ? floorTo(unit, AMOUNT_MAX) : whole;
}

/** The payouts of a batch, as many as fit into it: the total of a batch is bounded as one amount is. */
export function draftPayouts(
  candidates: readonly Candidate[],
  terms: {
    readonly currency: string;
    readonly earnedBefore: Date;
    readonly least: bigint;
    readonly unit: bigint;
    readonly batchMax: number;
  },
  clock: Clock,
): readonly DraftPayout[] {
  const { currency, earnedBefore, least, unit, batchMax } = terms;
  const payouts: DraftPayout[] = [];
  let total = 0n;
  for (const candidate of candidates) {
    const amountNano = payableNow(candidate.payable, least, unit);
    if (amountNano === 0n || total + amountNano > AMOUNT_MAX) continue;
    if (payouts.length === batchMax) break;
    total += amountNano;
    const { tenantId, accountId, destinationId, kind, accountName, accountReference } = candidate;
    const content = {
      beneficiary: tenantId,
      earnedBefore,
      amountNano,
      currency,
      kind,
      accountName,
      accountReference,
    };
    payouts.push({
      ...{ tenantId, accountId, destinationId, currency, amountNano },
      id: newId(clock),
      holdId: newId(clock),
      paymentKey: paymentKey(content),
    });
  }
  return payouts;
}

const candidateRows = z.array(
  z.object({
    account_id: z.string(),
    tenant_id: z.string(),
    payable: z.string().transform(BigInt),
    destination_id: z.string(),
    account_name: z.string(),
    account_reference: z.string(),
  }),
);

/**
 * Everybody who can be paid in the currency what was posted before the time, in the order of their accounts. Whoever has no
 * destination is left out, whose tenant is suspended, and who was given a payout for the same time before, whatever became
 * of it: its key would be the same, and a bank that refused it once would refuse it again.
 */
export async function readCandidates(
  tx: Tx,
  rail: Pick<PayoutRail, 'kind' | 'refuses'>,
  wanted: {
    readonly currency: string;
    readonly earnedBefore: Date;
    readonly now: Date;
    readonly least: bigint;
    readonly batchMax: number;
  },
): Promise<readonly Candidate[]> {
  const { currency, earnedBefore, now } = wanted;
  const rows = candidateRows.parse(
    await tx.$queryRaw`
      SELECT p.account_id, p.tenant_id, p.payable::text, d.id AS destination_id, d.account_name, d.account_reference
      FROM patchbay.earnings_payable(ARRAY(
        SELECT a.id FROM ledger_account a JOIN tenant t ON t.id = a.tenant_id
        WHERE a.kind = 'EARNINGS' AND a.asset = ${currency} AND t.state <> 'SUSPENDED'), ${earnedBefore}::timestamptz) p
      CROSS JOIN LATERAL (
        SELECT o.* FROM payout_destination o
        WHERE o.tenant_id = p.tenant_id AND o.effective_from <= ${now}::timestamptz
        ORDER BY o.effective_from DESC, o.id DESC LIMIT 1) d
      WHERE p.payable >= ${String(wanted.least)}::numeric AND d.kind = ${rail.kind}
        AND NOT EXISTS (
          SELECT FROM payout o WHERE o.account_id = p.account_id AND o.earned_before = ${earnedBefore}::timestamptz)
      ORDER BY p.account_id LIMIT ${wanted.batchMax}::integer`,
  );
  const reached = rows.filter((row) => !rail.refuses.has(row.account_reference));
  return reached.map((row) => ({
    tenantId: row.tenant_id,
    accountId: row.account_id,
    destinationId: row.destination_id,
    kind: rail.kind,
    accountName: row.account_name,
    accountReference: row.account_reference,
    payable: row.payable,
  }));
}
