import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fastify, { type FastifyInstance } from 'fastify';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { z } from 'zod';
import { CONFIG_FILE, TENSORS_FILE } from '../../../src/adapter/limits.ts';
import { pushAdapter } from '../../../src/adapter/push.ts';
import type { AdapterVersionModel } from '../../../src/adapter/types.ts';
import { PatchbayError } from '../../../src/kernel/errors.ts';
import type { Uuid } from '../../../src/kernel/ids.ts';
import { CONTEXT } from '../../unit/adapter/sample.ts';
import { openRegistry, type Registry, type SampleFiles, sampleFiles } from './kit.ts';

const body = z.object({
  query: z.string(),
  variables: z.object({
    id: z.string().optional(),
    input: z
      .object({
        name: z.string().optional(),
        upload: z.string().optional(),
        files: z
          .array(z.object({ name: z.string(), size: z.string().transform(BigInt), sha256: z.string() }))
          .optional(),
      })
      .optional(),
  }),
});

let registry: Registry;
let alice: Uuid;
let graphql: FastifyInstance;
let url = '';
const dirs: string[] = [];

/** The three operations of the schema that a push uses, over the real service. */
async function answer({ query, variables }: z.infer<typeof body>): Promise<unknown> {
  const { service, db } = registry;
  const show = (version: AdapterVersionModel | null) => version;
  if (query.includes('openAdapterUpload')) {
    const { name = '', files = [] } = variables.input ?? {};
    try {
      const upload = await db.database.withTenant(alice, (tx) =>
        service.openUpload(tx, alice, { name, backboneDigest: CONTEXT.backboneDigest, files }),
      );
      return {
        openAdapterUpload: { upload: { id: upload.id }, targets: service.targets(upload), userErrors: [] },
      };
    } catch (error) {
      if (!(error instanceof PatchbayError)) throw error;
      return { openAdapterUpload: { upload: null, targets: null, userErrors: [error.toPublic()] } };
    }
  }
  if (query.includes('finalizeAdapterUpload')) {
    const version = await registry.finalise(alice, variables.input?.upload ?? '');
    return { finalizeAdapterUpload: { version: show(version), userErrors: [] } };
  }
  return { adapterVersion: show(await service.getVersion(alice, variables.id ?? '')) };
}

beforeAll(async () => {
  registry = await openRegistry();
  alice = await registry.tenant('alice');
  registry.validator().start();
  graphql = fastify();
  graphql.post('/graphql', async (request, reply) => {
    if (request.headers.authorization !== 'Bearer key') {
      return {
        errors: [
          {
            message: 'No valid API key was given.',
            extensions: { code: 'UNAUTHENTICATED', fix: 'Ask for a key.' },
          },
        ],
      };
    }
    const data = await answer(body.parse(request.body));
    return reply
      .type('application/json')
      .send(
        JSON.stringify({ data }, (_key, value: unknown) =>
          typeof value === 'bigint' ? String(value) : value,
        ),
      );
  });
  url = `${await graphql.listen({ port: 0, host: '127.0.0.1' })}/graphql`;
});
afterAll(async () => {
  await graphql.close();
  await registry.close();
  for (const dir of dirs) await rm(dir, { recursive: true });
});

async function folder(files: SampleFiles): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), 'patchbay-push-'));
  dirs.push(dir);
  await writeFile(join(dir, CONFIG_FILE), files.config);
  await writeFile(join(dir, TENSORS_FILE), files.tensors);
  return dir;
}

describe('pushAdapter', () => {
  it('sends a folder, reports progress and waits until it is ready', async () => {
    const files = sampleFiles();
    const updates: [number, number][] = [];
    const steps: string[] = [];
    const pushed = await pushAdapter({
      dir: await folder(files),
      name: 'pushed',
      url,
      key: 'key',
      wait: true,
      progress: {
        start: (label) => ({
          update: (done, total) => updates.push([done, total]),
          done: () => steps.push(label),
          fail: () => steps.push(`${label} failed`),
        }),
      },
    });
    expect(pushed).toMatchObject({ number: 1, state: 'READY', rejection: null });
    const total = files.config.byteLength + files.tensors.byteLength;
    expect(updates.at(-1)).toEqual([total, total]);
    expect(steps).toEqual(['Sending pushed', 'Validating']);
  });

  it('reports why a version was rejected', async () => {
    const dir = await folder(sampleFiles(0.5, { use_dora: true }));
    const pushed = await pushAdapter({ dir, name: 'dora', url, key: 'key', wait: true });
    expect(pushed).toMatchObject({ state: 'REJECTED', rejection: { code: 'ADAPTER_UNSUPPORTED' } });
  });

  it("passes on the server's own errors", async () => {
    const dir = await folder(sampleFiles());
    const push = (changes: { name?: string; key?: string }) =>
      pushAdapter({ dir, name: 'x', url, key: 'key', wait: false, ...changes });
    await expect(push({ name: 'NOT A NAME' })).rejects.toMatchObject({
      code: 'BAD_INPUT',
      field: 'name',
      fix: 'Correct the named field.',
    });
    await expect(push({ key: 'wrong' })).rejects.toMatchObject({
      code: 'UNAUTHENTICATED',
      fix: 'Ask for a key.',
    });
  });

  it('stops when it is aborted', async () => {
    const dir = await folder(sampleFiles(0.9));
    const signal = AbortSignal.abort(new Error('stopped'));
    await expect(pushAdapter({ dir, name: 'x', url, key: 'key', wait: true, signal })).rejects.toThrow(
      'stopped',
    );
  });
});
