import { invariant } from '../../kernel/errors.ts';
import type { Uuid } from '../../kernel/ids.ts';
import { Accounts } from './accounts.ts';
import { type CompareDeps, compare } from './compare.ts';
import {
  FIRST_ID,
  findMissing,
  type MissingOptions,
  type OpenQuarantine,
  openQuarantines,
} from './quarantine.ts';
import { addNumbers, addOpenable, addSums } from './sums.ts';
import type { Quarantined, Released } from './types.ts';

/** How much is looked at by one statement, and goes into one epoch. */
export interface ExamineOptions {
  /** Leaves that one statement compares. */
  readonly pageLeaves: number;
  /** Most requests that one epoch releases; others wait for the next. */
  readonly releasedMax: number;
  readonly missing: MissingOptions;
}

/** What an epoch is to say of a range of the log. */
export interface Examined {
  readonly accounts: Accounts;
  readonly quarantined: readonly Quarantined[];
  readonly released: readonly Released[];
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
  for (let from = start; from < end; from += options.pageLeaves) {
    const to = Math.min(end, from + options.pageLeaves);
    const leaves = await query<LeafRow>(LEAVES, [from, to]);
    invariant(leaves.length === to - from, `the log has the leaves ${from} to ${to}`);
    const ids = leaves.map(({ id }) => id);
    await addNumbers(query, accounts, ids);
    const { mismatches, digests } = await compare(deps, ids);
    for (const { id, leaf } of leaves) {
      const reason = mismatches.get(id);
      if (reason !== undefined) quarantined.push({ requestId: id, reason, leaf });
    }
    const matching = ids.filter((id) => !mismatches.has(id));
    await addSums(query, accounts, matching, digests);
  }
  const released = await release(deps, accounts, { start, end }, options);
  const { missing, until } = await findMissing(query, missingBefore, options.missing);
  return { accounts, quarantined: [...quarantined, ...missing], released, scannedUntil: until };
}

/** Adds what matches by now of what earlier epochs quarantined. A missing leaf is missing no more once the range has it. */
async function release(
  deps: CompareDeps,
  accounts: Accounts,
  range: { readonly start: number; readonly end: number },
  { pageLeaves, releasedMax }: ExamineOptions,
): Promise<readonly Released[]> {
  const released: Released[] = [];
  let after = FIRST_ID;
  while (released.length < releasedMax) {
    const open = await openQuarantines(
      deps.query,
      after,
      Math.min(pageLeaves, releasedMax - released.length),
    );
    const last = open.at(-1);
    if (last === undefined) break;
    after = last.requestId;
    released.push(
      ...open
        .filter((one) => arrives(one, range))
        .map(({ requestId, epoch }) => ({ requestId, epoch, leaf: null })),
    );
    const withLeaf = open.filter(({ leaf }) => leaf !== null);
    const { mismatches, digests } = await compare(
      deps,
      withLeaf.map(({ requestId }) => requestId),
    );
    const matching = withLeaf.filter(({ requestId }) => !mismatches.has(requestId));
    const ids = matching.map(({ requestId }) => requestId);
    await addSums(deps.query, accounts, ids, digests);
    await addOpenable(deps.query, accounts, ids);
    released.push(...matching.map(({ requestId, epoch, leaf }) => ({ requestId, epoch, leaf })));
  }
  return released;
}

function arrives(
  { reason, position }: OpenQuarantine,
  { start, end }: { readonly start: number; readonly end: number },
): boolean {
  return reason === 'LEAF_MISSING' && position !== null && position >= start && position < end;
}
