import { z } from 'zod';
import type { Database, Tx } from '../db/client.ts';
import { keyset, type Page, type PageRequest, toPage } from '../db/page.ts';
import type { Clock } from '../kernel/clock.ts';
import { PatchbayError } from '../kernel/errors.ts';
import { newId, type Uuid } from '../kernel/ids.ts';
import { FAMILIES, type ModelShape } from '../kernel/model.ts';
import type { BackboneModel } from './types.ts';

const shapeJson: z.ZodType<ModelShape> = z.object({
  family: z.enum(FAMILIES),
  hiddenSize: z.number(),
  layers: z.number(),
  heads: z.number(),
  kvHeads: z.number(),
  headDim: z.number(),
  intermediateSize: z.number(),
  vocabSize: z.number(),
  maxPositions: z.number(),
  rmsNormEps: z.number(),
  ropeTheta: z.number(),
  ropeScaling: z
    .object({
      factor: z.number(),
      lowFreqFactor: z.number(),
      highFreqFactor: z.number(),
      originalMaxPositions: z.number(),
    })
    .nullable(),
  tiedEmbeddings: z.boolean(),
  qkvBias: z.boolean(),
  qkNorm: z.boolean(),
});

interface BackboneRow {
  readonly id: Uuid;
  readonly name: string;
  readonly digest: string;
  readonly shape: unknown;
  readonly state: 'ACTIVE' | 'RETIRED';
}

function toBackbone({ id, name, digest, shape, state }: BackboneRow): BackboneModel {
  return { id, name, digest, shape: shapeJson.parse(shape), state };
}

/** Puts a backbone that was imported into the registry, or finds it there by its digest. */
export async function registerBackbone(
  dependencies: { readonly database: Database; readonly clock: Clock },
  backbone: { readonly name: string; readonly digest: string; readonly shape: ModelShape },
): Promise<BackboneModel> {
  const { digest, name, shape } = backbone;
  return dependencies.database.withSystem(async (tx) => {
    const createdAt = new Date(dependencies.clock.nowMs());
    await tx.$executeRaw`
      INSERT INTO backbone (id, name, digest, family, shape, created_at)
      VALUES (${newId(dependencies.clock)}::uuid, ${name}, ${digest}, ${shape.family}, ${JSON.stringify(shape)}::jsonb,
              ${createdAt})
      ON CONFLICT (digest) DO NOTHING`;
    return toBackbone(await tx.backbone.findUniqueOrThrow({ where: { digest } }));
  });
}

/** The backbones that are not retired, oldest first. */
export async function listBackbones(tx: Tx, page: PageRequest): Promise<Page<BackboneModel>> {
  const { where, ...order } = keyset(page);
  const rows = await tx.backbone.findMany({ where: { ...where, state: 'ACTIVE' }, ...order });
  return toPage(rows, page, toBackbone);
}

/** Those with these digests that are not retired, in no order. */
export async function findBackbones(tx: Tx, digests: readonly string[]): Promise<readonly BackboneModel[]> {
  const rows = await tx.backbone.findMany({ where: { state: 'ACTIVE', digest: { in: [...digests] } } });
  return rows.map(toBackbone);
}

/** An active backbone by its digest. */
export async function requireBackbone(tx: Tx, digest: string): Promise<BackboneModel> {
  const row = await tx.backbone.findUnique({ where: { digest } });
  if (row === null || row.state !== 'ACTIVE') {
    throw new PatchbayError('BACKBONE_NOT_LOADED', 'The named backbone is not in the registry.', {
      field: 'backbone',
    });
  }
  return toBackbone(row);
}
