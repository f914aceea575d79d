import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parseAdapterRef } from '../../../src/adapter/resolve.ts';
import type { AdapterVersionModel, VersionState } from '../../../src/adapter/types.ts';
import { newId, type Uuid } from '../../../src/kernel/ids.ts';
import { CONTEXT } from '../../unit/adapter/sample.ts';
import { openRegistry, type Registry, sampleFiles } from './kit.ts';

let registry: Registry;
let alice: Uuid;
let bob: Uuid;
let secret: AdapterVersionModel;
let open: AdapterVersionModel;
beforeAll(async () => {
  registry = await openRegistry();
  alice = await registry.tenant('alice');
  bob = await registry.tenant('bob');
  secret = await registry.ready(alice, 'secret', sampleFiles(0.1));
  open = await registry.ready(alice, 'open', sampleFiles(0.2));
  await setVisibility(alice, open.adapterId, 'PUBLIC');
});
afterAll(() => registry.close());

const setVisibility = (tenant: Uuid, id: Uuid, visibility: 'PUBLIC' | 'PRIVATE') =>
  registry.db.database.withTenant(tenant, (tx) => registry.service.setVisibility(tx, tenant, id, visibility));
const resolve = (tenant: Uuid, adapter: string, version?: string) =>
  registry.service.resolveForInference(
    tenant,
    [{ ref: parseAdapterRef(adapter, version), weight: 0.5 }],
    CONTEXT.backboneDigest,
  );
const outcome = async (work: Promise<unknown>): Promise<unknown> =>
  work.catch((error: { code: string; message: string }) => ({ code: error.code, message: error.message }));

describe('a private adapter', () => {
  it('cannot be told from one that does not exist', async () => {
    const absent = await outcome(resolve(bob, 'alice/nothing'));
    expect(absent).toMatchObject({ code: 'ADAPTER_NOT_FOUND' });
    for (const attempt of [
      () => resolve(bob, 'alice/secret'),
      () => resolve(bob, 'alice/secret', '1'),
      () => resolve(bob, secret.adapterId),
      () => resolve(bob, secret.adapterId, '1'),
      () => resolve(bob, 'anything', secret.id),
      () => resolve(bob, 'secret'),
      () => resolve(bob, newId(registry.clock)),
      () => resolve(bob, 'anything', newId(registry.clock)),
      () => setVisibility(bob, secret.adapterId, 'PUBLIC'),
      () => setVisibility(bob, newId(registry.clock), 'PUBLIC'),
      () => registry.db.database.withTenant(bob, (tx) => registry.service.retireVersion(tx, bob, secret.id)),
    ]) {
      expect(await outcome(attempt())).toEqual(absent);
    }
  });

  it('is in no answer to another tenant', async () => {
    expect(await registry.service.get(bob, secret.adapterId)).toBeNull();
    expect(await registry.service.getByName(bob, 'alice', 'secret')).toBeNull();
    expect(await registry.service.getVersion(bob, secret.id)).toBeNull();
    expect(await registry.service.latestVersion(bob, secret.adapterId)).toBeNull();
    expect(
      (await registry.service.listVersions(bob, secret.adapterId, { first: 10, after: null })).items,
    ).toEqual([]);
    const listed = await registry.service.list(bob, true, { first: 100, after: null });
    expect(listed.items.map(({ name }) => name)).toEqual(['open']);
    await expect(
      registry.service.list(bob, true, { first: 10, after: secret.adapterId }),
    ).rejects.toMatchObject({
      code: 'BAD_INPUT',
    });
  });

  it('is not in the tables either', async () => {
    const counts = await registry.db.database.withTenant(bob, async (tx) => [
      await tx.adapter.count(),
      await tx.adapterVersion.count(),
      await tx.upload.count(),
      await tx.uploadFile.count(),
    ]);
    expect(counts).toEqual([0, 0, 0, 0]);
    expect(
      await registry.db.database.queryApp('SELECT * FROM patchbay.find_adapter($1)', [open.adapterId]),
    ).toEqual([]);
  });

  it('may have the name that another tenant uses', async () => {
    expect((await registry.ready(bob, 'secret', sampleFiles(0.3))).number).toBe(1);
    const [own] = await resolve(bob, 'secret');
    expect(own?.ownerTenantId).toBe(bob);
  });
});

describe('a public adapter', () => {
  it('can be invoked by others, and names its owner for the metering', async () => {
    for (const ref of ['alice/open', open.adapterId]) {
      expect(await resolve(bob, ref)).toEqual([
        {
          versionId: open.id,
          adapterId: open.adapterId,
          ownerTenantId: alice,
          digest: open.digest,
          weight: 0.5,
        },
      ]);
    }
  });

  it('cannot be changed by others', async () => {
    await expect(setVisibility(bob, open.adapterId, 'PRIVATE')).rejects.toMatchObject({
      code: 'ADAPTER_NOT_FOUND',
    });
    await expect(
      registry.db.database.withTenant(bob, (tx) => registry.service.retireVersion(tx, bob, open.id)),
    ).rejects.toMatchObject({ code: 'ADAPTER_NOT_FOUND' });
  });

  it('shows others only the versions that are ready', async () => {
    const rejected = await registry.ready(alice, 'open', sampleFiles(0));
    expect(rejected.state).toBe('REJECTED');
    const seenBy = async (tenant: Uuid) =>
      (await registry.service.listVersions(tenant, open.adapterId, { first: 10, after: null })).items.map(
        ({ number }) => number,
      );
    expect(await seenBy(alice)).toEqual([2, 1]);
    expect(await seenBy(bob)).toEqual([1]);
    expect(await registry.service.getVersion(bob, rejected.id)).toBeNull();
  });

  it('disappears when it is made private again, and when its owner is suspended', async () => {
    await setVisibility(alice, open.adapterId, 'PRIVATE');
    await expect(resolve(bob, 'alice/open')).rejects.toMatchObject({ code: 'ADAPTER_NOT_FOUND' });
    await setVisibility(alice, open.adapterId, 'PUBLIC');
    await registry.db.admin(`UPDATE tenant SET state = 'SUSPENDED' WHERE id = $1`, [alice]);
    await expect(resolve(bob, 'alice/open')).rejects.toMatchObject({ code: 'ADAPTER_NOT_FOUND' });
    await registry.db.admin(`UPDATE tenant SET state = 'ACTIVE' WHERE id = $1`, [alice]);
    expect(await resolve(bob, 'alice/open')).toHaveLength(1);
  });
});

describe('resolveForInference', () => {
  it('takes the newest version that is ready, or the one that is named', async () => {
    const first = await registry.ready(alice, 'numbered', sampleFiles(0.4));
    const second = await registry.ready(alice, 'numbered', sampleFiles(0.5));
    await registry.ready(alice, 'numbered', sampleFiles(0));
    expect((await resolve(alice, 'numbered'))[0]?.versionId).toBe(second.id);
    expect((await resolve(alice, 'numbered', '1'))[0]?.versionId).toBe(first.id);
    expect((await resolve(alice, 'ignored', first.id))[0]?.versionId).toBe(first.id);
    await expect(resolve(alice, 'numbered', '3')).rejects.toMatchObject({ code: 'ADAPTER_NOT_READY' });
    await expect(resolve(alice, 'numbered', '4')).rejects.toMatchObject({ code: 'ADAPTER_NOT_FOUND' });
    await registry.db.database.withTenant(alice, (tx) =>
      registry.service.retireVersion(tx, alice, second.id),
    );
    expect((await resolve(alice, 'numbered'))[0]?.versionId).toBe(first.id);
    await expect(resolve(alice, 'numbered', '2')).rejects.toMatchObject({ code: 'ADAPTER_NOT_READY' });
  });

  it('refuses malformed references as what does not exist', () => {
    for (const [adapter, version] of [
      ['a/b/c', undefined],
      ['a', '0'],
      ['a', '1.5'],
      ['a', 'x'],
      ['a', '99999999999'],
    ] as const) {
      expect(() => parseAdapterRef(adapter, version)).toThrowError(
        expect.objectContaining({ code: 'ADAPTER_NOT_FOUND' }),
      );
    }
  });

  it('refuses a version of another backbone', async () => {
    await expect(
      registry.service.resolveForInference(
        alice,
        [{ ref: { kind: 'version', id: open.id }, weight: 1 }],
        'f'.repeat(64),
      ),
    ).rejects.toMatchObject({ code: 'ADAPTER_NOT_READY' });
  });
});

describe('lists', () => {
  it('come in pages that neither repeat nor lose an item', async () => {
    const carol = await registry.tenant('carol');
    const names = ['a', 'b', 'c', 'd', 'e'];
    for (const name of names) await registry.open(carol, name, sampleFiles());
    const seen: string[] = [];
    for (let after: Uuid | null = null, more = true; more; ) {
      const page: Awaited<ReturnType<typeof registry.service.list>> = await registry.service.list(
        carol,
        false,
        {
          first: 2,
          after,
        },
      );
      seen.push(...page.items.map(({ name }) => name));
      after = page.items.at(-1)?.id ?? null;
      more = page.hasNextPage;
    }
    expect(seen).toEqual(names);
  });
});

describe('watchVersion', () => {
  it('tells every state from upload to ready, from another process too', async () => {
    const files = sampleFiles(0.77);
    const upload = await registry.open(alice, 'watched', files);
    const states: VersionState[] = [];
    const watching = (async () => {
      for await (const { state } of registry.service.watchVersion(alice, { uploadId: upload.id })) {
        states.push(state);
        if (state === 'UPLOADING') {
          for (const { id, name } of upload.files) {
            const bytes = name === 'adapter_config.json' ? files.config : files.tensors;
            const whole = async function* (): AsyncIterable<Uint8Array> {
              yield bytes;
            };
            await registry.incoming.append(id, whole(), 0);
          }
          await registry.db.admin(
            'UPDATE upload_file SET received = size, complete = true WHERE upload_id = $1',
            [upload.id],
          );
          await registry.finalise(alice, upload.id);
        }
        if (state === 'VALIDATING') registry.validator().start();
      }
    })();
    await watching;
    expect(states).toEqual(['UPLOADING', 'VALIDATING', 'READY']);
  });

  it('ends at once when the watcher leaves', async () => {
    const upload = await registry.open(alice, 'left', sampleFiles());
    const states = registry.service.watchVersion(alice, { uploadId: upload.id });
    await states.next();
    const pending = states.next();
    const began = performance.now();
    await states.return?.();
    expect((await pending).done).toBe(true);
    // Before a watcher that is left alone would look again by itself.
    expect(performance.now() - began).toBeLessThan(4_500);
  });

  it("does not show another tenant's version", async () => {
    const states = registry.service.watchVersion(bob, { versionId: secret.id });
    await expect(states.next()).rejects.toMatchObject({ code: 'ADAPTER_NOT_FOUND' });
  });
});
