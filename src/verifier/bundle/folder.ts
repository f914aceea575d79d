import { opendir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { readFileBytes } from '../input/read.ts';
import { shown } from '../shown.ts';
import { BundleLimits, refused } from './limits.ts';
import type { Bundle } from './source.ts';

/** Folders within folders; more than anybody makes, and few enough to be walked through. */
const DEEPEST = 32;

/** Lists the documents of a folder, and refuses anything else in it, links included. */
export async function openFolder(root: string): Promise<Bundle> {
  const limits = new BundleLimits(shown(root));
  const paths: string[] = [];
  for await (const path of walk(root, '', 0)) {
    const { size } = await stat(join(root, path));
    limits.add(path, size);
    paths.push(path);
  }
  const files = paths.sort().map((path) => ({
    name: shown(path),
    read: async () => ({ ...(await readFileBytes(join(root, path))), name: shown(path) }),
  }));
  return { files, close: () => Promise.resolve() };
}

async function* walk(root: string, folder: string, depth: number): AsyncGenerator<string> {
  if (depth > DEEPEST) throw refused(shown(root), `has more than ${DEEPEST} folders in each other`);
  let opened: Awaited<ReturnType<typeof opendir>>;
  try {
    opened = await opendir(join(root, folder));
  } catch {
    throw refused(shown(root), `has the folder ${shown(folder)}, which cannot be read`);
  }
  for await (const entry of opened) {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) yield* walk(root, path, depth + 1);
    else if (entry.isFile()) yield path;
    else throw refused(shown(root), `has ${shown(path)}, which is neither a file nor a folder`);
  }
}
