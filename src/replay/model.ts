import { mkdtemp, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { readAdapterFolder } from '../adapter/folder.ts';
import { DEFAULT_ADAPTER_LIMITS } from '../adapter/limits.ts';
import type { ReadAdapter } from '../adapter/read.ts';
import { removeAbandoned } from '../backbone/durable.ts';
import { type ImportedBackbone, type ImportOptions, importBackbone } from '../backbone/import.ts';
import { BACKBONE_FILES } from '../backbone/manifest.ts';
import { PatchbayError } from '../kernel/errors.ts';
import type { ModelShape } from '../kernel/model.ts';

/** What a deployment may allow at most; the reader of a receipt need not know what it does allow. */
const HIGHEST = { maxRank: 1_024, maxTensorsBytes: 64 * 1024 ** 3 };

/** Prefix of the folders that backbones are imported into. */
const FOLDER = 'patchbay-replay-';

/** Where the weights are. */
export type BackboneSource = Pick<ImportOptions, 'dir' | 'bits' | 'onProgress'>;

/**
 * Imports a checkpoint into a folder of its own, lends it to the work, and removes it. Importing reads and hashes every
 * weight, so the digest is that of what the work runs on, and no note of an earlier import is believed.
 */
export async function withBackbone<T>(
  source: BackboneSource,
  work: (backbone: ImportedBackbone) => Promise<T>,
): Promise<T> {
  await requireCheckpoint(source.dir);
  // What an interrupted replay left; somebody else's is theirs to remove.
  await removeAbandoned(tmpdir(), FOLDER).catch(() => {});
  const root = await mkdtemp(join(tmpdir(), `${FOLDER}${process.pid}-`));
  try {
    return await work(await importBackbone({ ...source, root }));
  } finally {
    await rm(root, { recursive: true, force: true });
  }
}

/** Reads adapter folders as an upload is read, each with its digest on this backbone. */
export async function readAdapters(
  dirs: readonly string[],
  shape: ModelShape,
  backboneDigest: string,
): Promise<readonly ReadAdapter[]> {
  const limits = { ...DEFAULT_ADAPTER_LIMITS, ...HIGHEST };
  const adapters: ReadAdapter[] = [];
  for (const dir of dirs) adapters.push(await readAdapterFolder(dir, { shape, backboneDigest, limits }));
  return adapters;
}

/** An imported folder has no longer what its digest is made of, so nothing could be concluded from it. */
async function requireCheckpoint(dir: string): Promise<void> {
  const found = await stat(dir).catch(() => null);
  if (found?.isDirectory() !== true) {
    throw new PatchbayError('FILE_MISSING', `There is no folder ${dir}.`, { field: 'backbone' });
  }
  const imported = await stat(join(dir, BACKBONE_FILES.manifest)).catch(() => null);
  if (imported !== null) {
    throw new PatchbayError('FILE_MISSING', `${dir} holds an imported backbone and not its checkpoint.`, {
      field: 'backbone',
      fix: 'Give the checkpoint folder that it was imported from: the digest is that of the weights in it.',
    });
  }
}
