import { copyFile, mkdir, readFile, rename, rm } from 'node:fs/promises';
import { basename, join, resolve } from 'node:path';
import { PatchbayError } from '../kernel/errors.ts';
import type { ModelShape } from '../kernel/model.ts';
import { type Checkpoint, openCheckpoint } from '../safetensors/checkpoint.ts';
import { BACKBONE_HEADER_LIMITS } from '../safetensors/header.ts';
import { verifyTensors } from './checkpoint-check.ts';
import { parseModelConfig } from './config.ts';
import { bytesOf, DataFile, DigestBuilder } from './data-file.ts';
import { deviceFiles } from './device-files.ts';
import { buildingFolder, removeAbandoned, writeDurably } from './durable.ts';
import { BACKBONE_FILES, type BackboneManifest, CARRIED_FILES, readManifest } from './manifest.ts';
import { GENERAL_FORM, type GraphForm } from './onnx/context.ts';
import { buildGraph } from './onnx/graph.ts';
import { encodeModel } from './onnx/proto.ts';
import { WEIGHTS, type WeightBits } from './onnx/stored.ts';
import { inverseFrequencies, rotaryTable } from './rope.ts';
import { configuredEosIds } from './text/framing.ts';
import { openText } from './text/open.ts';
import { writeWeights } from './weight-writer.ts';
import { storedWeights } from './weights.ts';

/** Prefix of a folder under construction. */
const BUILDING = '.import-';
/** The graphs for processors, which share the data file of weights. */
const HOST_GRAPHS: readonly (readonly [file: string, form: GraphForm])[] = [
  [BACKBONE_FILES.model, GENERAL_FORM],
  [BACKBONE_FILES.single, { rows: 'single', adapters: true }],
  [BACKBONE_FILES.singlePlain, { rows: 'single', adapters: false }],
];
/** Positions of the rotary table computed at a time. */
const ROPE_CHUNK = 4096;

/** Options of {@link importBackbone}. */
export interface ImportOptions {
  /** The checkpoint folder, as Hugging Face lays it out. */
  readonly dir: string;
  /** Imported backbones go to `<root>/<digest>/`. */
  readonly root: string;
  /** 32 keeps full precision; 8 and 4 quantize the linears. */
  readonly bits: WeightBits;
  /** What to call it; the folder's name when absent. */
  readonly name?: string;
  /** How much of the checkpoint has been read, in bytes. */
  readonly onProgress?: (doneBytes: number, totalBytes: number) => void;
}

/** An imported backbone and where it lies. */
export interface ImportedBackbone {
  readonly dir: string;
  readonly manifest: BackboneManifest;
}

/**
 * Turns a checkpoint folder into a graph with external weights plus a manifest. Memory stays bounded by a chunk of one
 * tensor. The folder appears under its digest whole or not at all; importing the same content again finds it.
 *
 * Refuses with `BACKBONE_UNSUPPORTED` or `BACKBONE_INVALID`, naming the field or tensor, and `FILE_MISSING`.
 */
export async function importBackbone(options: ImportOptions): Promise<ImportedBackbone> {
  const config = await readJson(options.dir, BACKBONE_FILES.config);
  const shape = parseModelConfig(config);
  const checkpoint = await openCheckpoint(options.dir, BACKBONE_HEADER_LIMITS);
  await removeAbandoned(options.root, BUILDING);
  const building = buildingFolder(options.root, BUILDING);
  try {
    await verifyTensors(checkpoint, shape);
    await mkdir(building, { recursive: true });
    const manifest = await build(options, shape, checkpoint, config, building);
    return await publish(options.root, building, manifest);
  } finally {
    await checkpoint.close();
    await rm(building, { recursive: true, force: true });
  }
}

async function build(
  options: ImportOptions,
  shape: ModelShape,
  checkpoint: Checkpoint,
  config: Readonly<Record<string, unknown>>,
  building: string,
): Promise<BackboneManifest> {
  const eosTokenIds = await readEosTokenIds(options.dir, config, shape);
  const digest = new DigestBuilder();
  digest.text('patchbay-backbone-1');
  digest.text(JSON.stringify({ bits: options.bits, eosTokenIds, ...shape }));
  // Another way to quantize gives other tokens. (Without this line, 8 bits meant blocks with a scale each.)
  if (options.bits === 8) digest.text('int8, one scale for each output');
  for (const { name, required } of CARRIED_FILES) {
    const bytes = await carry(options.dir, name, required, building);
    // These two are represented by the shape and the ids above; how a checkpoint was saved does not change it.
    const represented = name === BACKBONE_FILES.config || name === BACKBONE_FILES.generationConfig;
    if (!represented && bytes !== null) {
      digest.text(name);
      digest.text(bytes.toString('base64'));
    }
  }
  const data = await DataFile.create(join(building, BACKBONE_FILES.data), BACKBONE_FILES.data);
  let parameters: number;
  try {
    const weights = storedWeights(shape, options.bits !== 32);
    parameters = await writeWeights(checkpoint, weights, options.bits, data, digest, options.onProgress);
    await writeRotaryTables(shape, data);
    await data.sync();
  } finally {
    await data.close();
  }
  for (const [name, form] of HOST_GRAPHS) {
    const model = encodeModel(buildGraph(shape, options.bits, data.initializers, form));
    await writeDurably(join(building, name), model);
  }
  if (options.bits !== 8) {
    for (const [name, bytes] of deviceFiles(shape, options.bits, data.initializers)) {
      await writeDurably(join(building, name), bytes);
    }
  }
  const manifest: BackboneManifest = {
    format: 3,
    digest: digest.hex(),
    name: options.name ?? basename(resolve(options.dir)),
    bits: options.bits,
    shape,
    eosTokenIds,
    parameters,
    dataBytes: data.bytes,
  };
  await writeDurably(join(building, BACKBONE_FILES.manifest), `${JSON.stringify(manifest, null, 2)}\n`);
  return manifest;
}

async function publish(
  root: string,
  building: string,
  manifest: BackboneManifest,
): Promise<ImportedBackbone> {
  const dir = join(root, manifest.digest);
  const existing = await readManifest(dir).catch(() => null);
  // Another import of the same content was first; its folder is as good as ours.
  if (existing !== null) return { dir, manifest: existing };
  // What is there without a readable manifest is damaged, and of no use to anybody.
  await rm(dir, { recursive: true, force: true });
  try {
    await rename(building, dir);
  } catch (error) {
    const other = await readManifest(dir).catch(() => null);
    if (other === null) throw error;
  }
  return { dir, manifest: await readManifest(dir) };
}

/** Appends the tables of the rotary embedding, which no checkpoint holds. */
export async function writeRotaryTables(shape: ModelShape, data: DataFile): Promise<void> {
  const frequencies = inverseFrequencies(shape);
  const dims = [shape.maxPositions, shape.headDim / 2];
  async function* chunks(which: 'cos' | 'sin'): AsyncGenerator<Uint8Array> {
    for (let from = 0; from < shape.maxPositions; from += ROPE_CHUNK) {
      const table = rotaryTable(frequencies, from, Math.min(from + ROPE_CHUNK, shape.maxPositions));
      yield bytesOf(table[which]);
    }
  }
  await data.append(WEIGHTS.ropeCos, 'float32', dims, chunks('cos'));
  await data.append(WEIGHTS.ropeSin, 'float32', dims, chunks('sin'));
}

async function carry(dir: string, name: string, required: boolean, building: string): Promise<Buffer | null> {
  const bytes = await readFile(join(dir, name)).catch(() => null);
  if (bytes === null) {
    if (required) throw new PatchbayError('FILE_MISSING', `${name} is missing in ${dir}.`, { field: name });
    return null;
  }
  await copyFile(join(dir, name), join(building, name));
  return bytes;
}

/** End-of-sequence ids as the tokenizer knows them; a checkpoint without one has those of its configurations. */
async function readEosTokenIds(
  dir: string,
  config: Readonly<Record<string, unknown>>,
  shape: ModelShape,
): Promise<number[]> {
  // A tokenizer that cannot be served exactly is refused here, and not when the first request needs it.
  const { tokenizer } = openText(dir, { shape });
  if (tokenizer !== null) return [...tokenizer.eosIds];
  const generation = await readJson(dir, BACKBONE_FILES.generationConfig).catch((error: unknown) => {
    if (error instanceof PatchbayError && error.code === 'FILE_MISSING') return null;
    throw error;
  });
  return [...configuredEosIds(generation, config, shape.vocabSize)];
}

/** Reads a JSON file of a checkpoint; `FILE_MISSING` or `BACKBONE_INVALID` name it. */
export async function readJson(dir: string, name: string): Promise<Record<string, unknown>> {
  const text = await readFile(join(dir, name), 'utf8').catch((cause: unknown) => {
    throw new PatchbayError('FILE_MISSING', `${name} is missing in ${dir}.`, { field: name, cause });
  });
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === 'object' && value !== null && !Array.isArray(value)) return { ...value };
  } catch (cause) {
    throw new PatchbayError('BACKBONE_INVALID', `${name} is not valid JSON.`, { field: name, cause });
  }
  throw new PatchbayError('BACKBONE_INVALID', `${name} is not a JSON object.`, { field: name });
}
