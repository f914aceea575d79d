import { open, stat } from 'node:fs/promises';
import { InputError } from '../input/errors.ts';
import { type NamedBytes, readFileBytes } from '../input/read.ts';
import { shown } from '../shown.ts';
import { openFolder } from './folder.ts';
import { openZip } from './zip.ts';

/** One file of a bundle. Its bytes are read when they are asked for, and not kept. */
export interface BundleFile {
  /** As it may be printed. */
  readonly name: string;
  readonly read: () => Promise<NamedBytes>;
}

/** Documents that are given together. */
export interface Bundle {
  readonly files: readonly BundleFile[];
  readonly close: () => Promise<void>;
}

/** Opens a ZIP file, a folder, or a single document. */
export async function openBundle(path: string): Promise<Bundle> {
  const found = await stat(path).catch(() => null);
  if (found === null) {
    const fix = 'Check the path and who may read it.';
    throw new InputError('PROOF_UNREADABLE', `${shown(path)} cannot be read.`, fix);
  }
  if (found.isDirectory()) return openFolder(path);
  if (await isZip(path)) return openZip(path);
  return {
    files: [{ name: shown(path), read: () => readFileBytes(path) }],
    close: () => Promise.resolve(),
  };
}

/** Every ZIP file that has something begins so; an empty one with its end. No JSON text does. */
async function isZip(path: string): Promise<boolean> {
  const file = await open(path, 'r').catch(() => null);
  if (file === null) return false;
  try {
    const { buffer, bytesRead } = await file.read(Buffer.alloc(4), 0, 4, 0);
    const start = buffer.toString('latin1');
    return bytesRead === 4 && (start === 'PK\x03\x04' || start === 'PK\x05\x06');
  } catch {
    return false;
  } finally {
    await file.close();
  }
}
