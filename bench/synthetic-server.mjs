// A real server on a synthetic backbone, whose demo tenant owns synthetic adapters.
import { mkdir, mkdtemp, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { importOnce } from '../dist/backbone/imported.js';
import { syntheticCheckpoint } from '../dist/bench/synthetic.js';
import { syntheticStore } from '../dist/bench/synthetic-store.js';
import { connectDatabase, startServer } from './server.mjs';

/**
 * Starts the server and registers one adapter for each rank, `bench-0`, `bench-1`, ….
 * @param {{ backbone: string, bits: 32 | 8 | 4, ranks: readonly number[], settings: Record<string, string> }} options
 * @returns what `startServer` gives, its data folder and the backbone's shape
 */
export async function startSyntheticServer({ backbone, bits, ranks, settings }) {
  const checkpoint = await syntheticCheckpoint(backbone);
  const dataDir = await mkdtemp(join(tmpdir(), 'patchbay-bench-'));
  const { manifest } = await importOnce({ dir: checkpoint, root: join(dataDir, 'backbones'), bits });
  const { shape, digest: backboneDigest } = manifest;
  const store = await syntheticStore({ shape, backboneDigest, ranks });
  await mkdir(join(dataDir, 'store'));
  await symlink(join(store.root, 'adapters'), join(dataDir, 'store', 'adapters'));
  const started = await startServer(dataDir, {
    PATCHBAY_BACKBONE: checkpoint,
    PATCHBAY_WEIGHT_BITS: String(bits),
    ...settings,
  });
  const db = await connectDatabase(dataDir);
  // What an upload would have left, without the uploads.
  await db.query(
    `WITH wanted AS (
       SELECT digest, rank, place - 1 AS place, gen_random_uuid() AS adapter_id
       FROM unnest($1::text[], $3::int[]) WITH ORDINALITY AS given(digest, rank, place)
     ), owner AS (SELECT id FROM tenant WHERE slug = 'demo'
     ), adapters AS (
       INSERT INTO adapter (id, tenant_id, name, last_number, created_at)
       SELECT adapter_id, owner.id, 'bench-' || place, 1, now() FROM wanted, owner
     )
     INSERT INTO adapter_version (id, tenant_id, adapter_id, number, backbone_id, state, config_sha256, tensors_sha256,
       digest, rank_max, module_count, targets, parameters, bytes, created_at, ready_at)
     SELECT gen_random_uuid(), owner.id, adapter_id, 1, backbone.id, 'READY', wanted.digest, wanted.digest,
       wanted.digest, wanted.rank, 56, '{q_proj}', 1, 1, now(), now()
     FROM wanted, owner, backbone WHERE backbone.digest = $2`,
    [store.digests, backboneDigest, ranks],
  );
  await db.end();
  return { ...started, dataDir, shape };
}
