import { createHash } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fastify from 'fastify';
import { registerBackbone } from '../../../src/adapter/backbones.ts';
import { AdapterStateFeed } from '../../../src/adapter/feed.ts';
import { IncomingFiles } from '../../../src/adapter/incoming.ts';
import { CONFIG_FILE, DEFAULT_ADAPTER_LIMITS, TENSORS_FILE } from '../../../src/adapter/limits.ts';
import { loadLoraWeights } from '../../../src/adapter/loader.ts';
import { AdapterService } from '../../../src/adapter/service.ts';
import { FsBlobStore } from '../../../src/adapter/store/fs.ts';
import type { AdapterUploadModel, AdapterVersionModel, EffectProbe } from '../../../src/adapter/types.ts';
import { registerUploadRoutes } from '../../../src/adapter/upload-http.ts';
import {
  DEFAULT_VALIDATION,
  type ValidationOptions,
  ValidationQueue,
} from '../../../src/adapter/validation-queue.ts';
import type { Clock } from '../../../src/kernel/clock.ts';
import { newId, type Uuid } from '../../../src/kernel/ids.ts';
import { createTestDatabase } from '../../kit/postgres.ts';
import { waitFor } from '../../kit/wait.ts';
import { CONTEXT, configJson, SHAPE, sampleTensors } from '../../unit/adapter/sample.ts';

const SECRET = 'test secret of upload tokens';

/** Both files of an adapter. */
export interface SampleFiles {
  readonly config: Uint8Array;
  readonly tensors: Uint8Array;
}

export const sampleFiles = (value = 0.5, config: Readonly<Record<string, unknown>> = {}): SampleFiles => ({
  config: configJson(config),
  tensors: sampleTensors(value),
});

export const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

/** The declaration of both files, as they are or with changes. */
export const declare = ({ config, tensors }: SampleFiles) => [
  { name: CONFIG_FILE, size: BigInt(config.byteLength), sha256: sha256(config) },
  { name: TENSORS_FILE, size: BigInt(tensors.byteLength), sha256: sha256(tensors) },
];

/** Headers of a tus request. */
export const tusHeaders = (token: string, more: Readonly<Record<string, string>> = {}) => ({
  'tus-resumable': '1.0.0',
  authorization: `Bearer ${token}`,
  ...more,
});

/** Appends bytes to a tus URL. */
export const patch = (
  target: { readonly url: string; readonly token: string },
  bytes: Uint8Array,
  offset = 0,
): Promise<Response> =>
  fetch(target.url, {
    method: 'PATCH',
    headers: tusHeaders(target.token, {
      'content-type': 'application/offset+octet-stream',
      'upload-offset': String(offset),
    }),
    body: Buffer.from(bytes),
  });

/** The offset that a tus URL reports. */
export async function offsetOf(target: { readonly url: string; readonly token: string }): Promise<number> {
  const answer = await fetch(target.url, { method: 'HEAD', headers: tusHeaders(target.token) });
  return Number(answer.headers.get('upload-offset'));
}

/** A registry on a real database with its HTTP endpoint. The engine's probe is a stand-in that loads the weights. */
export async function openRegistry() {
  const db = await createTestDatabase();
  const root = await mkdtemp(join(tmpdir(), 'patchbay-registry-'));
  const offset = { ms: 0 };
  // Not a fixed time: the leases of the database run on its own clock.
  const clock: Clock = {
    nowMs: () => Date.now() + offset.ms,
    monotonicMs: () => performance.now(),
  };
  const store = new FsBlobStore({ root: join(root, 'blobs') });
  const incoming = new IncomingFiles({ folder: join(root, 'incoming') });
  const feed = new AdapterStateFeed({ connectionString: db.systemUrl });
  await feed.start();
  const http = fastify({ forceCloseConnections: true });
  const errors: unknown[] = [];
  await registerUploadRoutes(http, {
    database: db.database,
    clock,
    incoming,
    secret: SECRET,
    onError: (error) => errors.push(error),
  });
  const address = await http.listen({ port: 0, host: '127.0.0.1' });
  await registerBackbone(
    { database: db.database, clock },
    { name: 'sample', digest: CONTEXT.backboneDigest, shape: SHAPE },
  );
  const service = new AdapterService(
    { limits: DEFAULT_ADAPTER_LIMITS, ttlMs: 3_600_000, secret: SECRET, baseUrl: `${address}/uploads` },
    { database: db.database, clock, feed, onVersionWaiting: () => {} },
  );
  const probe: EffectProbe = {
    probe: async (digest) => {
      await loadLoraWeights(store, digest, CONTEXT);
      return { finite: true, maxAbsDifference: 0.5 };
    },
  };
  const queues: ValidationQueue[] = [];

  const registry = {
    db,
    clock,
    offset,
    store,
    incoming,
    feed,
    service,
    address,
    errors,

    /** A tenant that can own adapters. */
    async tenant(slug: string): Promise<Uuid> {
      const id = newId(clock);
      await db.admin('INSERT INTO tenant (id, name, slug, created_at) VALUES ($1, $2, $2, now())', [
        id,
        slug,
      ]);
      return id;
    },

    open(tenantId: Uuid, name: string, files: SampleFiles): Promise<AdapterUploadModel> {
      return db.database.withTenant(tenantId, (tx) =>
        service.openUpload(tx, tenantId, {
          name,
          backboneDigest: CONTEXT.backboneDigest,
          files: declare(files),
        }),
      );
    },

    finalise(tenantId: Uuid, uploadId: Uuid): Promise<AdapterVersionModel> {
      return db.database.withTenant(tenantId, (tx) => service.finaliseUpload(tx, tenantId, uploadId));
    },

    /** Everything up to and including finalising. */
    async upload(tenantId: Uuid, name: string, files: SampleFiles): Promise<AdapterVersionModel> {
      const upload = await registry.open(tenantId, name, files);
      for (const target of service.targets(upload)) {
        const bytes = target.name === CONFIG_FILE ? files.config : files.tensors;
        const answer = await patch(target, bytes);
        if (answer.status !== 204) throw new Error(`upload failed: ${answer.status} ${await answer.text()}`);
      }
      return registry.finalise(tenantId, upload.id);
    },

    /** A validator of its own, as a process has one. */
    validator(
      options: Partial<ValidationOptions> = {},
      engine: EffectProbe = probe,
      onError: (error: unknown) => void = () => {},
    ): ValidationQueue {
      const queue = new ValidationQueue(
        { ...DEFAULT_VALIDATION, instanceId: newId(clock), pollMs: 50, ...options },
        {
          database: db.database,
          clock,
          store,
          incoming,
          probe: engine,
          context: CONTEXT,
          canaries: [[1, 2, 3]],
          onError,
        },
      );
      queues.push(queue);
      return queue;
    },

    /** Uploads and validates, and returns the version as its owner then sees it. */
    async ready(tenantId: Uuid, name: string, files: SampleFiles): Promise<AdapterVersionModel> {
      const { id } = await registry.upload(tenantId, name, files);
      const queue = registry.validator();
      queue.start();
      const version = await registry.settled(tenantId, id);
      await queue.close();
      return version;
    },

    /** The version once it is no longer being validated. */
    async settled(tenantId: Uuid, id: Uuid): Promise<AdapterVersionModel> {
      let version: AdapterVersionModel | null = null;
      await waitFor(async () => {
        version = await service.getVersion(tenantId, id);
        return version !== null && version.state !== 'VALIDATING';
      });
      if (version === null) throw new Error('the version is gone');
      return version;
    },

    async close(): Promise<void> {
      for (const queue of queues) await queue.close();
      await feed.close();
      await http.close();
      await db.dispose();
      await rm(root, { recursive: true, force: true });
    },
  };
  return registry;
}

export type Registry = Awaited<ReturnType<typeof openRegistry>>;
