import { type BankTensor, pageLayout } from '../../kernel/graph.ts';
import type { LoraModule, LoraWeights, ModelShape } from '../../kernel/model.ts';
import type { PackedAdapter } from '../runner.ts';

/**
 * Cuts an adapter into pages of fixed rank in the layout of {@link pageLayout}. The scale is folded into B, ranks that
 * do not fill the last page are zero, and so are projections that the adapter does not touch: a page adds exactly its
 * slice of `scale * B A x`, and the sum over pages is the whole update.
 */
export function packAdapter(weights: LoraWeights, shape: ModelShape, pageRank: number): PackedAdapter {
  const layout = pageLayout(shape, pageRank);
  const modules = new Map(weights.modules.map((module) => [`${module.layer}.${module.target}`, module]));
  const rank = weights.modules.reduce((max, module) => Math.max(max, module.rank), 0);
  const pages: Float32Array[] = [];
  for (let from = 0; from < rank; from += pageRank) {
    const page = new Float32Array(layout.elements);
    for (const tensor of layout.tensors) {
      tensor.targets.forEach((target, part) => {
        const module = modules.get(`${tensor.layer}.${target}`);
        if (module === undefined) return;
        if (tensor.kind === 'a') copyA(page, tensor, module, from, pageRank, part * pageRank);
        else copyB(page, tensor, module, from, pageRank);
      });
    }
    pages.push(page);
  }
  return { digest: weights.digest, rank, bytes: pages.length * layout.elements * 4, pages };
}

/** Transposes rows `[from, from + pageRank)` of A `[rank, in]` into columns of `[in, columns]`. */
function copyA(
  page: Float32Array,
  tensor: BankTensor,
  module: LoraModule,
  from: number,
  pageRank: number,
  column: number,
): void {
  const width = tensor.rows;
  const to = Math.min(from + pageRank, module.rank);
  for (let r = from; r < to; r++) {
    const source = r * width;
    let at = tensor.offset + column + (r - from);
    for (let k = 0; k < width; k++) {
      page[at] = module.a[source + k] ?? 0;
      at += tensor.columns;
    }
  }
}

/** Transposes columns `[from, from + pageRank)` of B `[out, rank]` into rows of `[pageRank, out]`, scaled. */
function copyB(
  page: Float32Array,
  tensor: BankTensor,
  module: LoraModule,
  from: number,
  pageRank: number,
): void {
  const to = Math.min(from + pageRank, module.rank);
  for (let r = from; r < to; r++) {
    const at = tensor.offset + (r - from) * tensor.columns;
    for (let n = 0; n < tensor.columns; n++) {
      page[at + n] = (module.b[n * module.rank + r] ?? 0) * module.scale;
    }
  }
}
