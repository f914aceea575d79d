import type { Uuid } from '../../kernel/ids.ts';
import type { Query } from '../log/store.ts';
import type { Accounts } from './accounts.ts';
import { type CompareDeps, compare } from './compare.ts';
import { FIRST_ID, LAST_ID, openQuarantines } from './quarantine.ts';
import { addOpenable, addSums } from './sums.ts';
import type { Released } from './types.ts';

/** How much of what is quarantined is compared again for one epoch. */
export interface ReleaseOptions {
  /** Leaves that one statement compares. */
  readonly pageLeaves: number;
  /** Most requests that one epoch releases of those that were quarantined with their leaves; others wait for the next. */
  readonly releasedMax: number;
  /** Most requests, and up to a page more, that may turn out not to match still; others wait for the next. */
  readonly differingMax: number;
}

const COMPARED = 'SELECT compared_until FROM epoch_scan';

/**
 * Adds what matches by now of what earlier epochs quarantined with its leaf. What never matches would be compared for ever, so
 * that an epoch goes on where the one before ended, and after the last request with the first.
 */
export async function release(
  { query, ...deps }: CompareDeps,
  accounts: Accounts,
  options: ReleaseOptions,
): Promise<{ readonly released: readonly Released[]; readonly comparedUntil: Uuid }> {
  const released: Released[] = [];
  const begin = await comparedUntil(query);
  let [after, until, differing] = [begin, LAST_ID, 0];
  while (released.length < options.releasedMax && differing < options.differingMax) {
    const most = Math.min(options.pageLeaves, options.releasedMax - released.length);
    const open = await openQuarantines(query, { after, until }, most);
    const last = open.at(-1);
    if (last === undefined) {
      if (until === begin) break;
      [after, until] = [FIRST_ID, begin];
      continue;
    }
    after = last.requestId;
    const { mismatches, digests } = await compare(
      { query, ...deps },
      open.map(({ requestId }) => requestId),
    );
    const matching = open.filter(({ requestId }) => !mismatches.has(requestId));
    const ids = matching.map(({ requestId }) => requestId);
    await addSums(query, accounts, ids, digests);
    await addOpenable(query, accounts, ids);
    released.push(...matching);
    differing += mismatches.size;
  }
  return { released, comparedUntil: after };
}

async function comparedUntil(query: Query): Promise<Uuid> {
  const [row] = await query<{ readonly compared_until: Uuid }>(COMPARED, []);
  return row?.compared_until ?? FIRST_ID;
}
