/**
 * Shapes shared by backbones, adapters and the engine. Everything about a model that another part of the system
 * must agree on is declared here, and only here.
 */

/** Architectures whose forward pass is implemented exactly. */
export const FAMILIES = ['llama', 'mistral', 'qwen2', 'qwen3'] as const;
export type Family = (typeof FAMILIES)[number];

/** Rotary scaling of Llama 3.1 and later, as `config.json` states it. */
export interface Llama3RopeScaling {
  readonly factor: number;
  readonly lowFreqFactor: number;
  readonly highFreqFactor: number;
  readonly originalMaxPositions: number;
}

/** The dimensions and switches that determine a backbone's graph. Sizes are element counts. */
export interface ModelShape {
  readonly family: Family;
  readonly hiddenSize: number;
  readonly layers: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly intermediateSize: number;
  readonly vocabSize: number;
  readonly maxPositions: number;
  readonly rmsNormEps: number;
  readonly ropeTheta: number;
  readonly ropeScaling: Llama3RopeScaling | null;
  readonly tiedEmbeddings: boolean;
  /** q, k and v projections carry a bias (Qwen2). */
  readonly qkvBias: boolean;
  /** RMSNorm over every head of q and k before the rotary embedding (Qwen3). */
  readonly qkNorm: boolean;
}

/** The linear projections of a layer that may carry LoRA, by their Hugging Face module names. */
export const LORA_TARGETS = [
  'q_proj',
  'k_proj',
  'v_proj',
  'o_proj',
  'gate_proj',
  'up_proj',
  'down_proj',
] as const;
export type LoraTarget = (typeof LORA_TARGETS)[number];

/** Input and output widths of a projection. */
export function targetDims(
  shape: ModelShape,
  target: LoraTarget,
): { readonly in: number; readonly out: number } {
  const q = shape.heads * shape.headDim;
  const kv = shape.kvHeads * shape.headDim;
  switch (target) {
    case 'q_proj':
      return { in: shape.hiddenSize, out: q };
    case 'k_proj':
    case 'v_proj':
      return { in: shape.hiddenSize, out: kv };
    case 'o_proj':
      return { in: q, out: shape.hiddenSize };
    case 'gate_proj':
    case 'up_proj':
      return { in: shape.hiddenSize, out: shape.intermediateSize };
    case 'down_proj':
      return { in: shape.intermediateSize, out: shape.hiddenSize };
  }
}

/** One LoRA update: `y += scale * B (A x)`. */
export interface LoraModule {
  /** Layer index from 0. */
  readonly layer: number;
  readonly target: LoraTarget;
  readonly rank: number;
  /** `lora_alpha / rank`, or `lora_alpha / sqrt(rank)` with rslora. */
  readonly scale: number;
  /** Row-major `[rank, in]`. */
  readonly a: Float32Array;
  /** Row-major `[out, rank]`. */
  readonly b: Float32Array;
}

/** All updates of one adapter version, as its file states them. */
export interface LoraWeights {
  /** Content digest of the version, lower-case hex SHA-256; the key of every cache. */
  readonly digest: string;
  readonly modules: readonly LoraModule[];
}
