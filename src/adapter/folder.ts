import { lstat } from 'node:fs/promises';
import { join } from 'node:path';
import { PatchbayError } from '../kernel/errors.ts';
import { confinedPath } from '../safetensors/checkpoint.ts';
import { type ByteSource, openFile } from '../safetensors/source.ts';
import { ADAPTER_FILES, type AdapterFileName, CONFIG_FILE, TENSORS_FILE } from './limits.ts';
import { type AdapterContext, type ReadAdapter, readAdapter } from './read.ts';

/**
 * Reads an adapter from a folder in PEFT's layout, with the same checks as an upload except the proof of effect.
 * Other files of the folder (a model card, a tokenizer) are not looked at.
 */
export async function readAdapterFolder(dir: string, context: AdapterContext): Promise<ReadAdapter> {
  const paths = await adapterFolderFiles(dir);
  const config = await openFile(paths[CONFIG_FILE]);
  let tensors: ByteSource;
  try {
    tensors = await openFile(paths[TENSORS_FILE]);
  } catch (error) {
    await config.close();
    throw error;
  }
  return readAdapter({ config, tensors }, context);
}

/** The paths of an adapter folder's two files; refuses a folder that lacks one, or that holds a pickle instead. */
export async function adapterFolderFiles(dir: string): Promise<Readonly<Record<AdapterFileName, string>>> {
  for (const name of ADAPTER_FILES) {
    if (await exists(join(dir, name))) continue;
    if (name === TENSORS_FILE && (await exists(join(dir, 'adapter_model.bin')))) {
      throw new PatchbayError(
        'ADAPTER_UNSUPPORTED',
        'The weights are in adapter_model.bin, a pickle, which can run code when it is read.',
        { field: 'adapter_model.bin', fix: 'Save again with safe_serialization=True.' },
      );
    }
    throw new PatchbayError('FILE_MISSING', `The folder has no ${name}.`, { field: name });
  }
  return {
    [CONFIG_FILE]: await confinedPath(dir, CONFIG_FILE),
    [TENSORS_FILE]: await confinedPath(dir, TENSORS_FILE),
  };
}

async function exists(path: string): Promise<boolean> {
  try {
    await lstat(path);
    return true;
  } catch {
    return false;
  }
}
