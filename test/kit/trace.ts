import { expect } from 'vitest';
import type { Engine, SequenceRequest } from '../../src/engine/port.ts';
import { PatchbayError } from '../../src/kernel/errors.ts';
import { nextTurn, Recording } from './fake-engine.ts';

/** A request of a drawn trace, in turns of the event loop. */
export interface Arrival {
  readonly request: Omit<SequenceRequest, 'id'>;
  /** Turns after the previous arrival. */
  readonly delay: number;
  /** Cancelled that many turns after it arrived; null is never. */
  readonly cancelAfter: number | null;
}

/** A request of a trace as it was played. */
export interface Submitted {
  readonly request: SequenceRequest;
  readonly recording: Recording;
  readonly cancelAt: number | null;
  cancelled: boolean;
  refused: PatchbayError | null;
}

/** Plays a trace turn by turn until every accepted sequence has ended; fails if that takes too long. */
export async function playTrace(
  arrivals: readonly Arrival[],
  engine: Engine,
  options: { readonly turns: number; readonly onTurn?: () => Promise<void> },
): Promise<Submitted[]> {
  const all: Submitted[] = [];
  let due = 0;
  const timed = arrivals.map((arrival, index) => {
    due += arrival.delay;
    return { ...arrival, at: due, id: `r${index}` };
  });
  for (let turn = 0; turn < options.turns; turn++) {
    for (const { request, at, id, cancelAfter } of timed) {
      if (at !== turn) continue;
      const cancelAt = cancelAfter === null ? null : turn + cancelAfter;
      const entry: Submitted = {
        request: { ...request, id },
        recording: new Recording(),
        cancelAt,
        cancelled: false,
        refused: null,
      };
      all.push(entry);
      engine.submit(entry.request, entry.recording.listener).catch((error: unknown) => {
        if (!(error instanceof PatchbayError)) throw error;
        entry.refused = error;
      });
    }
    for (const entry of all) {
      if (entry.cancelAt !== turn) continue;
      entry.cancelled = true;
      engine.cancel(entry.request.id);
    }
    await nextTurn();
    await options.onTurn?.();
    const over = all.every(({ recording, refused }) => refused !== null || recording.ends > 0);
    if (turn >= due && over) return all;
  }
  throw new Error(`not everything ended within ${options.turns} turns`);
}

/**
 * A prompt's cached tokens are whole blocks that an own request with the same adapters and weights begins with.
 * @returns the cached tokens of all
 */
export function checkPrefixes(all: readonly Submitted[], blockTokens: number): number {
  let cached = 0;
  for (const { request, recording } of all) {
    const end = recording.events.at(-1);
    if (end?.kind !== 'end') continue;
    const { cachedPromptTokens } = end.usage;
    const beginnings = all
      .filter((other) => other.request !== request && sharesWith(request, other.request))
      .map((other) => common(request.promptIds, [...other.request.promptIds, ...other.recording.tokens]));
    const most = Math.min(request.promptIds.length - 1, Math.max(0, ...beginnings));
    expect(cachedPromptTokens % blockTokens).toBe(0);
    expect(cachedPromptTokens).toBeLessThanOrEqual(most);
    // Recovery knows it from the tokens alone.
    const told = recording.events.flatMap((event) =>
      event.kind === 'tokens' ? [event.cachedPromptTokens] : [],
    );
    expect(told.every((tokens) => tokens === cachedPromptTokens)).toBe(true);
    cached += cachedPromptTokens;
  }
  return cached;
}

function sharesWith(a: SequenceRequest, b: SequenceRequest): boolean {
  const uses = ({ adapters }: SequenceRequest): string =>
    adapters
      .map(({ digest, weight }) => `${digest}*${weight}`)
      .sort()
      .join();
  return a.tenantId === b.tenantId && uses(a) === uses(b);
}

function common(a: readonly number[], b: readonly number[]): number {
  const end = a.findIndex((token, index) => token !== b[index]);
  return end === -1 ? a.length : end;
}
