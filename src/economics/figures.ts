import type { Database } from '../db/client.ts';
import type { Uuid } from '../kernel/ids.ts';
import type { SubjectQuantities } from './report.ts';
import { type EconomicsGroup, figuresStatement } from './statements.ts';

/** Whole hours; `to` is exclusive. */
export interface EconomicsPeriod {
  readonly from: Date;
  readonly to: Date;
}

interface FiguresRow {
  readonly subject: Uuid | null;
  readonly unclaimed: boolean;
  readonly name: string | null;
  readonly requests: string;
  readonly compute_us: string;
  readonly revenue: string;
  readonly earned: string;
  readonly first_used: Date | null;
  readonly last_used: Date | null;
  readonly host_byte_us: string;
  readonly bank_byte_us: string;
  readonly loads: string;
  readonly bytes_loaded: string;
  readonly load_us: string;
}

const HOUR_MS = 3_600_000;
/** How much one statement reads, so that none runs long however long the period; hours do not depend on each other. */
const CHUNK_MS = 72 * HOUR_MS;

/** The quantities of a period by adapter or by tenant, added up from stretches of it. */
export async function readQuantities(
  database: Pick<Database, 'querySystem'>,
  group: EconomicsGroup,
  { from, to }: EconomicsPeriod,
): Promise<readonly SubjectQuantities[]> {
  const sums = new Map<string, Used>();
  for (let at = from.getTime(); at < to.getTime(); at += CHUNK_MS) {
    const end = new Date(Math.min(at + CHUNK_MS, to.getTime()));
    const rows = await database.querySystem<FiguresRow & Record<string, unknown>>(figuresStatement(group), [
      new Date(at),
      end,
    ]);
    for (const used of rows.map(toUsed)) {
      const key = `${used.subject} ${used.unclaimed}`;
      const known = sums.get(key);
      sums.set(key, known === undefined ? used : add(known, used));
    }
  }
  return [...sums.values()].map(({ firstMs, lastMs, ...quantities }) => ({
    ...quantities,
    spanHours: firstMs === null || lastMs === null ? 0n : BigInt((lastMs - firstMs) / HOUR_MS) + 1n,
  }));
}

/** Quantities with the first and the last hour of use instead of their distance. */
interface Used extends Omit<SubjectQuantities, 'spanHours'> {
  readonly firstMs: number | null;
  readonly lastMs: number | null;
}

/** `b` is of a later stretch. */
function add(a: Used, b: Used): Used {
  return {
    subject: a.subject,
    unclaimed: a.unclaimed,
    name: b.name,
    requests: a.requests + b.requests,
    computeUs: a.computeUs + b.computeUs,
    revenue: a.revenue + b.revenue,
    earned: a.earned + b.earned,
    firstMs: a.firstMs ?? b.firstMs,
    lastMs: b.lastMs ?? a.lastMs,
    hostByteUs: a.hostByteUs + b.hostByteUs,
    bankByteUs: a.bankByteUs + b.bankByteUs,
    loads: a.loads + b.loads,
    bytesLoaded: a.bytesLoaded + b.bytesLoaded,
    loadUs: a.loadUs + b.loadUs,
  };
}

function toUsed(row: FiguresRow): Used {
  return {
    subject: row.subject,
    unclaimed: row.unclaimed,
    name: row.name,
    requests: BigInt(row.requests),
    computeUs: BigInt(row.compute_us),
    revenue: BigInt(row.revenue),
    earned: BigInt(row.earned),
    firstMs: row.first_used?.getTime() ?? null,
    lastMs: row.last_used?.getTime() ?? null,
    hostByteUs: BigInt(row.host_byte_us),
    bankByteUs: BigInt(row.bank_byte_us),
    loads: BigInt(row.loads),
    bytesLoaded: BigInt(row.bytes_loaded),
    loadUs: BigInt(row.load_us),
  };
}
