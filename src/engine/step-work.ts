import type { StepWork } from './cost-model.ts';
import type { Entry } from './entry.ts';
import type { PlannedRow } from './step-plan.ts';

/** What a planned step amounts to, and which rows of it share the pages of an adapter. */
export class StepUse {
  /** Rows by the digest of the adapter that they read. */
  readonly #readers = new Map<string, number>();

  /** Looks at the next step's rows. */
  describe(rows: readonly PlannedRow[], entry: (key: number) => Entry): StepWork {
    this.#readers.clear();
    let decodeRows = 0;
    let prefillTokens = 0;
    let distinct = 0;
    let contextTokens = 0;
    for (const { key, tokens, past } of rows) {
      const { promptTokens, pages } = entry(key);
      if (tokens === 1 && past >= promptTokens) decodeRows += 1;
      else prefillTokens += tokens;
      contextTokens += past;
      for (const adapter of pages) {
        const readers = this.#readers.get(adapter.digest) ?? 0;
        if (readers === 0) distinct += adapter.pages;
        this.#readers.set(adapter.digest, readers + 1);
      }
    }
    return { decodeRows, prefillTokens, pages: distinct, contextTokens };
  }

  /** The pages that a sequence reads, each divided among the rows that read it. */
  pagesShare({ pages }: Entry): number {
    let share = 0;
    for (const adapter of pages) share += adapter.pages / (this.#readers.get(adapter.digest) ?? 1);
    return share;
  }
}
