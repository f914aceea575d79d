import { createHash } from 'node:crypto';
import { createReadStream, existsSync } from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';
import { join, relative } from 'node:path';
import type { IncomingFiles } from '../adapter/incoming.ts';
import { ADAPTER_FILES } from '../adapter/limits.ts';
import type { AdapterService } from '../adapter/service.ts';
import type { IncomingDataStore } from '../adapter/upload-store.ts';
import type { ExampleReport } from '../cli/app-port.ts';
import type { Database } from '../db/client.ts';
import { PatchbayError } from '../kernel/errors.ts';
import type { Uuid } from '../kernel/ids.ts';
import { type Progress, withProgress } from '../observability/progress.ts';
import { STARTER_FOLDER } from './engine.ts';

/** What registering the starter adapters works with. */
export interface StarterDeps {
  readonly database: Database;
  readonly adapters: AdapterService;
  readonly incoming: IncomingFiles;
  readonly datastore: IncomingDataStore;
  readonly progress: Progress;
}

/** Names of the adapters that ship with the starter backbone. */
export async function starterAdapters(): Promise<readonly string[]> {
  const folder = join(STARTER_FOLDER, 'adapters');
  const entries = existsSync(folder) ? await readdir(folder, { withFileTypes: true }) : [];
  return entries.flatMap((entry) => (entry.isDirectory() ? [entry.name] : [])).sort();
}

/**
 * Registers the starter adapters for a tenant, public so that every tenant can try them. They go the way of any
 * upload, validation included. Those that are registered already are left alone.
 */
export async function registerStarterAdapters(
  tenantId: Uuid,
  backboneDigest: string,
  deps: StarterDeps,
): Promise<void> {
  const missing: string[] = [];
  for (const name of await starterAdapters()) {
    // An adapter whose registration was interrupted, or that belongs to an earlier starter backbone, counts as missing.
    const adapter = await deps.adapters.getByName(tenantId, null, name);
    const version = adapter === null ? null : await deps.adapters.latestVersion(tenantId, adapter.id);
    if (version?.backboneDigest !== backboneDigest) missing.push(name);
  }
  if (missing.length === 0) return;
  await withProgress(deps.progress, 'Registering the starter adapters', async (step) => {
    let done = 0;
    for (const name of missing) {
      await register(tenantId, backboneDigest, name, deps);
      done += 1;
      step.update(done, missing.length, 'items');
    }
  });
}

async function register(
  tenantId: Uuid,
  backboneDigest: string,
  name: string,
  deps: StarterDeps,
): Promise<void> {
  const { adapters, database, datastore, incoming } = deps;
  const folder = join(STARTER_FOLDER, 'adapters', name);
  const files = await Promise.all(
    ADAPTER_FILES.map(async (file) => {
      const bytes = await readFile(join(folder, file));
      const sha256 = createHash('sha256').update(bytes).digest('hex');
      return { name: file, size: BigInt(bytes.byteLength), sha256 };
    }),
  );
  const upload = await database.withTenant(tenantId, (tx) =>
    adapters.openUpload(tx, tenantId, { name, backboneDigest, files, exempt: true }),
  );
  for (const file of upload.files) {
    await incoming.append(file.id, createReadStream(join(folder, file.name)), 0);
    await datastore.complete(file.id);
  }
  const version = await database.withTenant(tenantId, async (tx) => {
    await adapters.setVisibility(tx, tenantId, upload.adapterId, 'PUBLIC');
    return adapters.finaliseUpload(tx, tenantId, upload.id);
  });
  adapters.validateSoon();
  for await (const { state, version: judged } of adapters.watchVersion(tenantId, { versionId: version.id })) {
    if (state === 'READY') return;
    if (state === 'REJECTED') {
      throw new PatchbayError('INTERNAL', `The starter adapter ${name} was rejected.`, {
        cause: judged?.rejection,
      });
    }
  }
}

/** The first starter adapter with a prompt that it was trained on, for the printed examples. */
export async function starterExample(): Promise<ExampleReport | null> {
  const [adapter] = await starterAdapters();
  if (adapter === undefined) return null;
  const cases = await readFile(join(STARTER_FOLDER, 'eval', `${adapter}.jsonl`), 'utf8');
  const first: unknown = JSON.parse(cases.slice(0, cases.indexOf('\n')));
  if (
    typeof first !== 'object' ||
    first === null ||
    !('prompt' in first) ||
    typeof first.prompt !== 'string'
  ) {
    return null;
  }
  const folder = relative(process.cwd(), join(STARTER_FOLDER, 'adapters', adapter));
  return { adapter, prompt: first.prompt, folder };
}
