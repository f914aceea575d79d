import { type Actor, requireOperatorScope } from '../auth/principal.ts';
import type { Database } from '../db/client.ts';
import type { Page } from '../db/page.ts';
import { currencyOf } from '../pricing/currency.ts';
import { alignRange } from '../usage/range.ts';
import { type EconomicsPeriod, readQuantities } from './figures.ts';
import { type EconomicsOrder, type LinePage, pageOf, sortLines } from './order.ts';
import { type MachinePrice, type MachineTime, Rates } from './rates.ts';
import {
  type AdapterFigures,
  adapterFigures,
  type SubjectQuantities,
  type TenantFigures,
  type TotalFigures,
  tenantFigures,
  totalFigures,
} from './report.ts';
import { type EconomicsGroup, MACHINES } from './statements.ts';

interface MachinesRow {
  readonly alive_us: string;
  readonly capacity_byte_us: string;
}

type EconomicsDatabase = Pick<Database, 'querySystem' | 'withSystem'>;

/** What adapters earn and cost, and what sharing one backbone saved. For operators: it shows every tenant. */
export class EconomicsService {
  readonly #database: EconomicsDatabase;
  readonly #price: MachinePrice;

  constructor(price: MachinePrice, dependencies: { readonly database: EconomicsDatabase }) {
    this.#price = price;
    this.#database = dependencies.database;
  }

  /**
   * The figures of a period, widened to whole hours and of at most 2,000 of them. Only what is asked of the report is
   * read, from hourly rows.
   */
  async report(actor: Actor, period: EconomicsPeriod): Promise<EconomicsReport> {
    requireOperatorScope(actor, 'billing:read');
    const { from, to } = alignRange({ ...period, bucket: 'hour' });
    const currency = await this.#database.withSystem(currencyOf);
    const [machines] = await this.#database.querySystem<MachinesRow & Record<string, unknown>>(MACHINES, [
      from,
      to,
    ]);
    const time = {
      aliveUs: BigInt(machines?.alive_us ?? 0),
      capacityByteUs: BigInt(machines?.capacity_byte_us ?? 0),
    };
    return new EconomicsReport({ from, to }, { currency, price: this.#price, time }, this.#database);
  }
}

interface ReportTerms {
  readonly currency: string | null;
  readonly price: MachinePrice;
  readonly time: MachineTime;
}

/** The figures of one period. Each breakdown is read once, when it is first asked for. */
export class EconomicsReport {
  readonly period: EconomicsPeriod;
  /** Null before the installation's first price. */
  readonly currency: string | null;
  readonly price: MachinePrice;
  readonly #time: MachineTime;
  readonly #rates: Rates;
  readonly #database: EconomicsDatabase;
  readonly #rows = new Map<EconomicsGroup, Promise<readonly SubjectQuantities[]>>();

  constructor(period: EconomicsPeriod, { currency, price, time }: ReportTerms, database: EconomicsDatabase) {
    this.period = period;
    this.currency = currency;
    this.price = price;
    this.#time = time;
    this.#rates = new Rates(price, time);
    this.#database = database;
  }

  async totals(): Promise<TotalFigures> {
    return totalFigures(await this.#quantities('adapter'), this.#rates, this.#time);
  }

  /** Adapters that were used or in memory, and the plain backbone if it was used. */
  async adapters(order: EconomicsOrder): Promise<readonly AdapterFigures[]> {
    return sortLines(adapterFigures(await this.#quantities('adapter'), this.#rates), order);
  }

  /** Tenants that sent requests, or whose adapters were in memory while nobody used them. */
  async tenants(order: EconomicsOrder): Promise<readonly TenantFigures[]> {
    return sortLines(tenantFigures(await this.#quantities('tenant'), this.#rates), order);
  }

  async adapterPage(order: EconomicsOrder, page: LinePage): Promise<Page<AdapterFigures>> {
    return pageOf(await this.adapters(order), order, page);
  }

  async tenantPage(order: EconomicsOrder, page: LinePage): Promise<Page<TenantFigures>> {
    return pageOf(await this.tenants(order), order, page);
  }

  #quantities(group: EconomicsGroup): Promise<readonly SubjectQuantities[]> {
    const known = this.#rows.get(group);
    if (known !== undefined) return known;
    const read = readQuantities(this.#database, group, this.period);
    this.#rows.set(group, read);
    return read;
  }
}
