import type { QueuePolicy, SchedulingPolicy, SequenceView } from '../../engine/policy.ts';

/** A flow and the group within which it is compared: tenants of a class, or adapters of a tenant. */
export interface FlowName {
  readonly group: string;
  readonly id: string;
}

interface Flow extends FlowName {
  service: number;
  waiting: number;
  /** Least and greatest lead over another flow since both wait. */
  readonly leads: Map<string, { least: number; most: number }>;
}

/**
 * Watches any policy from outside: what each flow was charged, and by how much the service of two flows differed over
 * the intervals in which both were backlogged (had sequences waiting) throughout.
 */
export class ServiceLedger {
  readonly #flows = new Map<string, Flow>();
  readonly #backlogged = new Map<string, Set<Flow>>();
  readonly #name: (sequence: SequenceView) => FlowName;
  /** Largest difference of service of two backlogged flows over any such interval. */
  maxDifference = 0;

  constructor(name: (sequence: SequenceView) => FlowName) {
    this.#name = name;
  }

  /** The policy, watched. */
  watch(policy: SchedulingPolicy): SchedulingPolicy {
    return () => this.#watched(policy());
  }

  #watched(policy: QueuePolicy): QueuePolicy {
    return {
      add: (sequence) => {
        policy.add(sequence);
        this.#add(sequence);
      },
      remove: (sequence) => {
        policy.remove(sequence);
        this.#remove(sequence);
      },
      candidates: () => policy.candidates(),
      charge: (sequence, cost) => {
        policy.charge(sequence, cost);
        this.#charge(sequence, cost);
      },
      ended: (sequence) => policy.ended(sequence),
      workAhead: (sequence) => policy.workAhead(sequence),
    };
  }

  #add(sequence: SequenceView): void {
    const flow = this.#flow(sequence);
    flow.waiting += 1;
    if (flow.waiting > 1) return;
    const others = this.#backlogged.get(flow.group) ?? new Set();
    this.#backlogged.set(flow.group, others);
    for (const other of others) {
      const lead = flow.service - other.service;
      flow.leads.set(other.id, { least: lead, most: lead });
      other.leads.set(flow.id, { least: -lead, most: -lead });
    }
    others.add(flow);
  }

  #remove(sequence: SequenceView): void {
    const flow = this.#flow(sequence);
    flow.waiting -= 1;
    if (flow.waiting > 0) return;
    flow.leads.clear();
    const others = this.#backlogged.get(flow.group);
    others?.delete(flow);
    for (const other of others ?? []) other.leads.delete(flow.id);
  }

  #charge(sequence: SequenceView, cost: number): void {
    const flow = this.#flow(sequence);
    flow.service += cost;
    if (flow.waiting === 0) return;
    for (const other of this.#backlogged.get(flow.group) ?? []) {
      if (other === flow) continue;
      this.#note(flow.leads.get(other.id), flow.service - other.service);
      this.#note(other.leads.get(flow.id), other.service - flow.service);
    }
  }

  #note(range: { least: number; most: number } | undefined, lead: number): void {
    if (range === undefined) return;
    range.least = Math.min(range.least, lead);
    range.most = Math.max(range.most, lead);
    this.maxDifference = Math.max(this.maxDifference, range.most - range.least);
  }

  #flow(sequence: SequenceView): Flow {
    const { group, id } = this.#name(sequence);
    const key = `${group} ${id}`;
    const flow = this.#flows.get(key) ?? { group, id, service: 0, waiting: 0, leads: new Map() };
    this.#flows.set(key, flow);
    return flow;
  }
}

/** Tenants of a class. */
export function byTenant({ priority, tenantId }: SequenceView): FlowName {
  return { group: priority, id: tenantId };
}

/** Adapters of a tenant in a class. */
export function byAdapter({ priority, tenantId, adapters }: SequenceView): FlowName {
  return { group: `${priority} ${tenantId}`, id: adapters.toSorted().join('+') };
}
