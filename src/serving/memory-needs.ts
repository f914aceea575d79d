import type { BackboneManifest } from '../backbone/manifest.ts';
import { contextLength, PAGE_RANK, pageBytes } from './layout.ts';
import type { MemoryNeeds } from './memory-plan.ts';

const FLOAT_BYTES = 4;
/** The runtime's library and its bookkeeping, measured. */
const RUNTIME_BYTES = 26 * 2 ** 20;
/** The runtime's arena rounds allocations up and keeps freed blocks; measured at 1.3 to 1.9 times what is live. */
const ARENA_FACTOR = 2;

/** The file of packed weights has each in the layout of the kernels and as it was, and all of it ends up resident. */
const PACKED_COPIES = 2;
/** Of 4 bits the file has one copy, and each of the three forms of the graph packs another. */
const PACKED_COPIES_OF_4_BITS = 4;

/** Loads that run at once; more would only share the loader's one thread, and each needs memory. */
const MAX_CONCURRENT_LOADS = 2;

/** What the cache of keys and values holds beyond the rows that are booked, while it grows and shrinks (runner/kv.ts). */
const KV_SLACK_BYTES = 64 * 2 ** 20;

/** What an operator's settings ask of memory, given a backbone. */
export interface MemorySettings {
  readonly maxContext: number | null;
  readonly maxBatch: number;
  readonly prefillTokensPerStep: number;
  readonly maxRank: number;
  /** Whether sessions map packed weights (packed-graphs.ts), as on the CPU. */
  readonly packed: boolean;
}

/** What serving a backbone takes, estimated from its shape; docs/operating/running.md compares it with measurements. */
export function memoryNeeds(manifest: BackboneManifest, settings: MemorySettings): MemoryNeeds {
  const { shape } = manifest;
  const context = contextLength(shape, settings.maxContext);
  const tokens = settings.prefillTokensPerStep;
  // The largest values of a layer that live at once: both halves of the MLP, and scores before and after softmax.
  const mlp = 3 * tokens * shape.intermediateSize;
  const scores = 2 * shape.heads * tokens * Math.min(context, 4 * tokens);
  const newKv = 2 * shape.layers * shape.kvHeads * shape.headDim * tokens;
  const logits = settings.maxBatch * shape.vocabSize;
  // A tied embedding is looked up in one copy and multiplied with in another.
  const tied = shape.tiedEmbeddings ? shape.vocabSize * shape.hiddenSize * FLOAT_BYTES : 0;
  const packedCopies = manifest.bits === 4 ? PACKED_COPIES_OF_4_BITS : PACKED_COPIES;
  return {
    weightBytes: (settings.packed ? packedCopies : 1) * manifest.dataBytes + tied + RUNTIME_BYTES,
    stepBytes: KV_SLACK_BYTES + ARENA_FACTOR * FLOAT_BYTES * (mlp + scores + newKv + logits),
    sequenceBytes: 2 * shape.layers * shape.kvHeads * shape.headDim * FLOAT_BYTES * context,
    adapterBytes: Math.ceil(settings.maxRank / PAGE_RANK) * pageBytes(shape),
    zeroPageBytes: pageBytes(shape),
    maxBatch: settings.maxBatch,
    maxConcurrentLoads: MAX_CONCURRENT_LOADS,
  };
}
