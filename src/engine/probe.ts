import { invariant, PatchbayError } from '../kernel/errors.ts';
import { type Deferred, deferred } from './deferred.ts';
import type { ProbeResult } from './port.ts';
import type { Consumer, Outcome } from './sequence.ts';

/** The tenant under which policies see probes; no tenant id is equal to it. */
export const PROBE_TENANT = 'system:probe';

/**
 * One canary prompt, once plain and once with an adapter. Both halves go through the scheduler like any request, so
 * a probe takes no memory that was not accounted for and delays a step no more than a short prompt does.
 */
export interface Probe {
  readonly plain: Consumer;
  readonly adapted: Consumer;
  /** Settles when both halves have ended; rejects with the first half's failure. */
  readonly result: Promise<ProbeResult>;
}

export function createProbe(promptIds: readonly number[]): Probe {
  const result = deferred<ProbeResult>();
  const logits: Partial<Record<'plain' | 'adapted', Float32Array>> = {};
  const half = (name: 'plain' | 'adapted'): Consumer => ({
    tokens: promptIds,
    greedy: false,
    draw(row) {
      invariant(row instanceof Float32Array, 'a probe is given the logits that it asks for');
      logits[name] = Float32Array.from(row);
      return { reason: 'length' };
    },
    publish: () => 0,
    end(outcome) {
      settle(result, outcome, logits.plain, logits.adapted);
    },
  });
  return { plain: half('plain'), adapted: half('adapted'), result: result.promise };
}

function settle(
  result: Deferred<ProbeResult>,
  outcome: Outcome,
  plain: Float32Array | undefined,
  adapted: Float32Array | undefined,
): void {
  if (outcome.reason === 'error') {
    result.reject(outcome.error ?? new PatchbayError('ENGINE_FAILED', 'The probe failed.'));
  } else if (outcome.reason === 'cancelled') {
    result.reject(new PatchbayError('SHUTTING_DOWN', 'The engine stopped before the probe was done.'));
  } else if (plain !== undefined && adapted !== undefined) {
    result.resolve(compare(plain, adapted));
  }
}

/** Compares two rows of logits; differences that are not finite are left to `finite`. */
export function compare(plain: Float32Array, adapted: Float32Array): ProbeResult {
  let maxAbsDifference = 0;
  for (let i = 0; i < adapted.length; i++) {
    const difference = Math.abs((adapted[i] ?? 0) - (plain[i] ?? 0));
    if (Number.isFinite(difference) && difference > maxAbsDifference) maxAbsDifference = difference;
  }
  return { finite: adapted.every(Number.isFinite), maxAbsDifference };
}
