import type { Uuid } from '../kernel/ids.ts';
import type { Rates } from './rates.ts';

/** What was measured and earned, before anything is priced. */
export interface Quantities {
  /** What tenants paid, before the adjustments of a period's end. */
  readonly revenue: bigint;
  /** What of it beneficiaries of adapters earn. */
  readonly earned: bigint;
  readonly computeUs: bigint;
  readonly hostByteUs: bigint;
  readonly bankByteUs: bigint;
  readonly loads: bigint;
  readonly bytesLoaded: bigint;
  readonly loadUs: bigint;
}

/** {@link Quantities} of an adapter or a tenant, as the database sums them up. */
export interface SubjectQuantities extends Quantities {
  /** Null for the plain backbone, and for what no version carries. */
  readonly subject: Uuid | null;
  /** Whether it was in memory and no version carries it; such a line is in no list, only in the totals. */
  readonly unclaimed: boolean;
  readonly name: string | null;
  readonly requests: bigint;
  /** Clock hours from the first in which it was used to the last, both included; 0 if it was in none. */
  readonly spanHours: bigint;
}

/** Quantities with what they cost. */
export interface Figures extends Quantities {
  /** What the platform keeps of the revenue. */
  readonly platformRevenue: bigint;
  readonly computeCost: bigint;
  readonly memoryCost: bigint;
  readonly loadCost: bigint;
  /** What the platform keeps, without these costs; negative where they are more. */
  readonly margin: bigint;
}

/** One adapter; the plain backbone has no id. */
export interface AdapterFigures {
  readonly adapterId: Uuid | null;
  readonly name: string;
  readonly requests: bigint;
  readonly figures: Figures;
  /** Whether what the platform keeps of its revenue is at least what its memory and its loads cost. */
  readonly paysForItsMemory: boolean;
  readonly dedicatedHours: bigint;
  readonly dedicatedCost: bigint;
}

/** One tenant, as the caller that paid and that caused the cost. */
export interface TenantFigures {
  readonly tenantId: Uuid;
  readonly name: string;
  readonly requests: bigint;
  readonly figures: Figures;
}

/** The whole installation. */
export interface TotalFigures {
  readonly figures: Figures;
  readonly machineUs: bigint;
  readonly machineCost: bigint;
  /** What the machines cost beyond what is attributed. */
  readonly idleCost: bigint;
  readonly dedicatedHours: bigint;
  readonly dedicatedCost: bigint;
  /** What dedicated machines would have cost more than the shared ones did. */
  readonly saved: bigint;
}

/** How the plain backbone is called where adapters are listed. */
export const PLAIN_BACKBONE = 'plain backbone';

export function figuresOf(quantities: Quantities, rates: Rates): Figures {
  const { revenue, earned, computeUs, hostByteUs, bankByteUs, loads, bytesLoaded, loadUs } = quantities;
  const platformRevenue = revenue - earned;
  const computeCost = rates.compute(computeUs);
  const memoryCost = rates.memory(hostByteUs + bankByteUs);
  const loadCost = rates.compute(loadUs);
  return {
    revenue,
    earned,
    computeUs,
    hostByteUs,
    bankByteUs,
    loads,
    bytesLoaded,
    loadUs,
    platformRevenue,
    computeCost,
    memoryCost,
    loadCost,
    margin: platformRevenue - computeCost - memoryCost - loadCost,
  };
}

export function adapterFigures(rows: readonly SubjectQuantities[], rates: Rates): readonly AdapterFigures[] {
  return rows
    .filter(({ unclaimed }) => !unclaimed)
    .map((row) => {
      const figures = figuresOf(row, rates);
      const dedicatedHours = dedicatedHoursOf(row);
      return {
        adapterId: row.subject,
        name: row.name ?? row.subject ?? PLAIN_BACKBONE,
        requests: row.requests,
        figures,
        paysForItsMemory: figures.platformRevenue >= figures.memoryCost + figures.loadCost,
        dedicatedHours,
        dedicatedCost: rates.dedicated(dedicatedHours),
      };
    });
}

export function tenantFigures(rows: readonly SubjectQuantities[], rates: Rates): readonly TenantFigures[] {
  return rows.flatMap((row) =>
    row.subject === null
      ? []
      : [
          {
            tenantId: row.subject,
            name: row.name ?? row.subject,
            requests: row.requests,
            figures: figuresOf(row, rates),
          },
        ],
  );
}

/** @param rows those of all adapters, and what is unclaimed */
export function totalFigures(
  rows: readonly SubjectQuantities[],
  rates: Rates,
  { aliveUs }: { readonly aliveUs: bigint },
): TotalFigures {
  const figures = figuresOf(sumOf(rows), rates);
  const machineCost = rates.machines();
  const dedicatedHours = rows.reduce((sum, row) => sum + dedicatedHoursOf(row), 0n);
  const dedicatedCost = rates.dedicated(dedicatedHours);
  return {
    figures,
    machineUs: aliveUs,
    machineCost,
    idleCost: machineCost - figures.computeCost - figures.memoryCost - figures.loadCost,
    dedicatedHours,
    dedicatedCost,
    saved: dedicatedCost - machineCost,
  };
}

/** Requests on the plain backbone would go to any of the machines. */
function dedicatedHoursOf({ subject, spanHours }: SubjectQuantities): bigint {
  return subject === null ? 0n : spanHours;
}

function sumOf(rows: readonly Quantities[]): Quantities {
  const sum = (of: (row: Quantities) => bigint): bigint => rows.reduce((total, row) => total + of(row), 0n);
  return {
    revenue: sum((row) => row.revenue),
    earned: sum((row) => row.earned),
    computeUs: sum((row) => row.computeUs),
    hostByteUs: sum((row) => row.hostByteUs),
    bankByteUs: sum((row) => row.bankByteUs),
    loads: sum((row) => row.loads),
    bytesLoaded: sum((row) => row.bytesLoaded),
    loadUs: sum((row) => row.loadUs),
  };
}
