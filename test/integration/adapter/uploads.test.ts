import { request } from 'node:http';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { z } from 'zod';
import { CONFIG_FILE, DEFAULT_ADAPTER_LIMITS, TENSORS_FILE } from '../../../src/adapter/limits.ts';
import { AdapterService } from '../../../src/adapter/service.ts';
import { sweepUploads } from '../../../src/adapter/upload-sweep.ts';
import type { Uuid } from '../../../src/kernel/ids.ts';
import { waitFor } from '../../kit/wait.ts';
import { CONTEXT } from '../../unit/adapter/sample.ts';
import { declare, offsetOf, openRegistry, patch, type Registry, sampleFiles, tusHeaders } from './kit.ts';

let registry: Registry;
let alice: Uuid;
beforeAll(async () => {
  registry = await openRegistry();
  alice = await registry.tenant('alice');
});
afterAll(() => registry.close());

const openTargets = async (name: string, files = sampleFiles()) => {
  const upload = await registry.open(alice, name, files);
  const [config, tensors] = registry.service.targets(upload);
  if (config === undefined || tensors === undefined) throw new Error('an upload has two targets');
  return { upload, config, tensors };
};

describe('openUpload', () => {
  const open = (changes: { name?: string; files?: ReturnType<typeof declare>; backboneDigest?: string }) =>
    registry.db.database.withTenant(alice, (tx) =>
      registry.service.openUpload(tx, alice, {
        name: 'x',
        backboneDigest: CONTEXT.backboneDigest,
        files: declare(sampleFiles()),
        ...changes,
      }),
    );
  const [config, tensors] = declare(sampleFiles());
  if (config === undefined || tensors === undefined) throw new Error('two files are declared');

  it.each([
    ['an upper-case name', { name: 'Mood' }, 'BAD_INPUT', 'name'],
    ['a name with a path', { name: '../x' }, 'BAD_INPUT', 'name'],
    ['a long name', { name: 'x'.repeat(101) }, 'BAD_INPUT', 'name'],
    ['an unknown backbone', { backboneDigest: 'f'.repeat(64) }, 'BACKBONE_NOT_LOADED', 'backbone'],
    ['a missing file', { files: [config] }, 'FILE_MISSING', 'files'],
    ['a file twice', { files: [config, config, tensors] }, 'BAD_INPUT', 'files'],
    ['an archive', { files: [{ ...config, name: 'adapter.zip' }] }, 'BAD_INPUT', 'files.0.name'],
    [
      'a pickle',
      { files: [{ ...tensors, name: 'adapter_model.bin' }] },
      'ADAPTER_UNSUPPORTED',
      'files.0.name',
    ],
    ['a path', { files: [{ ...config, name: '../adapter_config.json' }] }, 'BAD_INPUT', 'files.0.name'],
    ['an empty file', { files: [{ ...config, size: 0n }, tensors] }, 'BAD_INPUT', 'files.0.size'],
    ['a huge file', { files: [config, { ...tensors, size: 1n << 40n }] }, 'FILE_TOO_LARGE', 'files.1.size'],
    ['a malformed hash', { files: [{ ...config, sha256: 'x' }, tensors] }, 'BAD_INPUT', 'files.0.sha256'],
  ])('refuses %s', async (_what, changes, code, field) => {
    await expect(open(changes)).rejects.toMatchObject({ code, field });
  });

  it('gives the same targets each time, and never the same to two uploads', async () => {
    const { upload, config: first } = await openTargets('targets');
    expect(registry.service.targets(upload)[0]).toEqual(first);
    expect((await openTargets('targets')).config.token).not.toBe(first.token);
  });
});

describe('the tus endpoint', () => {
  it('takes both files and reports how far each is', async () => {
    const files = sampleFiles();
    const { upload, config, tensors } = await openTargets('whole', files);
    expect(await offsetOf(config)).toBe(0);
    expect((await patch(config, files.config)).status).toBe(204);
    expect((await patch(tensors, files.tensors.subarray(0, 100))).status).toBe(204);
    expect(await offsetOf(tensors)).toBe(100);
    expect(
      (await registry.service.getUpload(alice, upload.id))?.files.map(({ received }) => received),
    ).toEqual([BigInt(files.config.byteLength), 100n]);
    await expect(registry.finalise(alice, upload.id)).rejects.toMatchObject({
      code: 'UPLOAD_INCOMPLETE',
      field: TENSORS_FILE,
    });
    expect((await patch(tensors, files.tensors.subarray(100), 100)).status).toBe(204);
    expect((await registry.finalise(alice, upload.id)).state).toBe('VALIDATING');
  });

  it('resumes where a broken connection left off', async () => {
    const files = sampleFiles();
    const { upload, config, tensors } = await openTargets('broken', files);
    await patch(config, files.config);
    // Promises the whole file, sends part of it, and breaks the connection.
    const cut = request(tensors.url, {
      method: 'PATCH',
      headers: tusHeaders(tensors.token, {
        'content-type': 'application/offset+octet-stream',
        'upload-offset': '0',
        'content-length': String(files.tensors.byteLength),
      }),
    });
    cut.on('error', () => {});
    cut.write(files.tensors.subarray(0, 77));
    await waitFor(async () => {
      const [file] = await registry.db.admin<{ id: string }>(
        'SELECT id FROM upload_file WHERE upload_id = $1 AND name = $2',
        [upload.id, TENSORS_FILE],
      );
      return file !== undefined && (await registry.incoming.size(file.id)) === 77;
    });
    cut.destroy();
    await waitFor(async () => (await offsetOf(tensors)) === 77);
    expect((await patch(tensors, files.tensors.subarray(77), 77)).status).toBe(204);
    expect((await registry.finalise(alice, upload.id)).state).toBe('VALIDATING');
  });

  it('refuses a wrong offset', async () => {
    const files = sampleFiles();
    const { config } = await openTargets('offset', files);
    const answer = await patch(config, files.config.subarray(10), 10);
    expect(answer.status).toBe(409);
    expect(await answer.json()).toMatchObject({
      errors: [{ code: 'UPLOAD_STATE', fix: expect.any(String) }],
    });
    expect(await offsetOf(config)).toBe(0);
  });

  it('refuses more bytes than were declared', async () => {
    const files = sampleFiles();
    const { config } = await openTargets('oversize', files);
    const answer = await patch(config, Buffer.concat([files.config, Buffer.from('x')]));
    expect(answer.status).toBe(413);
    expect(await offsetOf(config)).toBe(0);
  });

  it('refuses bytes that were sent without a length and exceed what was declared', async () => {
    const files = sampleFiles();
    const { upload, config } = await openTargets('endless', files);
    const status = await new Promise<number>((resolve) => {
      const endless = request(config.url, {
        method: 'PATCH',
        headers: tusHeaders(config.token, {
          'content-type': 'application/offset+octet-stream',
          'upload-offset': '0',
          'transfer-encoding': 'chunked',
        }),
      });
      endless.on('response', (response) => {
        resolve(response.statusCode ?? 0);
        endless.destroy();
      });
      endless.on('error', () => resolve(0));
      endless.write(Buffer.alloc(200_000));
    });
    expect([0, 413]).toContain(status);
    const [file] = (await registry.service.getUpload(alice, upload.id))?.files ?? [];
    expect(file?.complete).toBe(false);
    expect(await registry.incoming.size(file?.id ?? '')).toBeLessThanOrEqual(files.config.byteLength);
  });

  it('drops a file whose checksum is wrong, and takes the right one afterwards', async () => {
    const files = sampleFiles();
    const { upload, config } = await openTargets('checksum', files);
    const wrong = Uint8Array.from(files.config);
    wrong[5] = (wrong[5] ?? 0) ^ 1;
    const answer = await patch(config, wrong);
    expect(answer.status).toBe(460);
    expect(await answer.json()).toMatchObject({ errors: [{ code: 'UPLOAD_CHECKSUM' }] });
    await expect(registry.finalise(alice, upload.id)).rejects.toMatchObject({ code: 'UPLOAD_INCOMPLETE' });
    expect(await offsetOf(config)).toBe(0);
    expect((await patch(config, files.config)).status).toBe(204);
  });

  it('notices a file that was complete when its process died before the checksum', async () => {
    const files = sampleFiles();
    const { upload, config } = await openTargets('died', files);
    const [file] = upload.files.filter(({ name }) => name === CONFIG_FILE);
    const whole = async function* (): AsyncIterable<Uint8Array> {
      yield files.config;
    };
    await registry.incoming.append(file?.id ?? '', whole(), 0);
    expect(await offsetOf(config)).toBe(files.config.byteLength);
    expect((await registry.service.getUpload(alice, upload.id))?.files[0]?.complete).toBe(true);
  });

  it('answers alike to a wrong token, another file of the upload, an expired upload and no upload', async () => {
    const files = sampleFiles();
    const { config, tensors } = await openTargets('tokens', files);
    const expired = await openTargets('tokens', files);
    const answers = [
      await patch({ url: config.url, token: 'x'.repeat(43) }, files.config),
      await patch({ url: config.url, token: tensors.token }, files.config),
      await patch({ url: config.url, token: '' }, files.config),
      await patch({ url: config.url.replace(/[^/]+$/, alice), token: config.token }, files.config),
    ];
    registry.offset.ms = 2 * 3_600_000;
    answers.push(await patch(expired.config, files.config));
    registry.offset.ms = 0;
    const bodies = new Set<string>();
    for (const answer of answers) {
      expect(answer.status).toBe(404);
      const { errors } = z
        .object({ errors: z.array(z.record(z.string(), z.unknown())) })
        .parse(await answer.json());
      bodies.add(JSON.stringify(errors.map(({ requestId: _each, ...error }) => error)));
    }
    expect(bodies.size).toBe(1);
    expect([...bodies][0]).toContain('UPLOAD_NOT_FOUND');
  });

  it('names the request in every answer, and in the bodies of errors', async () => {
    const files = sampleFiles();
    const { config } = await openTargets('named', files);
    const refused = await patch({ url: config.url, token: 'x'.repeat(43) }, files.config);
    const id = refused.headers.get('x-request-id');
    expect(id).toMatch(/./);
    expect(await refused.json()).toMatchObject({ errors: [{ code: 'UPLOAD_NOT_FOUND', requestId: id }] });
    const taken = await patch(config, files.config);
    expect(taken.status).toBe(204);
    expect(taken.headers.get('x-request-id')).toMatch(/./);
    expect(taken.headers.get('access-control-expose-headers')).toContain('X-Request-Id');
  });

  it('creates and deletes nothing', async () => {
    const { config } = await openTargets('verbs');
    const create = await fetch(`${registry.address}/uploads`, {
      method: 'POST',
      headers: tusHeaders(config.token, { 'upload-length': '5' }),
    });
    const remove = await fetch(config.url, { method: 'DELETE', headers: tusHeaders(config.token) });
    expect([create.status, remove.status]).toEqual([404, 404]);
  });
});

describe('finaliseUpload', () => {
  it('refuses an upload that expired', async () => {
    const files = sampleFiles();
    const { upload, config, tensors } = await openTargets('late', files);
    await patch(config, files.config);
    await patch(tensors, files.tensors);
    registry.offset.ms = 2 * 3_600_000;
    await expect(registry.finalise(alice, upload.id)).rejects.toMatchObject({ code: 'UPLOAD_NOT_FOUND' });
    registry.offset.ms = 0;
  });

  it('makes one version of one upload, however often and at the same time it is called', async () => {
    const files = sampleFiles(0.125);
    const { upload, config, tensors } = await openTargets('again', files);
    await patch(config, files.config);
    await patch(tensors, files.tensors);
    const versions = await Promise.all(Array.from({ length: 5 }, () => registry.finalise(alice, upload.id)));
    expect(new Set(versions.map(({ id }) => id)).size).toBe(1);
    expect(versions[0]?.number).toBe(1);
  });

  it("does not find another tenant's upload", async () => {
    const bob = await registry.tenant('bob');
    const { upload } = await openTargets('foreign');
    await expect(registry.finalise(bob, upload.id)).rejects.toMatchObject({ code: 'UPLOAD_NOT_FOUND' });
    expect(await registry.service.getUpload(bob, upload.id)).toBeNull();
  });
});

describe('the quota of a tenant', () => {
  const files = sampleFiles(0.77);
  const bytesOfOne = files.config.byteLength + files.tensors.byteLength;
  const opener = (quota: { readonly maxOpenUploads: number; readonly maxOpenBytes: number }) => {
    const service = new AdapterService(
      { limits: DEFAULT_ADAPTER_LIMITS, quota, ttlMs: 3_600_000, secret: 's', baseUrl: registry.address },
      { ...registry, database: registry.db.database, onVersionWaiting: () => {} },
    );
    return (tenantId: Uuid, name: string) =>
      registry.db.database.withTenant(tenantId, (tx) =>
        service.openUpload(tx, tenantId, {
          name,
          backboneDigest: CONTEXT.backboneDigest,
          files: declare(files),
        }),
      );
  };

  it('bounds uploads that are open or being validated, also when many are opened at once', async () => {
    const carol = await registry.tenant('carol');
    const open = opener({ maxOpenUploads: 3, maxOpenBytes: 1e9 });
    const { state } = await registry.upload(carol, 'waiting', files);
    expect(state).toBe('VALIDATING');
    const outcomes = await Promise.allSettled(Array.from({ length: 6 }, (_, i) => open(carol, `many-${i}`)));
    expect(outcomes.filter(({ status }) => status === 'fulfilled')).toHaveLength(2);
    for (const outcome of outcomes) {
      if (outcome.status === 'rejected') {
        expect(outcome.reason).toMatchObject({
          code: 'UPLOAD_LIMIT',
          fix: expect.stringMatching(/Finalise/),
          meta: { openUploads: 3, maxOpenUploads: 3 },
        });
      }
    }
    // Neither another tenant nor what is decided or has expired counts.
    await open(await registry.tenant('dave'), 'free');
    const queue = registry.validator();
    queue.start();
    await waitFor(() =>
      open(carol, 'later').then(
        () => true,
        () => false,
      ),
    );
    await queue.close();
    await expect(open(carol, 'full')).rejects.toMatchObject({ code: 'UPLOAD_LIMIT' });
    registry.offset.ms = 2 * 3_600_000;
    await open(carol, 'full');
    registry.offset.ms = 0;
  });

  it('bounds the bytes under way, but lets one upload alone be as large as a file may be', async () => {
    const erin = await registry.tenant('erin');
    const open = opener({ maxOpenUploads: 10, maxOpenBytes: 2 * bytesOfOne });
    await open(erin, 'one');
    await open(erin, 'two');
    await expect(open(erin, 'three')).rejects.toMatchObject({ code: 'UPLOAD_LIMIT', field: 'files' });
    await opener({ maxOpenUploads: 10, maxOpenBytes: 1 })(await registry.tenant('frank'), 'large');
  });
});

describe('sweepUploads', () => {
  it('removes rows of expired uploads, and adapters that never got a version, a day later', async () => {
    const grace = await registry.tenant('grace');
    const deps = { database: registry.db.database, clock: registry.clock, incoming: registry.incoming };
    const kept = await registry.ready(grace, 'kept', sampleFiles(0.91));
    const abandoned = await registry.open(grace, 'abandoned', sampleFiles(0.92));
    await registry.open(grace, 'kept', sampleFiles(0.93));
    const names = async () =>
      (await registry.service.list(grace, false, { first: 10, after: null })).items.map(({ name }) => name);
    registry.offset.ms = 2 * 3_600_000;
    await sweepUploads(deps);
    expect(await names()).toEqual(['abandoned', 'kept']);
    expect(await registry.service.getUpload(grace, abandoned.id)).not.toBeNull();
    registry.offset.ms = 26 * 3_600_000;
    await sweepUploads(deps);
    registry.offset.ms = 0;
    expect(await names()).toEqual(['kept']);
    expect(await registry.service.getUpload(grace, abandoned.id)).toBeNull();
    expect((await registry.service.getVersion(grace, kept.id))?.state).toBe('READY');
    const [left] = await registry.db.admin<{ uploads: string }>(
      'SELECT count(*) AS uploads FROM upload WHERE tenant_id = $1',
      [grace],
    );
    expect(left?.uploads).toBe('1');
    // The name can be used again.
    expect((await registry.open(grace, 'abandoned', sampleFiles(0.92))).state).toBe('UPLOADING');
  });

  it('removes the files of expired uploads once', async () => {
    const files = sampleFiles();
    const { upload, config } = await openTargets('swept', files);
    await patch(config, files.config);
    const id = upload.files[0]?.id ?? '';
    registry.offset.ms = 2 * 3_600_000;
    const deps = { database: registry.db.database, clock: registry.clock, incoming: registry.incoming };
    expect(await sweepUploads(deps)).toBeGreaterThan(0);
    expect(await registry.incoming.size(id)).toBe(0);
    expect(await sweepUploads(deps)).toBe(0);
    registry.offset.ms = 0;
  });
});
