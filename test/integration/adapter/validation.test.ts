import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { ADAPTER_FILES } from '../../../src/adapter/limits.ts';
import { loadLoraWeights } from '../../../src/adapter/loader.ts';
import { versionKey, versionPrefix } from '../../../src/adapter/store/keys.ts';
import { sweepUploads } from '../../../src/adapter/upload-sweep.ts';
import type { ValidationQueue } from '../../../src/adapter/validation-queue.ts';
import { PatchbayError } from '../../../src/kernel/errors.ts';
import type { Uuid } from '../../../src/kernel/ids.ts';
import { waitFor } from '../../kit/wait.ts';
import { CONTEXT, configJson, qPair } from '../../unit/adapter/sample.ts';
import { buildSafetensors, filled } from '../../unit/safetensors/build.ts';
import { openRegistry, type Registry, sampleFiles } from './kit.ts';

let registry: Registry;
let alice: Uuid;
let bob: Uuid;
beforeAll(async () => {
  registry = await openRegistry();
  alice = await registry.tenant('alice');
  bob = await registry.tenant('bob');
});
afterAll(() => registry.close());

const queues: ValidationQueue[] = [];
afterEach(async () => {
  for (const queue of queues.splice(0)) await queue.close();
});
const start = (...args: Parameters<Registry['validator']>): ValidationQueue => {
  const queue = registry.validator(...args);
  queues.push(queue);
  queue.start();
  return queue;
};

const blobs = async (digest: string): Promise<readonly string[]> => {
  const keys: string[] = [];
  for await (const { key } of registry.store.list(versionPrefix(digest))) keys.push(key);
  return keys;
};

describe('validation', () => {
  it('makes a good upload ready, with its facts, and stores what the engine loads', async () => {
    const version = await registry.ready(alice, 'good', sampleFiles());
    expect(version).toMatchObject({
      state: 'READY',
      number: 1,
      rank: 2,
      modules: 1,
      targets: ['q_proj'],
      parameters: 40n,
      bytes: 160n,
      rejection: null,
      backboneDigest: CONTEXT.backboneDigest,
    });
    const weights = await loadLoraWeights(registry.store, version.digest ?? '', CONTEXT);
    expect(weights.modules[0]?.scale).toBe(2);
  });

  it.each([
    ['ADAPTER_UNSUPPORTED', 'use_dora', { ...sampleFiles(), config: configJson({ use_dora: true }) }],
    ['ADAPTER_CONFIG_INVALID', 'adapter_config.json', { ...sampleFiles(), config: Buffer.from('{') }],
    ['SAFETENSORS_HEADER', undefined, { ...sampleFiles(), tensors: Buffer.from('not a safetensors file') }],
    ['ADAPTER_NOT_FINITE', expect.stringContaining('lora_A'), sampleFiles(Number.NaN)],
    [
      'ADAPTER_TENSOR_UNPAIRED',
      expect.stringContaining('lora_B'),
      { ...sampleFiles(), tensors: buildSafetensors(qPair().slice(0, 1)) },
    ],
    ['ADAPTER_NO_EFFECT', undefined, sampleFiles(0)],
    [
      'ADAPTER_TENSOR_UNKNOWN',
      'x',
      { ...sampleFiles(), tensors: buildSafetensors([...qPair(), filled('x', [1], 1)]) },
    ],
  ])('keeps %s with a fix on the version', async (code, field, files) => {
    const version = await registry.ready(alice, 'bad', files);
    expect(version.state).toBe('REJECTED');
    expect(version.rejection).toMatchObject({ code, fix: expect.stringMatching(/\w/) });
    if (field !== undefined) expect(version.rejection?.field).toEqual(field);
  });

  it.each([
    ['ADAPTER_BREAKS_OUTPUT', { finite: false, maxAbsDifference: Number.NaN }],
    ['ADAPTER_NO_EFFECT', { finite: true, maxAbsDifference: 0 }],
  ])('rejects with %s what the canary shows, and keeps no copy', async (code, outcome) => {
    let digest = '';
    start(undefined, {
      probe: async (asked) => {
        digest = asked;
        return outcome;
      },
    });
    const { id } = await registry.upload(alice, 'canary', sampleFiles(0.75));
    expect((await registry.settled(alice, id)).rejection?.code).toBe(code);
    await waitFor(async () => (await blobs(digest)).length === 0);
  });

  it('tries again when the engine, not the adapter, fails', async () => {
    let calls = 0;
    start(undefined, {
      probe: async () => {
        calls++;
        if (calls < 3) throw new PatchbayError('ENGINE_FULL', 'no room');
        return { finite: true, maxAbsDifference: 1 };
      },
    });
    const { id } = await registry.upload(alice, 'retry', sampleFiles(0.3));
    expect((await registry.settled(alice, id)).state).toBe('READY');
    expect(calls).toBe(3);
  });

  it.each(['ENGINE_FULL', 'SHUTTING_DOWN', 'DATABASE_UNAVAILABLE'] as const)(
    'counts no attempt for %s, however often it happens',
    async (code) => {
      let calls = 0;
      start(
        { maxAttempts: 2 },
        {
          probe: async () => {
            calls++;
            if (calls < 5) throw new PatchbayError(code, 'not now');
            return { finite: true, maxAbsDifference: 1 };
          },
        },
      );
      const { id } = await registry.upload(alice, `patient-${code.toLowerCase()}`, sampleFiles(0.32));
      expect(await registry.settled(alice, id)).toMatchObject({ state: 'READY', rejection: null });
      expect(calls).toBe(5);
      const [row] = await registry.db.admin<{ attempts: number }>(
        'SELECT attempts FROM adapter_version WHERE id = $1',
        [id],
      );
      expect(row?.attempts).toBe(1);
    },
  );

  it('gives a claim back once the database answers again', async () => {
    const { database } = registry.db;
    const write = database.querySystem.bind(database);
    let outages = 3;
    let calls = 0;
    const spy = vi.spyOn(database, 'querySystem').mockImplementation(async (text, values) => {
      if (text.includes('attempts = attempts -') && outages-- > 0)
        throw new PatchbayError('DATABASE_UNAVAILABLE', 'gone');
      return write(text, values);
    });
    start(
      { maxAttempts: 1, leaseMs: 60_000 },
      {
        probe: async () => {
          if (calls++ === 0) throw new PatchbayError('ENGINE_FULL', 'no room');
          return { finite: true, maxAbsDifference: 1 };
        },
      },
    );
    const { id } = await registry.upload(alice, 'outage', sampleFiles(0.33));
    expect((await registry.settled(alice, id)).state).toBe('READY');
    expect(outages).toBeLessThanOrEqual(0);
    spy.mockRestore();
  });

  it('rejects an adapter that the engine can never hold, and keeps no copy', async () => {
    let digest = '';
    start(undefined, {
      probe: async (asked) => {
        digest = asked;
        throw new PatchbayError('ENGINE_TOO_LARGE', 'The adapters of the request do not fit into the bank.');
      },
    });
    const { id } = await registry.upload(alice, 'giant', sampleFiles(0.34));
    const version = await registry.settled(alice, id);
    expect(version).toMatchObject({
      state: 'REJECTED',
      rejection: { code: 'ENGINE_TOO_LARGE', fix: expect.stringContaining('lower rank') },
    });
    await waitFor(async () => (await blobs(digest)).length === 0);
  });

  it('gives up on a validation that never ends, and says so', async () => {
    start({ maxAttempts: 2 }, { probe: () => Promise.reject(new Error('broken')) });
    const { id } = await registry.upload(alice, 'hopeless', sampleFiles(0.31));
    expect((await registry.settled(alice, id)).rejection).toMatchObject({ code: 'INTERNAL' });
  });

  it('is taken over when the validator dies, and the dead one changes nothing afterwards', async () => {
    let revive = (): void => {};
    const dead = new Promise<{ finite: boolean; maxAbsDifference: number }>((resolve) => {
      revive = () => resolve({ finite: false, maxAbsDifference: 0 });
    });
    let reached = false;
    // Renewing late stands for a process that hangs: its lease runs out while its probe does not return.
    const hanging = registry.validator(
      { leaseMs: 60_000, pollMs: 60_000 },
      {
        probe: () => {
          reached = true;
          return dead;
        },
      },
    );
    hanging.start();
    const { id } = await registry.upload(alice, 'takeover', sampleFiles(0.6));
    hanging.wake();
    await waitFor(() => reached);
    await registry.db.admin(
      "UPDATE adapter_version SET lease_until = now() - interval '1 second' WHERE id = $1",
      [id],
    );
    start();
    expect((await registry.settled(alice, id)).state).toBe('READY');
    revive();
    await hanging.close();
    const after = await registry.service.getVersion(alice, id);
    expect(after?.state).toBe('READY');
    expect(await blobs(after?.digest ?? '')).toHaveLength(2);
  });

  it('is done once when several validators run', async () => {
    let probes = 0;
    const engine = {
      probe: async () => {
        probes++;
        return { finite: true, maxAbsDifference: 1 };
      },
    };
    const ids = await Promise.all(
      [0.41, 0.42, 0.43, 0.44].map(
        async (value) => (await registry.upload(alice, `many-${value * 100}`, sampleFiles(value))).id,
      ),
    );
    start({}, engine);
    start({}, engine);
    for (const id of ids) expect((await registry.settled(alice, id)).state).toBe('READY');
    expect(probes).toBe(ids.length);
  });
});

describe('identity', () => {
  it("recognises the same owner's same bytes", async () => {
    const first = await registry.ready(alice, 'same', sampleFiles(0.11));
    const second = await registry.upload(alice, 'same', sampleFiles(0.11));
    expect(second.id).toBe(first.id);
    expect(second.state).toBe('READY');
  });

  it('recognises the same weights in other files', async () => {
    await registry.ready(alice, 'resaved', sampleFiles(0.12));
    const again = await registry.ready(alice, 'resaved', sampleFiles(0.12, { lora_dropout: 0.9 }));
    expect(again).toMatchObject({ number: 2, state: 'REJECTED' });
    expect(again.rejection).toMatchObject({ code: 'ADAPTER_DUPLICATE', fix: 'Use version 1.' });
  });

  it('makes a new version of a new upload under the same name', async () => {
    const first = await registry.ready(alice, 'evolving', sampleFiles(0.13));
    const second = await registry.ready(alice, 'evolving', sampleFiles(0.14));
    expect([first.number, second.number]).toEqual([1, 2]);
    expect(second.adapterId).toBe(first.adapterId);
    expect((await registry.service.latestVersion(alice, first.adapterId))?.id).toBe(second.id);
  });

  it('gives another tenant a version, a validation and a copy of its own', async () => {
    const hers = await registry.ready(alice, 'shared', sampleFiles(0.15));
    const uploaded = await registry.upload(bob, 'shared', sampleFiles(0.15));
    expect(uploaded.state).toBe('VALIDATING');
    expect(uploaded.digest).toBeNull();
    start();
    const his = await registry.settled(bob, uploaded.id);
    expect(his.id).not.toBe(hers.id);
    expect(his.digest).toBe(hers.digest);
    const digest = hers.digest ?? '';
    expect([...(await blobs(digest))].sort()).toEqual(
      [alice, bob].flatMap((tenant) => ADAPTER_FILES.map((file) => versionKey(digest, tenant, file))).sort(),
    );
    expect(await registry.service.getVersion(bob, hers.id)).toBeNull();
  });

  it('lets a rejected or retired upload come again as a new version', async () => {
    const first = await registry.ready(alice, 'phoenix', sampleFiles(0.16));
    await registry.db.database.withTenant(alice, (tx) => registry.service.retireVersion(tx, alice, first.id));
    const second = await registry.ready(alice, 'phoenix', sampleFiles(0.16));
    expect(second).toMatchObject({ number: 2, state: 'READY', digest: first.digest });
  });
});

describe('immutability', () => {
  it('is kept by the database, whoever asks', async () => {
    const { id } = await registry.ready(alice, 'fixed', sampleFiles(0.17));
    for (const change of [
      `digest = repeat('0', 64)`,
      'bytes = 1',
      'rank_max = 1',
      `config_sha256 = repeat('0', 64)`,
      `tenant_id = '${bob}'`,
      'number = 99',
      `state = 'VALIDATING'`,
      `state = 'REJECTED', rejection = '{}'`,
    ]) {
      await expect(
        registry.db.admin(`UPDATE adapter_version SET ${change} WHERE id = $1`, [id]),
      ).rejects.toThrow();
    }
    await expect(registry.db.admin('DELETE FROM adapter_version WHERE id = $1', [id])).rejects.toThrow();
  });

  it('does not let a tenant declare its own version ready', async () => {
    const { id } = await registry.upload(alice, 'impatient', sampleFiles(0.18));
    await expect(
      registry.db.database.withTenant(
        alice,
        (tx) => tx.$executeRaw`UPDATE adapter_version SET state = 'READY' WHERE id = ${id}::uuid`,
      ),
    ).rejects.toThrow();
    await expect(
      registry.db.database.withTenant(
        alice,
        (tx) => tx.$executeRaw`UPDATE adapter_version SET digest = repeat('0', 64) WHERE id = ${id}::uuid`,
      ),
    ).rejects.toThrow();
  });
});

describe('sweeping', () => {
  it('removes received files once their version is decided, and not before', async () => {
    const files = sampleFiles(0.19);
    const { id } = await registry.upload(alice, 'tidy', files);
    const rows = await registry.db.admin<{ id: string }>(
      'SELECT f.id FROM upload_file f JOIN upload u ON u.id = f.upload_id WHERE u.version_id = $1',
      [id],
    );
    const sizes = () => Promise.all(rows.map((row) => registry.incoming.size(row.id)));
    const deps = { database: registry.db.database, clock: registry.clock, incoming: registry.incoming };
    await sweepUploads(deps);
    expect((await sizes()).every((bytes) => bytes > 0)).toBe(true);
    start();
    await registry.settled(alice, id);
    await sweepUploads(deps);
    expect(await sizes()).toEqual([0, 0]);
  });
});
