import { Tensor } from 'onnxruntime-node';
import { GRAPH_INPUTS, keySplitName, maskName, pastName } from '../../kernel/graph.ts';
import type { ModelShape } from '../../kernel/model.ts';
import type { AdapterBank } from './bank.ts';
import type { Batch } from './batches.ts';
import { type AdapterGrouping, groupByAdapter, groupByPage } from './grouping.ts';
import { attentionMasks, type LaneLayout, laneLayout, lanePositions } from './lanes.ts';
import type { Feeds, RunForm } from './sessions.ts';

/** Inputs that depend on which rows run and not on how far they are. */
interface StableFeeds {
  readonly form: RunForm;
  readonly lanes: LaneLayout;
  readonly feeds: Feeds;
}

/**
 * Builds the inputs of model runs. Between decode steps of the same rows only tokens, positions and masks change; what
 * does not is kept, as hundreds of tensors would otherwise be made anew for each step.
 */
export class FeedBuilder {
  readonly #shape: ModelShape;
  readonly #bank: AdapterBank;
  /** Which forms of the graph there are. */
  readonly #has: (form: RunForm) => boolean;
  #kept: { readonly signature: readonly unknown[]; readonly stable: StableFeeds } | null = null;

  constructor(shape: ModelShape, bank: AdapterBank, has: (form: RunForm) => boolean) {
    this.#shape = shape;
    this.#bank = bank;
    this.#has = has;
  }

  /** Inputs of a run, and which form of the graph takes them: the one with the fewest nodes that can. */
  build(batch: Batch): StableFeeds {
    const { form, lanes, feeds } = this.#stable(batch);
    return { form, lanes, feeds: { ...feeds, ...tokenFeeds(batch), ...placeFeeds(batch, lanes) } };
  }

  #stable(batch: Batch): StableFeeds {
    if (batch.caches.length === 0) return this.#makeStable(batch);
    const signature = this.#signature(batch);
    const kept = this.#kept;
    if (kept !== null && sameItems(kept.signature, signature)) return kept.stable;
    const stable = this.#makeStable(batch);
    this.#kept = { signature, stable };
    return stable;
  }

  /** Everything that stable feeds are made from; a row's adapters are one array for all of its life. */
  #signature(batch: Batch): readonly unknown[] {
    const signature: unknown[] = [this.#bank.generation];
    for (const { kvClass, from, to } of batch.caches) signature.push(kvClass, kvClass.generation, from, to);
    for (const { row, tokens, adapters } of batch.rows) signature.push(row, tokens.length, adapters);
    return signature;
  }

  #makeStable(batch: Batch): StableFeeds {
    const lanes = laneLayout(batch);
    const { form, grouping } = this.#form(batch);
    const feeds: Feeds = {};
    if (form === 'general') {
      feeds[GRAPH_INPUTS.laneIndex] = new Tensor('int64', lanes.laneIndex, [lanes.rows, lanes.width]);
      feeds[GRAPH_INPUTS.unlaneIndex] = new Tensor('int64', lanes.unlaneIndex, [lanes.unlaneIndex.length]);
      feeds[GRAPH_INPUTS.segmentRows] = int64(lanes.segments.map(({ rows }) => rows));
      this.#addPages(feeds, batch);
    } else if (grouping !== null) this.#addAdapters(feeds, grouping);
    this.#addCaches(feeds, batch, lanes);
    return { form, lanes, feeds };
  }

  #form(batch: Batch): { readonly form: RunForm; readonly grouping: AdapterGrouping | null } {
    const general = { form: 'general', grouping: null } as const;
    if (!isSingle(batch)) return general;
    if (batch.rows.every((row) => row.adapters.length === 0)) {
      return this.#has('plain') ? { form: 'plain', grouping: null } : general;
    }
    const grouping = this.#has('adapted') ? groupByAdapter(batch.rows, this.#bank) : null;
    return grouping === null ? general : { form: 'adapted', grouping };
  }

  #addCaches(feeds: Feeds, { caches }: Batch, lanes: LaneLayout): void {
    const { kvHeads, headDim, layers } = this.#shape;
    const nothing = new Float32Array(0);
    lanes.segments.forEach(({ rows, capacity }, segment) => {
      const cache = caches[segment];
      const dims = [rows, kvHeads, 1, capacity, headDim];
      feeds[keySplitName(segment)] = int64([capacity, lanes.width]);
      for (let layer = 0; layer < layers; layer++) {
        (['key', 'value'] as const).forEach((kind, offset) => {
          const array = cache?.kvClass.arrays[2 * layer + offset];
          const stride = cache?.kvClass.stride ?? 0;
          const view =
            cache === undefined ? nothing : array?.subarray(cache.from * stride, cache.to * stride);
          feeds[pastName(layer, kind, segment)] = new Tensor('float32', view ?? nothing, dims);
        });
      }
    });
  }

  #addPages(feeds: Feeds, batch: Batch): void {
    const grouping = groupByPage(batch.rows, this.#bank);
    const { pagesPerToken, updates } = grouping;
    const groups = grouping.to - grouping.from;
    feeds[GRAPH_INPUTS.groupIndex] = new Tensor('int64', grouping.groupIndex, [groups, grouping.width]);
    feeds[GRAPH_INPUTS.ungroupIndex] = new Tensor('int64', grouping.ungroupIndex, [
      updates,
      pagesPerToken,
      2,
    ]);
    feeds[GRAPH_INPUTS.pageWeight] = new Tensor('float32', grouping.weights, [updates, 1, pagesPerToken]);
    this.#bank.tensors.forEach((tensor, index) => {
      const size = tensor.rows * tensor.columns;
      const view = this.#bank.array(index).subarray(grouping.from * size, grouping.to * size);
      feeds[tensor.name] = new Tensor('float32', view, [groups, tensor.rows, tensor.columns]);
    });
  }

  /** The pages of an adapter follow each other, so its B is one matrix of all its ranks, without a copy. */
  #addAdapters(feeds: Feeds, grouping: AdapterGrouping): void {
    const { from, groups, pages, width, groupIndex, memberIndex } = grouping;
    feeds[GRAPH_INPUTS.groupIndex] = new Tensor('int64', groupIndex, [groups, 1, width]);
    feeds[GRAPH_INPUTS.memberIndex] = new Tensor('int64', memberIndex, [memberIndex.length]);
    this.#bank.tensors.forEach((tensor, index) => {
      const { kind, name, rows, columns } = tensor;
      const view = this.#bank
        .array(index)
        .subarray(from * rows * columns, (from + groups * pages) * rows * columns);
      const dims = kind === 'a' ? [groups, pages, rows, columns] : [groups, pages * rows, columns];
      feeds[name] = new Tensor('float32', view, dims);
    });
  }
}

/** Whether every lane of attention is one row's one token, in the order of the rows. */
function isSingle({ rows, caches }: Batch): boolean {
  const [range, ...others] = caches;
  if (range === undefined || others.length > 0 || rows.length !== range.to - range.from) return false;
  return rows.every(({ row, tokens }, lane) => {
    return tokens.length === 1 && range.kvClass.slots[range.from + lane] === row;
  });
}

function tokenFeeds(batch: Batch): Feeds {
  const ids: number[] = [];
  const chosen: number[] = [];
  const wanted: number[] = [];
  for (const row of batch.rows) {
    ids.push(...row.tokens);
    if (!row.wantsLogits) continue;
    if (!row.greedy) wanted.push(chosen.length);
    chosen.push(ids.length - 1);
  }
  return {
    [GRAPH_INPUTS.tokenIds]: int64(ids),
    [GRAPH_INPUTS.logitIndex]: int64(chosen),
    [GRAPH_INPUTS.logitRows]: int64(wanted),
  };
}

function placeFeeds(batch: Batch, lanes: LaneLayout): Feeds {
  const masks = attentionMasks(batch, lanes);
  const feeds: Feeds = {
    [GRAPH_INPUTS.positions]: new Tensor('int64', lanePositions(batch, lanes), [lanes.rows, lanes.width]),
  };
  lanes.segments.forEach(({ rows, capacity }, segment) => {
    const dims = [rows, 1, 1, lanes.width, capacity + lanes.width];
    feeds[maskName(segment)] = new Tensor('float32', masks[segment] ?? new Float32Array(0), dims);
  });
  return feeds;
}

function sameItems(a: readonly unknown[], b: readonly unknown[]): boolean {
  return a.length === b.length && a.every((item, index) => item === b[index]);
}

function int64(values: readonly number[], dims: readonly number[] = [values.length]): Tensor {
  return new Tensor('int64', BigInt64Array.from(values, BigInt), dims);
}
