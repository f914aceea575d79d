import { access, realpath } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { PatchbayError } from '../kernel/errors.ts';
import type { SafetensorsLimits, TensorInfo } from './header.ts';
import { clip, isJsonObject, type JsonValue, parseStrictJson, StrictJsonError } from './json.ts';
import { openFile, openSafetensors, type TensorSource } from './source.ts';

const SINGLE = 'model.safetensors';
const INDEX = 'model.safetensors.index.json';
const MAX_INDEX_BYTES = 100_000_000;
const MAX_SHARDS = 4_096;

/** A checkpoint folder's tensors, whichever file they are in. */
export interface Checkpoint extends TensorSource {
  /** File names relative to the folder, sorted. */
  readonly files: readonly string[];
}

/** The path of a file directly inside a folder; a name with path parts is refused, since it may come from a file. */
async function plainPath(dir: string, name: string): Promise<string> {
  if (name.length === 0 || name.length > 255 || /[/\\\0]/.test(name) || name === '.' || name === '..') {
    throw new PatchbayError('BACKBONE_INVALID', `The file name "${clip(name)}" is not a plain name.`, {
      field: INDEX,
    });
  }
  const path = join(dir, name);
  try {
    // Links are followed: the folder is the operator's own, and the Hugging Face cache is made of links.
    await access(path);
  } catch (cause) {
    throw missing(name, cause);
  }
  return path;
}

/**
 * {@link plainPath} for folders that somebody else may have filled: a link that leads out of the folder is refused, so
 * that no other file of the machine can be read through it.
 */
export async function confinedPath(dir: string, name: string): Promise<string> {
  const path = await plainPath(dir, name);
  const [root, real] = await Promise.all([realpath(dir), realpath(path)]);
  if (dirname(real) !== root && !real.startsWith(`${root}/`)) {
    throw new PatchbayError(
      'FILE_MISSING',
      `The file ${clip(name)} is a link that leads out of its folder.`,
      {
        field: clip(name),
        fix: 'Copy the files into one folder without links.',
      },
    );
  }
  return real;
}

function missing(name: string, cause: unknown): PatchbayError {
  return new PatchbayError('FILE_MISSING', `The file ${clip(name)} is missing.`, {
    field: clip(name),
    cause,
  });
}

/** Opens `model.safetensors`, or the shards that `model.safetensors.index.json` names. The caller closes it. */
export async function openCheckpoint(dir: string, limits: SafetensorsLimits): Promise<Checkpoint> {
  const single = await optional(plainPath(dir, SINGLE));
  if (single !== null) {
    const source = await openSafetensors(single, limits);
    return { ...source, files: [SINGLE] };
  }
  const index = await optional(plainPath(dir, INDEX));
  if (index === null) {
    throw new PatchbayError('FILE_MISSING', `The folder has neither ${SINGLE} nor ${INDEX}.`, {
      field: SINGLE,
    });
  }
  return openShards(dir, await readWeightMap(index), limits);
}

async function optional(path: Promise<string>): Promise<string | null> {
  try {
    return await path;
  } catch (error) {
    // Only absence is optional: a link that leads out must not silently select the other layout.
    if (isMissing(error)) return null;
    throw error;
  }
}

function isMissing(error: unknown): boolean {
  const cause = error instanceof PatchbayError ? error.cause : undefined;
  return cause instanceof Error && 'code' in cause && cause.code === 'ENOENT';
}

function indexError(message: string): PatchbayError {
  return new PatchbayError('BACKBONE_INVALID', `${INDEX} is malformed: ${message}.`, { field: INDEX });
}

/** The shard of each tensor. */
async function readWeightMap(path: string): Promise<ReadonlyMap<string, string>> {
  const file = await openFile(path);
  let root: JsonValue;
  try {
    if (file.size > MAX_INDEX_BYTES) throw indexError(`it is longer than ${MAX_INDEX_BYTES} bytes`);
    root = parseStrictJson(await file.read(0, file.size), { maxDepth: 8, integersOnly: false });
  } catch (error) {
    throw error instanceof StrictJsonError ? indexError(error.message) : error;
  } finally {
    await file.close();
  }
  const weightMap = isJsonObject(root) ? root.get('weight_map') : undefined;
  if (!isJsonObject(weightMap)) throw indexError('weight_map is missing');
  const shards = new Map<string, string>();
  for (const [tensor, shard] of weightMap) {
    if (typeof shard !== 'string') throw indexError(`the shard of "${clip(tensor)}" is not a name`);
    if (!shard.endsWith('.safetensors'))
      throw indexError(`the shard "${clip(shard)}" is not a safetensors file`);
    shards.set(tensor, shard);
  }
  if (shards.size === 0) throw indexError('weight_map is empty');
  return shards;
}

async function openShards(
  dir: string,
  weightMap: ReadonlyMap<string, string>,
  limits: SafetensorsLimits,
): Promise<Checkpoint> {
  const files = [...new Set(weightMap.values())].sort();
  if (files.length > MAX_SHARDS) throw indexError(`it names more than ${MAX_SHARDS} shards`);
  const sources = new Map<string, TensorSource>();
  const close = async (): Promise<void> => {
    await Promise.all([...sources.values()].map((source) => source.close()));
  };
  try {
    const owners = new Map<string, TensorSource>();
    const tensors = new Map<string, TensorInfo>();
    for (const file of files) {
      const source = await openSafetensors(await plainPath(dir, file), limits);
      sources.set(file, source);
      for (const [name, info] of source.tensors) {
        if (weightMap.get(name) !== file) {
          throw indexError(`"${clip(name)}" is in ${clip(file)}, where the index does not place it`);
        }
        tensors.set(name, info);
        owners.set(name, source);
      }
    }
    for (const [name, file] of weightMap) {
      if (!tensors.has(name)) throw indexError(`"${clip(name)}" is not in ${clip(file)}`);
    }
    const owner = (name: string): TensorSource => {
      const source = owners.get(name);
      if (source === undefined) throw new PatchbayError('NOT_FOUND', `There is no tensor "${clip(name)}".`);
      return source;
    };
    return {
      files,
      tensors,
      readTensor: async (name) => owner(name).readTensor(name),
      readRange: async (name, offset, length) => owner(name).readRange(name, offset, length),
      close,
    };
  } catch (error) {
    await close();
    throw error;
  }
}
