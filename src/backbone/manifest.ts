import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { PatchbayError } from '../kernel/errors.ts';
import { FAMILIES } from '../kernel/model.ts';

/** Files of an imported backbone's folder. */
export const BACKBONE_FILES = {
  manifest: 'manifest.json',
  model: 'model.onnx',
  data: 'model.onnx.data',
  single: 'single.onnx',
  singlePlain: 'single-plain.onnx',
  deviceStep: 'device-step.onnx',
  devicePool: 'device-pool.onnx',
  deviceBank: 'device-bank.onnx',
  config: 'config.json',
  generationConfig: 'generation_config.json',
  tokenizer: 'tokenizer.json',
  tokenizerConfig: 'tokenizer_config.json',
} as const;

/** Files of the checkpoint that travel along; the last three may be absent. */
export const CARRIED_FILES: readonly { readonly name: string; readonly required: boolean }[] = [
  { name: BACKBONE_FILES.config, required: true },
  { name: BACKBONE_FILES.tokenizer, required: false },
  { name: BACKBONE_FILES.tokenizerConfig, required: false },
  { name: BACKBONE_FILES.generationConfig, required: false },
  { name: 'special_tokens_map.json', required: false },
  { name: 'chat_template.jinja', required: false },
];

const count = z.number().int().positive();

const manifestSchema = z
  .object({
    /** Version of the graph's layout: a runner refuses others. */
    format: z.literal(3),
    /** SHA-256 over everything that determines what the backbone computes; lower-case hex. */
    digest: z.string().regex(/^[0-9a-f]{64}$/),
    name: z.string(),
    bits: z.union([z.literal(32), z.literal(8), z.literal(4)]),
    shape: z.object({
      family: z.enum(FAMILIES),
      hiddenSize: count,
      layers: count,
      heads: count,
      kvHeads: count,
      headDim: count,
      intermediateSize: count,
      vocabSize: count,
      maxPositions: count,
      rmsNormEps: z.number(),
      ropeTheta: z.number(),
      ropeScaling: z
        .object({
          factor: z.number(),
          lowFreqFactor: z.number(),
          highFreqFactor: z.number(),
          originalMaxPositions: count,
        })
        .nullable(),
      tiedEmbeddings: z.boolean(),
      qkvBias: z.boolean(),
      qkNorm: z.boolean(),
    }),
    eosTokenIds: z.array(z.number().int().nonnegative()),
    parameters: count,
    dataBytes: count,
  })
  .readonly();

/** What an import wrote. */
export type BackboneManifest = z.infer<typeof manifestSchema>;

/** Reads the manifest of an imported backbone. */
export async function readManifest(dir: string): Promise<BackboneManifest> {
  const path = join(dir, BACKBONE_FILES.manifest);
  const text = await readFile(path, 'utf8').catch((cause: unknown) => {
    throw new PatchbayError('FILE_MISSING', `There is no imported backbone in ${dir}.`, { cause });
  });
  const parsed = manifestSchema.safeParse(JSON.parse(text));
  if (!parsed.success) {
    throw new PatchbayError('BACKBONE_INVALID', `${path} is not a manifest of this version.`, {
      fix: 'Import the checkpoint again.',
      cause: parsed.error,
    });
  }
  return parsed.data;
}
