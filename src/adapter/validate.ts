import { PatchbayError } from '../kernel/errors.ts';
import type { Uuid } from '../kernel/ids.ts';
import type { IncomingFiles } from './incoming.ts';
import { type AdapterFileName, CONFIG_FILE, TENSORS_FILE } from './limits.ts';
import type { AdapterSummary } from './peft/read.ts';
import { type AdapterContext, checkAdapter, requireEffect } from './read.ts';
import { versionKey } from './store/keys.ts';
import type { BlobStore } from './store/port.ts';
import type { EffectProbe } from './types.ts';

/** A received file. */
export interface ReceivedFile {
  readonly id: Uuid;
  readonly sha256: string;
}

/** What validation works with. */
export interface ValidationTools {
  readonly store: BlobStore;
  readonly incoming: IncomingFiles;
  readonly probe: EffectProbe;
  readonly context: AdapterContext;
  /** Prompts of the proof of effect; at least one must change. */
  readonly canaries: readonly (readonly number[])[];
}

/** Checks the structure of the received files; nothing is stored yet. */
export async function checkReceived(
  tools: ValidationTools,
  files: Readonly<Record<AdapterFileName, ReceivedFile>>,
): Promise<{ readonly digest: string; readonly summary: AdapterSummary }> {
  const config = await tools.incoming.source(files[CONFIG_FILE].id);
  const tensors = await tools.incoming.source(files[TENSORS_FILE].id);
  const checked = await checkAdapter({ config, tensors }, tools.context);
  requireEffect(checked.summary);
  return checked;
}

/** Copies the files into the tenant's part of the store. The tensors come last: where they are, the version is whole. */
export async function storeReceived(
  tools: ValidationTools,
  files: Readonly<Record<AdapterFileName, ReceivedFile>>,
  version: { readonly digest: string; readonly tenantId: Uuid },
): Promise<void> {
  const { limits } = tools.context;
  for (const [name, maxBytes] of [
    [CONFIG_FILE, limits.maxConfigBytes],
    [TENSORS_FILE, limits.maxTensorsBytes],
  ] as const) {
    const { id, sha256 } = files[name];
    const key = versionKey(version.digest, version.tenantId, name);
    await tools.store.put(key, tools.incoming.read(id), { maxBytes, sha256 });
  }
}

/** Removes the tenant's copy of a version. */
export async function unstore(
  store: BlobStore,
  version: { readonly digest: string; readonly tenantId: Uuid },
): Promise<void> {
  for (const name of [TENSORS_FILE, CONFIG_FILE] as const) {
    await store.delete(versionKey(version.digest, version.tenantId, name));
  }
}

/** Runs the canaries through the engine: all logits finite, and at least one prompt's logits differ. */
export async function proveEffect(tools: ValidationTools, digest: string): Promise<void> {
  let changed = false;
  for (const canary of tools.canaries) {
    const { finite, maxAbsDifference } = await tools.probe.probe(digest, canary).catch((error: unknown) => {
      throw neverFits(error);
    });
    if (!finite || Number.isNaN(maxAbsDifference)) {
      throw new PatchbayError('ADAPTER_BREAKS_OUTPUT', 'A canary prompt gives logits that are not finite.');
    }
    changed ||= maxAbsDifference > 0;
  }
  if (!changed) {
    throw new PatchbayError('ADAPTER_NO_EFFECT', 'No canary prompt changes its logits with this adapter.');
  }
}

/** The engine speaks of requests; whoever uploads an adapter needs to know what to do about the adapter. */
function neverFits(error: unknown): unknown {
  if (!(error instanceof PatchbayError) || error.code !== 'ENGINE_TOO_LARGE') return error;
  return new PatchbayError('ENGINE_TOO_LARGE', 'The adapter is too large for the engine, even alone.', {
    fix: 'Train it with a lower rank or fewer target modules, or ask the operator for larger adapter memory.',
    meta: error.meta,
    cause: error,
  });
}

/**
 * Whether an error is a verdict about the upload, to be kept on the version. Anything else (a full engine, a database
 * that restarts) says nothing about the files, and the validation is tried again.
 */
export function isVerdict(error: unknown): error is PatchbayError {
  if (!(error instanceof PatchbayError)) return false;
  if (error.code === 'ADAPTER_LOAD_FAILED') return false;
  return (
    error.code.startsWith('SAFETENSORS_') ||
    error.code.startsWith('ADAPTER_') ||
    error.code === 'ENGINE_TOO_LARGE' ||
    error.code === 'FILE_TOO_LARGE' ||
    error.code === 'UPLOAD_CHECKSUM'
  );
}

/** Whether an error says only that validating was not possible now: it is nobody's failure, and passes by itself. */
export function isTransient(error: unknown): boolean {
  return (
    error instanceof PatchbayError &&
    (error.code === 'ENGINE_FULL' || error.code === 'SHUTTING_DOWN' || error.code === 'DATABASE_UNAVAILABLE')
  );
}
