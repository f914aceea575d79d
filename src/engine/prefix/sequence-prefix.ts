import type { Live } from '../live.ts';
import type { StepRow } from '../step.ts';
import type { PrefixStore } from './prefix-store.ts';

/**
 * Looks up what a sequence that is about to start begins with; answers how many tokens that are. What its first start
 * finds is what it is not billed for; later ones only get back what a preemption took.
 */
export function findPrefix(live: Live | undefined, store: PrefixStore): number {
  if (live === undefined || live.owner === null) return 0;
  live.prefix = store.find(live.owner, live.consumer.tokens);
  const tokens = live.prefix?.tokens ?? 0;
  if (live.startedMs === null) live.cachedPromptTokens = tokens;
  return tokens;
}

/**
 * Keeps what later prompts may begin with: a prompt when it has been read, and with the answer when that is complete,
 * as the next turn of a conversation begins with both. What ended in an error is not trusted.
 */
export function keepPrefixes(
  rows: readonly StepRow[],
  store: PrefixStore,
  report: (error: unknown) => void,
): void {
  for (const { live, handle, planned } of rows) {
    const { owner, outcome } = live;
    if (owner === null || outcome?.reason === 'error') continue;
    const promptRead = planned.wantsLogits && planned.past < live.spec.promptTokens;
    if (!promptRead && outcome === null) continue;
    try {
      store.keep(owner, live.consumer.tokens, planned.past + planned.tokens, handle);
    } catch (error) {
      // What was not kept is computed again.
      report(error);
    }
  }
}
