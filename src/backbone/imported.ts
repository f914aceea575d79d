import { createHash } from 'node:crypto';
import { readdir, readFile, realpath, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type ImportedBackbone, type ImportOptions, importBackbone } from './import.ts';
import { readManifest } from './manifest.ts';

/**
 * Like {@link importBackbone}, but a checkpoint folder whose files have not changed since its last import (by name,
 * size and time of modification) is not read again: a later start must not take as long as the first.
 */
export async function importOnce(options: ImportOptions): Promise<ImportedBackbone> {
  const known = await findImported(options);
  if (known !== null) return known;
  const imported = await importBackbone(options);
  await writeFile(await notePath(options), `${imported.manifest.digest}\n`);
  return imported;
}

/** What an unchanged checkpoint folder was imported as, or null. */
export async function findImported(source: ImportSource): Promise<ImportedBackbone | null> {
  const known = await readFile(await notePath(source), 'utf8').catch(() => null);
  if (known === null) return null;
  const dir = join(source.root, known.trim());
  const manifest = await readManifest(dir).catch(() => null);
  return manifest === null ? null : { dir, manifest };
}

type ImportSource = Pick<ImportOptions, 'dir' | 'root' | 'bits'>;

async function notePath(source: ImportSource): Promise<string> {
  return join(source.root, `source-${await fingerprint(source)}`);
}

/** Lists the backbones that were imported into a folder. */
export async function listImported(root: string): Promise<readonly ImportedBackbone[]> {
  const names = await readdir(root).catch(() => []);
  const found: ImportedBackbone[] = [];
  for (const name of names.filter((entry) => /^[0-9a-f]{64}$/.test(entry)).sort()) {
    const dir = join(root, name);
    // What an older version imported is no backbone for this one; a start imports its checkpoint again.
    const manifest = await readManifest(dir).catch(() => null);
    if (manifest !== null) found.push({ dir, manifest });
  }
  return found;
}

async function fingerprint({ dir, bits }: ImportSource): Promise<string> {
  const hash = createHash('sha256').update(`${await realpath(dir).catch(() => dir)}\n${bits}\n`);
  for (const name of (await readdir(dir).catch(() => [])).sort()) {
    const { size, mtimeMs, isFile } = await stat(join(dir, name)).then((entry) => ({
      size: entry.size,
      mtimeMs: entry.mtimeMs,
      isFile: entry.isFile(),
    }));
    if (isFile) hash.update(`${name}\n${size}\n${mtimeMs}\n`);
  }
  return hash.digest('hex').slice(0, 32);
}
