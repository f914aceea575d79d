import { createHash } from 'node:crypto';
import { mkdir, readFile, rename, rm, stat } from 'node:fs/promises';
import { cpus } from 'node:os';
import { join } from 'node:path';
import { buildingFolder, removeAbandoned, syncFile, writeDurably } from '../backbone/durable.ts';
import { BACKBONE_FILES, readManifest } from '../backbone/manifest.ts';
import { withWeightsOf } from '../backbone/onnx/proto.ts';
import {
  type GraphPaths,
  type PackSettings,
  packModel,
  type SessionSettings,
} from '../engine/runner/sessions.ts';

/** The file of packed weights, beside the graphs that share it. */
const PACKED_DATA = 'packed.data';
/** Prefix of a folder under construction. */
const BUILDING = '.packing-';

/**
 * The graphs of an imported backbone with their weights packed for this machine, made on the first start on it. Packing
 * doubles the weights on disk and spares every form of the graph a copy in memory.
 * @param dir folder of the imported backbone; processes may share it
 */
export async function packedGraphs(dir: string, settings: SessionSettings): Promise<GraphPaths> {
  // Other providers keep weights in memory of their own, where forms of the graph would hold them several times.
  const elsewhere = settings.executionProviders.some((provider) => provider !== 'cpu');
  // A folder that holds the general form alone is meant to be opened once and fast: merged weights of a benchmark.
  if (elsewhere || !(await exists(join(dir, BACKBONE_FILES.single)))) {
    return { general: join(dir, BACKBONE_FILES.model) };
  }
  const { bits } = await readManifest(dir);
  const how = { ...settings, prepacked: bits !== 4 };
  const packed = join(dir, `packed-${await machineKey(how)}`);
  if (!(await exists(packed))) await pack(dir, packed, how);
  return {
    general: join(packed, BACKBONE_FILES.model),
    single: {
      adapted: join(packed, BACKBONE_FILES.single),
      plain: join(packed, BACKBONE_FILES.singlePlain),
    },
  };
}

/** The folder appears whole and on the disk, or not at all. */
async function pack(dir: string, packed: string, settings: PackSettings): Promise<void> {
  await removeAbandoned(dir, BUILDING);
  const building = buildingFolder(dir, BUILDING);
  await mkdir(building);
  try {
    const general = join(building, BACKBONE_FILES.model);
    await packModel(join(dir, BACKBONE_FILES.model), general, PACKED_DATA, settings);
    const source = await readFile(general);
    for (const name of [BACKBONE_FILES.single, BACKBONE_FILES.singlePlain]) {
      const form = join(building, name);
      const own = `${name}.data`;
      // Packed on its own first, since the runtime may replace a weight by another one (signed bytes by unsigned ones).
      await packModel(join(dir, name), form, own, settings);
      await writeDurably(form, withWeightsOf(await readFile(form), source));
      await rm(join(building, own));
    }
    await syncFile(general);
    await syncFile(join(building, PACKED_DATA));
    await rename(building, packed);
  } catch (error) {
    // Another process was first; its folder is as good as ours.
    if (!(await exists(packed))) throw error;
  } finally {
    await rm(building, { recursive: true, force: true });
  }
}

/** What decides how weights are packed: runtime, processor, and which kernels are allowed. */
async function machineKey({ exactBytes, prepacked }: PackSettings): Promise<string> {
  const runtime: unknown = JSON.parse(
    await readFile(new URL(import.meta.resolve('onnxruntime-node/package.json')), 'utf8').catch(() => '{}'),
  );
  const version =
    typeof runtime === 'object' && runtime !== null && 'version' in runtime ? runtime.version : null;
  const flags = await readFile('/proc/cpuinfo', 'utf8')
    .then((info) => /^(?:flags|Features)\s*:.*$/m.exec(info)?.[0] ?? '')
    .catch(() => '');
  const facts = [
    version,
    process.platform,
    process.arch,
    cpus()[0]?.model ?? '',
    flags,
    exactBytes,
    // Absent where it is the rule, so that folders keep their names.
    ...(prepacked ? [] : ['not prepacked']),
  ];
  return createHash('sha256').update(JSON.stringify(facts)).digest('hex').slice(0, 16);
}

function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  );
}
