import { invariant } from '../../kernel/errors.ts';
import type { Uuid } from '../../kernel/ids.ts';
import { Accounts } from './accounts.ts';
import { type CompareDeps, compare } from './compare.ts';
import { arrivedOf, findMissing, type MissingOptions } from './quarantine.ts';
import { type ReleaseOptions, release } from './release.ts';
import { addNumbers, addSums } from './sums.ts';
import type { Quarantined, Released } from './types.ts';

/** How much is looked at by one statement, and goes into one epoch. */
export interface ExamineOptions extends ReleaseOptions {
  readonly missing: MissingOptions;
}

/** What an epoch is to say of a range of the log. */
export interface Examined {
  readonly accounts: Accounts;
  readonly quarantined: readonly Quarantined[];
  readonly released: readonly Released[];
  /** The last request of earlier epochs that was compared again. */
  readonly comparedUntil: Uuid;
  /** Up to when records were looked at for missing leaves; null where there was nothing to look at. */
  readonly scannedUntil: Date | null;
}

/** What is looked at. */
export interface Examination {
  readonly start: number;
  readonly end: number;
  /** Records that ended before need a leaf. */
  readonly missingBefore: Date;
}

type LeafRow = { readonly id: Uuid; readonly leaf: Buffer };

const LEAVES = `
SELECT entry_id AS id, leaf_hash AS leaf FROM log_leaf WHERE position >= $1 AND position < $2 ORDER BY position`;

/** Compares the leaves of a range, page by page, and those that earlier epochs quarantined; only reads. */
export async function examine(
  deps: CompareDeps,
  { start, end, missingBefore }: Examination,
  options: ExamineOptions,
): Promise<Examined> {
  const { query } = deps;
  const accounts = new Accounts();
  const quarantined: Quarantined[] = [];
  const arrived: Released[] = [];
  for (let from = start; from < end; from += options.pageLeaves) {
    const to = Math.min(end, from + options.pageLeaves);
    const leaves = await query<LeafRow>(LEAVES, [from, to]);
    invariant(leaves.length === to - from, `the log has the leaves ${from} to ${to}`);
    const ids = leaves.map(({ id }) => id);
    // All of them, however many: no later epoch has these leaves in its range.
    arrived.push(...(await arrivedOf(query, ids)));
    await addNumbers(query, accounts, ids);
    const { mismatches, digests } = await compare(deps, ids);
    for (const { id, leaf } of leaves) {
      const reason = mismatches.get(id);
      if (reason !== undefined) quarantined.push({ requestId: id, reason, leaf });
    }
    const matching = ids.filter((id) => !mismatches.has(id));
    await addSums(query, accounts, matching, digests);
  }
  const { released, comparedUntil } = await release(deps, accounts, options);
  const { missing, until } = await findMissing(query, missingBefore, options.missing);
  return {
    ...{ accounts, comparedUntil, scannedUntil: until },
    quarantined: [...quarantined, ...missing],
    released: [...arrived, ...released],
  };
}
