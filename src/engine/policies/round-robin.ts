import type { QueuePolicy, SchedulingPolicy, SequenceView, WorkAhead } from '../policy.ts';
import { bySlack, Line } from './line.ts';

/**
 * Tenants take turns, one start each. Fair in requests and not in service: whoever sends long ones gets more.
 * Here for comparison.
 */
export const roundRobin: SchedulingPolicy = () => new RoundRobin();

class RoundRobin implements QueuePolicy {
  /** Lines of tenants with waiting sequences; whose turn is next stands first. */
  readonly #lines = new Map<string, Line>();

  add(sequence: SequenceView): void {
    const line = this.#lines.get(sequence.tenantId) ?? new Line(bySlack);
    this.#lines.set(sequence.tenantId, line);
    line.add(sequence);
  }

  remove(sequence: SequenceView): void {
    const line = this.#lines.get(sequence.tenantId);
    if (line === undefined) return;
    line.remove(sequence);
    // The tenant had its turn and goes to the end.
    this.#lines.delete(sequence.tenantId);
    if (line.size > 0) this.#lines.set(sequence.tenantId, line);
  }

  *candidates(): Iterable<SequenceView> {
    for (const line of this.#lines.values()) if (line.first !== undefined) yield line.first;
  }

  charge(): void {}

  ended(): void {}

  workAhead({ tenantId }: SequenceView): WorkAhead {
    const own = this.#lines.get(tenantId)?.size ?? 0;
    let rowMs = 0;
    let sequences = 0;
    for (const [id, line] of this.#lines) {
      // Everybody has a turn before each of the tenant's own.
      const turns = id === tenantId ? own : Math.min(line.size, own + 1);
      rowMs += (line.rowMs * turns) / line.size;
      sequences += turns;
    }
    return { rowMs, sequences };
  }
}
