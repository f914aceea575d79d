import type { QueuePolicy, SchedulingPolicy, SequenceView, WorkAhead } from '../policy.ts';
import { type Flow, FlowSet } from './flow-set.ts';
import { bySlack, Line } from './line.ts';

export interface VtcOptions {
  /** A tenant's share relative to others', positive; 1 for everyone by default. */
  readonly weightOf?: (tenantId: string) => number;
  /**
   * By how much service (divided by the weight) a flow may be ahead of one that does not fit at the moment and still
   * overtake it. More of it uses memory better, less of it is fairer; it is a term of the bound in decision 10.
   */
  readonly allowance?: number;
}

/** About sixteen answers of 128 tokens: what a full batch does while one sequence ends and makes room. */
export const DEFAULT_ALLOWANCE = 2_048;

interface TenantFlow extends Flow {
  readonly adapters: FlowSet<AdapterFlow>;
}

/** An adapter, a blend or the plain backbone, as one tenant uses it. */
interface AdapterFlow extends Flow {
  readonly line: Line;
}

/**
 * Fair in service: virtual token counters over tenants, and within a tenant over adapters; within an adapter, least
 * slack first. docs/decisions/0010-fair-scheduling.md derives the bounds.
 */
export function virtualTokenCounters(options: VtcOptions = {}): SchedulingPolicy {
  return () => new VirtualTokenCounters(options);
}

/** The flow of a sequence within its tenant: the same adapters in any order are one flow, no adapter is one too. */
export function adapterFlowId(adapters: readonly string[]): string {
  return adapters.length > 1 ? adapters.toSorted().join('+') : (adapters[0] ?? '');
}

class VirtualTokenCounters implements QueuePolicy {
  readonly #allowance: number;
  readonly #tenants: FlowSet<TenantFlow>;
  /** Sequences that have waited and not ended. */
  readonly #known = new Set<number>();

  constructor({ weightOf = () => 1, allowance = DEFAULT_ALLOWANCE }: VtcOptions) {
    this.#allowance = allowance;
    this.#tenants = new FlowSet((id) => ({ id, weight: weightOf(id), adapters: new FlowSet(adapterFlow) }));
  }

  add(sequence: SequenceView): void {
    const isNew = !this.#known.has(sequence.key);
    if (isNew) this.#known.add(sequence.key);
    const tenant = this.#tenants.enter(sequence.tenantId, isNew);
    tenant.adapters.enter(adapterFlowId(sequence.adapters), isNew).line.add(sequence);
  }

  remove(sequence: SequenceView): void {
    const id = adapterFlowId(sequence.adapters);
    const tenant = this.#tenants.find(sequence.tenantId);
    tenant?.adapters.find(id)?.line.remove(sequence);
    tenant?.adapters.leave(id);
    this.#tenants.leave(sequence.tenantId);
  }

  *candidates(): Iterable<SequenceView> {
    for (const tenant of this.#tenants.inOrder(this.#allowance)) {
      for (const { line } of tenant.adapters.inOrder(this.#allowance)) {
        if (line.first !== undefined) yield line.first;
      }
    }
  }

  charge(sequence: SequenceView, cost: number): void {
    this.#tenants.find(sequence.tenantId)?.adapters.charge(adapterFlowId(sequence.adapters), cost);
    this.#tenants.charge(sequence.tenantId, cost);
  }

  ended(sequence: SequenceView): void {
    if (!this.#known.delete(sequence.key)) return;
    this.#tenants.find(sequence.tenantId)?.adapters.ended(adapterFlowId(sequence.adapters));
    this.#tenants.ended(sequence.tenantId);
  }

  /**
   * The sequence's turn comes when its flow's counter has grown by what the flow still has waiting. Until then
   * every other flow is served up to that counter, or until it has nothing left; of flows whose sequences all run, more
   * is expected to come.
   */
  workAhead(sequence: SequenceView): WorkAhead {
    const tenant = this.#tenants.find(sequence.tenantId);
    const rowMs = sequence.rowMs / sequence.serviceCost;
    const within =
      tenant === undefined
        ? NOTHING
        : ahead(tenant.adapters, adapterFlowId(sequence.adapters), 1, rowMs, ({ line }) => demandOf(line));
    return ahead(this.#tenants, sequence.tenantId, tenant?.weight ?? 1, rowMs, tenantDemand, within);
  }
}

/** Service and row time of something that waits. */
interface Demand extends WorkAhead {
  readonly serviceCost: number;
}

const NOTHING: Demand = { rowMs: 0, sequences: 0, serviceCost: 0 };

function adapterFlow(id: string): AdapterFlow {
  return { id, weight: 1, line: new Line(bySlack) };
}

function demandOf(line: Line): Demand {
  return { rowMs: line.rowMs, sequences: line.size, serviceCost: line.serviceCost };
}

function tenantDemand({ adapters }: TenantFlow): Demand {
  let sum = NOTHING;
  for (const { flow } of adapters.active()) sum = plus(sum, demandOf(flow.line), 1);
  return sum;
}

/**
 * @param rowMs row occupation for each unit of service, for what is not there yet
 * @param own what of the flow itself is ahead; everything that it has waiting by default
 */
function ahead<F extends Flow>(
  flows: FlowSet<F>,
  id: string,
  weight: number,
  rowMs: number,
  demand: (flow: F) => Demand,
  own?: Demand,
): Demand {
  const flow = flows.find(id);
  let sum = own ?? (flow === undefined ? NOTHING : demand(flow));
  const turn = flows.counter(id) + sum.serviceCost / weight;
  for (const other of flows.active()) {
    if (other.flow.id === id || other.counter >= turn) continue;
    const waiting = demand(other.flow);
    const served = Math.min(waiting.serviceCost, (turn - other.counter) * other.flow.weight);
    if (waiting.serviceCost > 0) sum = plus(sum, waiting, served / waiting.serviceCost);
  }
  for (const other of flows.running()) {
    if (other.flow.id === id || other.counter >= turn) continue;
    const serviceCost = (turn - other.counter) * other.flow.weight;
    sum = plus(sum, { rowMs: serviceCost * rowMs, sequences: 0, serviceCost }, 1);
  }
  return sum;
}

function plus(sum: Demand, more: Demand, share: number): Demand {
  return {
    rowMs: sum.rowMs + more.rowMs * share,
    sequences: sum.sequences + more.sequences * share,
    serviceCost: sum.serviceCost + more.serviceCost * share,
  };
}
