import type { AdapterResidency, ResidencyHour } from '../engine/port.ts';
import type { Uuid } from '../kernel/ids.ts';

/** What one run of an engine has told of an hour so far. */
export interface RunHour extends ResidencyHour {
  readonly runId: Uuid;
}

/**
 * Adds up what an engine tells in pieces, hour by hour, until it is written. Rows of the database hold sums and not
 * pieces: a write that failed is made up for by the next, and one whose outcome nobody knows may be repeated.
 */
export class ResidencyTotals {
  readonly #newRun: () => Uuid;
  #runId: Uuid;
  /** Hours before this one were written and forgotten. */
  #floorMs = Number.NEGATIVE_INFINITY;
  #hours: RunHour[] = [];

  constructor(newRun: () => Uuid) {
    this.#newRun = newRun;
    this.#runId = newRun();
  }

  /** Everything that is not known to be written, and what else belongs to its hours. */
  get hours(): readonly RunHour[] {
    return this.#hours;
  }

  add(pieces: readonly ResidencyHour[]): void {
    for (const piece of pieces) {
      // The clock was put back into an hour whose sums are forgotten. They cannot be added to, so another run begins.
      if (piece.startMs < this.#floorMs) this.#beginRun();
      const at = this.#hours.findIndex(
        ({ runId, startMs }) => runId === this.#runId && startMs === piece.startMs,
      );
      const known = this.#hours[at];
      if (known === undefined) this.#hours.push({ ...piece, runId: this.#runId });
      else this.#hours[at] = { ...known, ...sumOf(known, piece) };
    }
  }

  /** Says that all of {@link ResidencyTotals.hours} is in the database; only the newest can still grow. */
  written(): void {
    const starts = this.#hours.filter(({ runId }) => runId === this.#runId).map(({ startMs }) => startMs);
    if (starts.length === 0) return;
    this.#floorMs = Math.max(...starts);
    this.#hours = this.#hours.filter(
      ({ runId, startMs }) => runId === this.#runId && startMs === this.#floorMs,
    );
  }

  #beginRun(): void {
    this.#runId = this.#newRun();
    this.#floorMs = Number.NEGATIVE_INFINITY;
  }
}

function sumOf(a: ResidencyHour, b: ResidencyHour): ResidencyHour {
  const adapters = new Map<string, AdapterResidency>();
  for (const one of [...a.adapters, ...b.adapters]) {
    const known = adapters.get(one.digest);
    adapters.set(
      one.digest,
      known === undefined
        ? one
        : {
            digest: one.digest,
            hostByteUs: known.hostByteUs + one.hostByteUs,
            bankByteUs: known.bankByteUs + one.bankByteUs,
            loads: known.loads + one.loads,
            bytesLoaded: known.bytesLoaded + one.bytesLoaded,
            loadUs: known.loadUs + one.loadUs,
          },
    );
  }
  return {
    startMs: a.startMs,
    aliveUs: a.aliveUs + b.aliveUs,
    capacityByteUs: a.capacityByteUs + b.capacityByteUs,
    adapters: [...adapters.values()],
  };
}
