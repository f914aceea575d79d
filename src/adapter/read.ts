import { PatchbayError } from '../kernel/errors.ts';
import type { LoraModule, LoraWeights, ModelShape } from '../kernel/model.ts';
import { type ByteSource, readSafetensors, type TensorSource } from '../safetensors/source.ts';
import { hashingTensors, versionDigest } from './digest.ts';
import { type AdapterLimits, CONFIG_FILE, TENSORS_FILE } from './limits.ts';
import { parseAdapterConfig } from './peft/config.ts';
import { type AdapterSummary, visitPeftAdapter } from './peft/read.ts';

/** The backbone that an adapter is read against. */
export interface AdapterContext {
  readonly shape: ModelShape;
  readonly backboneDigest: string;
  readonly limits: AdapterLimits;
}

/** An adapter whose structure is checked. */
export interface ReadAdapter extends LoraWeights {
  readonly summary: AdapterSummary;
}

/** The two files as sources of bytes; the reader closes both. */
interface AdapterSources {
  readonly config: ByteSource;
  readonly tensors: ByteSource;
}

/** Checks an adapter's files and returns its weights and digest. */
export async function readAdapter(sources: AdapterSources, context: AdapterContext): Promise<ReadAdapter> {
  const modules: LoraModule[] = [];
  const checked = await checkAdapter(sources, context, (module) => modules.push(module));
  return { ...checked, modules };
}

/** {@link readAdapter} for callers that do not keep the weights. */
export async function checkAdapter(
  sources: AdapterSources,
  context: AdapterContext,
  visit: (module: LoraModule) => void = () => {},
): Promise<{ readonly digest: string; readonly summary: AdapterSummary }> {
  try {
    if (sources.config.size > context.limits.maxConfigBytes)
      throw tooLarge(CONFIG_FILE, context.limits.maxConfigBytes);
    if (sources.tensors.size > context.limits.maxTensorsBytes) {
      throw tooLarge(TENSORS_FILE, context.limits.maxTensorsBytes);
    }
    const config = parseAdapterConfig(await sources.config.read(0, sources.config.size), context.limits);
    const { tensors, hashes } = hashingTensors(await openTensors(sources.tensors, context.limits));
    const summary = await visitPeftAdapter({ config, tensors }, context.shape, context.limits, visit);
    const digest = await versionDigest({ tensors, config, backboneDigest: context.backboneDigest, hashes });
    return { digest, summary };
  } finally {
    await sources.config.close();
    await sources.tensors.close();
  }
}

/** Refuses an adapter that cannot change any output. */
export function requireEffect(summary: AdapterSummary): void {
  if (summary.hasEffect) return;
  throw new PatchbayError(
    'ADAPTER_NO_EFFECT',
    'Every module of the adapter has a scale, an A or a B that is all zero.',
  );
}

async function openTensors(source: ByteSource, limits: AdapterLimits): Promise<TensorSource> {
  try {
    return await readSafetensors(source, limits.header);
  } catch (error) {
    const twice =
      error instanceof PatchbayError && error.meta.depth === 1 ? error.meta.duplicateKey : undefined;
    if (typeof twice !== 'string') throw error;
    throw new PatchbayError(
      'ADAPTER_TENSOR_DUPLICATE',
      `The header of ${TENSORS_FILE} names "${twice}" twice.`,
      {
        field: twice,
        cause: error,
      },
    );
  }
}

function tooLarge(file: string, limitBytes: number): PatchbayError {
  return new PatchbayError('FILE_TOO_LARGE', `${file} exceeds ${limitBytes} bytes.`, {
    field: file,
    meta: { limitBytes },
  });
}
