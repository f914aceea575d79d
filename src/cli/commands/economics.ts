import { SYSTEM_ACTOR } from '../../auth/principal.ts';
import type { EconomicsOrder } from '../../economics/order.ts';
import type { AdapterFigures, Figures, TenantFigures, TotalFigures } from '../../economics/report.ts';
import type { EconomicsReport } from '../../economics/service.ts';
import { formatMoney } from '../../kernel/money.ts';
import { withProgress } from '../../observability/progress.ts';
import { EXIT } from '../exit-codes.ts';
import { type CliIo, progressFor } from '../io.ts';
import { withOfflineDatabase } from '../offline-database.ts';
import { day, type Period, periodOf } from '../period.ts';
import { table } from '../table.ts';

/** What the command line says. */
export interface EconomicsFlags {
  readonly from?: string;
  readonly to?: string;
  readonly by: 'adapter' | 'tenant';
  readonly json: boolean;
}

const ORDER: EconomicsOrder = 'LOWEST_MARGIN';
const DAY_MS = 86_400_000;
const DEFAULT_DAYS = 30;
const US_PER_SECOND = 1_000_000n;
const US_PER_HOUR = 3_600_000_000;

/** Shows what adapters or tenants brought and cost in a period, with or without a running server. */
export async function economicsCommand(io: CliIo, flags: EconomicsFlags): Promise<number> {
  const { systemClock } = await import('../../kernel/clock.ts');
  const period = periodFrom(flags, systemClock.nowMs());
  const { config } = io.loadConfig();
  const { EconomicsService } = await import('../../economics/service.ts');
  const { machinePriceNano: perHour, memoryPercent } = config.economics;
  const text = await withProgress(progressFor(io, flags.json), 'Reading the hourly sums', () =>
    withOfflineDatabase(config.data, 'economics', async (database) => {
      const economics = new EconomicsService({ perHour, memoryPercent }, { database });
      return show(await economics.report(SYSTEM_ACTOR, period), flags);
    }),
  );
  io.out(text);
  return EXIT.ok;
}

/** The period of the flags; without them, the last days with today. */
function periodFrom({ from, to }: EconomicsFlags, nowMs: number): Period {
  const end = to ?? dayText(nowMs + DAY_MS);
  return periodOf({ from: from ?? dayText(day(end, '--to').getTime() - DEFAULT_DAYS * DAY_MS), to: end });
}

function dayText(ms: number): string {
  return new Date(ms).toISOString().slice(0, 'yyyy-mm-dd'.length);
}

async function show(report: EconomicsReport, { by, json }: EconomicsFlags): Promise<string> {
  const totals = await report.totals();
  if (by === 'adapter') {
    const adapters = await report.adapters(ORDER);
    return json
      ? document(report, totals, { adapters: adapters.map(adapterJson) })
      : adapterText(report, totals, adapters);
  }
  const tenants = await report.tenants(ORDER);
  return json
    ? document(report, totals, { tenants: tenants.map(tenantJson) })
    : tenantText(report, totals, tenants);
}

function adapterText(report: EconomicsReport, totals: TotalFigures, rows: readonly AdapterFigures[]): string {
  const head = ['ADAPTER', 'REQUESTS', ...FIGURE_HEAD, 'PAYS FOR ITS MEMORY'];
  const lines = rows.map(({ name, requests, figures, paysForItsMemory }) => [
    name,
    String(requests),
    ...figureCells(figures),
    paysForItsMemory ? 'yes' : 'no',
  ]);
  return `${table(head, lines)}\n${summary(report, totals)}`;
}

function tenantText(report: EconomicsReport, totals: TotalFigures, rows: readonly TenantFigures[]): string {
  const lines = rows.map(({ name, requests, figures }) => [name, String(requests), ...figureCells(figures)]);
  return `${table(['TENANT', 'REQUESTS', ...FIGURE_HEAD], lines)}\n${summary(report, totals)}`;
}

const FIGURE_HEAD = ['REVENUE', 'KEPT', 'COMPUTE', 'MEMORY', 'LOADS', 'MARGIN'];

function figureCells(figures: Figures): readonly string[] {
  const { revenue, platformRevenue, computeCost, memoryCost, loadCost, margin } = figures;
  return [revenue, platformRevenue, computeCost, memoryCost, loadCost, margin].map(formatMoney);
}

function summary({ currency, price }: EconomicsReport, totals: TotalFigures): string {
  const { figures, machineUs, machineCost, idleCost, dedicatedHours, dedicatedCost, saved } = totals;
  const unit = currency === null ? '' : ` ${currency}`;
  const amount = (nanos: bigint): string => `${formatMoney(nanos)}${unit}`;
  const hours = (Number(machineUs) / US_PER_HOUR).toFixed(2);
  const unpriced =
    price.perHour === 0n
      ? '\nNo machine price is set (PATCHBAY_MACHINE_PRICE), so nothing costs anything.'
      : '';
  return `All amounts${unit === '' ? '' : ` in${unit}`}, smallest margin first. KEPT is the revenue without royalties.
Kept ${amount(figures.platformRevenue)}, margin ${amount(figures.margin)}.
Machines ${amount(machineCost)} for ${hours} hours, of which ${amount(idleCost)} are nobody's.
Dedicated hosting ${amount(dedicatedCost)} for ${dedicatedHours} hours; sharing saved ${amount(saved)}.${unpriced}
`;
}

function document(report: EconomicsReport, totals: TotalFigures, rows: object): string {
  const { period, currency, price } = report;
  return `${JSON.stringify({
    from: period.from.toISOString(),
    to: period.to.toISOString(),
    currency,
    machinePricePerHour: String(price.perHour),
    memoryPercent: price.memoryPercent,
    totals: {
      ...figuresJson(totals.figures),
      machineSeconds: Number(totals.machineUs) / Number(US_PER_SECOND),
      machineCost: String(totals.machineCost),
      idleCost: String(totals.idleCost),
      dedicatedHours: String(totals.dedicatedHours),
      dedicatedCost: String(totals.dedicatedCost),
      saved: String(totals.saved),
    },
    ...rows,
  })}\n`;
}

function adapterJson(line: AdapterFigures) {
  const { adapterId, name, requests, figures, paysForItsMemory, dedicatedHours, dedicatedCost } = line;
  return {
    adapterId,
    name,
    requests: String(requests),
    ...figuresJson(figures),
    paysForItsMemory,
    dedicatedHours: String(dedicatedHours),
    dedicatedCost: String(dedicatedCost),
  };
}

function tenantJson({ tenantId, name, requests, figures }: TenantFigures) {
  return { tenantId, name, requests: String(requests), ...figuresJson(figures) };
}

/** Amounts in nano-units and large counts as decimal text, as GraphQL gives them. */
function figuresJson(figures: Figures) {
  return {
    revenue: String(figures.revenue),
    earned: String(figures.earned),
    platformRevenue: String(figures.platformRevenue),
    computeSeconds: Number(figures.computeUs) / Number(US_PER_SECOND),
    hostByteSeconds: String(figures.hostByteUs / US_PER_SECOND),
    bankByteSeconds: String(figures.bankByteUs / US_PER_SECOND),
    loads: String(figures.loads),
    bytesLoaded: String(figures.bytesLoaded),
    loadSeconds: Number(figures.loadUs) / Number(US_PER_SECOND),
    computeCost: String(figures.computeCost),
    memoryCost: String(figures.memoryCost),
    loadCost: String(figures.loadCost),
    margin: String(figures.margin),
  };
}
