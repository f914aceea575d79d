import type { PackedAdapter } from '../runner.ts';
import { type AdapterBank, ZERO_SLOT } from './bank.ts';
import type { IndexedWork } from './batches.ts';

/** How the tokens of a run find their adapter pages. */
export interface PageGrouping {
  /** Bank range `[from, to)` that the run reads; empty when no token has an adapter. */
  readonly from: number;
  readonly to: number;
  /** M: tokens of the largest group. */
  readonly width: number;
  /** `[G, M]`, see the graph contract. */
  readonly groupIndex: BigInt64Array;
  /** J: pages of the token with the most. */
  readonly pagesPerToken: number;
  /** U: number of tokens, or 1 when none of them has a page. */
  readonly updates: number;
  /** `[U, J, 2]`. */
  readonly ungroupIndex: BigInt64Array;
  /** `[U, 1, J]`. */
  readonly weights: Float32Array;
}

/**
 * Groups a run's packed tokens by adapter page. Tokens with fewer pages than others read the zero slot, which holds
 * zero weights and is given a row of zeros: its result is exactly zero, and no other token's overflow can reach them.
 */
export function groupByPage(rows: readonly IndexedWork[], bank: AdapterBank): PageGrouping {
  const tokens = rows.flatMap((row) => {
    const pages = row.adapters.flatMap(({ adapter, weight }) =>
      adapter.pages.map((_, page) => ({ slot: bank.slot(adapter.digest, page), weight })),
    );
    return row.tokens.map(() => pages);
  });
  const pagesPerToken = tokens.reduce((max, pages) => Math.max(max, pages.length), 0);
  const groups = new Map<number, number[]>();
  const member: { slot: number; place: number; weight: number }[] = [];
  tokens.forEach((pages, token) => {
    for (let j = 0; j < pagesPerToken; j++) {
      const page = pages[j] ?? { slot: ZERO_SLOT, weight: 0 };
      const group = groups.get(page.slot) ?? [];
      // The zero slot's one member is the row of zeros, which serves every token.
      if (page.slot !== ZERO_SLOT) group.push(token);
      else if (group.length === 0) group.push(tokens.length);
      groups.set(page.slot, group);
      member.push({ slot: page.slot, place: group.length - 1, weight: page.weight });
    }
  });
  const slots = [...groups.keys()];
  const from = slots.length === 0 ? 0 : Math.min(...slots);
  const to = slots.length === 0 ? 0 : Math.max(...slots) + 1;
  const width = Math.max(0, ...[...groups.values()].map((group) => group.length));
  const groupIndex = new BigInt64Array((to - from) * width).fill(BigInt(tokens.length));
  for (const [slot, group] of groups) {
    group.forEach((token, place) => {
      groupIndex[(slot - from) * width + place] = BigInt(token);
    });
  }
  return {
    from,
    to,
    width,
    groupIndex,
    pagesPerToken,
    updates: pagesPerToken === 0 ? 1 : tokens.length,
    ungroupIndex: BigInt64Array.from(
      member.flatMap(({ slot, place }) => [BigInt(slot - from), BigInt(place)]),
    ),
    weights: Float32Array.from(member, ({ weight }) => weight),
  };
}

/** How the rows of a decode run find their adapters, where each has exactly one and all have equally many pages. */
export interface AdapterGrouping {
  /** First bank slot that the run reads. */
  readonly from: number;
  /** G: adapters between the first and the last that the run needs, gaps included. */
  readonly groups: number;
  /** P: pages of each. */
  readonly pages: number;
  /** M: rows of the adapter with the most. */
  readonly width: number;
  /** `[G, 1, M]`, see the graph contract. */
  readonly groupIndex: BigInt64Array;
  /** `[N]`. */
  readonly memberIndex: BigInt64Array;
}

/**
 * Groups rows of one token by adapter, or returns null if that is not all there is to it: a row has a blend, a weight or
 * no adapter, page counts differ, or the bank holds an adapter's pages apart. Padding repeats a row of the same group, so
 * that nothing of another sequence meets an adapter that is not its own; in gaps, whose results nobody reads, it is row 0.
 */
export function groupByAdapter(rows: readonly IndexedWork[], bank: AdapterBank): AdapterGrouping | null {
  const [first] = rows;
  const pages = first?.adapters[0]?.adapter.pages.length ?? 0;
  if (pages === 0) return null;
  const members = new Map<number, number[]>();
  for (const [index, { adapters }] of rows.entries()) {
    const [use, ...others] = adapters;
    if (use === undefined || others.length > 0 || use.weight !== 1 || use.adapter.pages.length !== pages) {
      return null;
    }
    const slot = adjacentSlot(use.adapter, bank);
    if (slot === null) return null;
    members.set(slot, [...(members.get(slot) ?? []), index]);
  }
  const from = Math.min(...members.keys());
  const groups = (Math.max(...members.keys()) - from) / pages + 1;
  if (![...members.keys()].every((slot) => (slot - from) % pages === 0)) return null;
  const width = Math.max(...[...members.values()].map((group) => group.length));
  const groupIndex = new BigInt64Array(groups * width);
  const memberIndex = new BigInt64Array(rows.length);
  for (const [slot, group] of members) {
    const base = ((slot - from) / pages) * width;
    for (let place = 0; place < width; place++)
      groupIndex[base + place] = BigInt(group[place] ?? group[0] ?? 0);
    group.forEach((row, place) => {
      memberIndex[row] = BigInt(base + place);
    });
  }
  return { from, groups, pages, width, groupIndex, memberIndex };
}

/** Where an adapter's pages begin in the bank if they follow each other there. */
function adjacentSlot(adapter: PackedAdapter, bank: AdapterBank): number | null {
  const first = bank.slot(adapter.digest, 0);
  const adjacent = adapter.pages.every((_, page) => bank.slot(adapter.digest, page) === first + page);
  return adjacent ? first : null;
}
