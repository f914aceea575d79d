import { createHash } from 'node:crypto';
import { recoverAddress } from 'ethers/transaction';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { z } from 'zod';
import type { Uuid } from '../../../src/kernel/ids.ts';
import { verifiesInclusion } from '../../../src/proofs/merkle/verify.ts';
import { DocumentStore } from '../../../src/proofs/receipts/document-store.ts';
import { epochDigest } from '../../../src/proofs/typed.ts';
import { testSigner } from '../../kit/log.ts';
import { type EpochWorld, epochSchema, openEpochs, reader, statementSchema } from './epochs-kit.ts';

let world: EpochWorld;
let first: Uuid = '';
let second: Uuid = '';
/** An epoch over everything that can be right: blends, what was left, failed, lost, and what nothing was delivered of. */
beforeAll(async () => {
  world = await openEpochs();
  [first, second] = [await world.kit.customer(10_000_000n), await world.kit.customer(10_000_000n)];
  for (const tenantId of [first, second]) {
    await Promise.all(ASKED.map((adapters) => world.serve(tenantId, adapters)));
  }
  await world.serveBadly(first);
  await world.log();
  await world.closer().run();
});
afterAll(() => world.close());

const BLEND = [
  { adapter: 'royal', weight: 2 },
  { adapter: 'rich', weight: -1 },
];
const ASKED = [[{ adapter: 'royal' }], BLEND, []];
const sha256 = (...parts: readonly (string | Buffer)[]): Buffer =>
  parts.reduce((hash, part) => hash.update(part), createHash('sha256')).digest();
const epochOf = async (number: bigint | null) =>
  epochSchema.parse(JSON.parse(await world.proofs.epochs.document(number)));
const statementOf = async (who: Uuid, number = 1n, version: Uuid | null = null) =>
  statementSchema.parse(JSON.parse(await world.proofs.epochs.statement(reader(who), number, version)));

/** RFC 8785 for documents without numbers, by itself. */
function canonical(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(canonical).join(',')}]`;
  const members = z.record(z.string(), z.unknown()).safeParse(value);
  if (!members.success) return JSON.stringify(value);
  const names = Object.keys(members.data).sort();
  return `{${names.map((name) => `${JSON.stringify(name)}:${canonical(members.data[name])}`).join(',')}}`;
}

/** The key of an account as the specification has it. */
function keyOf(number: number, kind: number, subject: Uuid): Buffer {
  const bytes = Buffer.alloc(9);
  bytes.writeBigUInt64BE(BigInt(number));
  bytes[8] = kind;
  const uuid = Buffer.from(subject.replaceAll('-', ''), 'hex');
  return sha256(Buffer.from('patchbay:account-key:v1\0', 'latin1'), Buffer.from(world.logId), bytes, uuid);
}

const commitmentOf = (salt: string, account: unknown): Buffer =>
  sha256(
    Buffer.from('patchbay:account:v1\0', 'latin1'),
    Buffer.from(salt, 'hex'),
    sha256(canonical(account)),
  );

async function isInAccounts(key: Buffer, commitment: Buffer, index: string, path: readonly string[]) {
  const { accounts } = (await epochOf(1n)).epoch;
  return verifiesInclusion({
    leaf: sha256(Buffer.of(0), key, commitment),
    index: Number(index),
    size: Number(accounts.size),
    root: Buffer.from(accounts.root, 'hex'),
    path: path.map((hash) => Buffer.from(hash, 'hex')),
  });
}

describe('an epoch', () => {
  it('has everything that matches, is signed, and ends at a head', async () => {
    const { epoch, head, signedAt, signature } = await epochOf(1n);
    expect(epoch).toMatchObject({ number: '1', firstSize: '0', size: '10', receipts: '10' });
    expect([epoch.quarantined, epoch.released, epoch.previous]).toEqual([[], [], '0'.repeat(64)]);
    expect([head.size, head.root]).toEqual([epoch.size, epoch.root]);
    const digest = sha256(canonical(epoch));
    const signed = epochDigest(world.logId, { number: 1n, digest, signedAt: Number(signedAt) });
    expect(recoverAddress(`0x${Buffer.from(signed).toString('hex')}`, signature)).toBe(testSigner().address);
    expect((await world.proofs.epochs.get(1n)).digest).toEqual(digest);
    // Two tenants and two versions.
    expect(epoch.accounts.size).toBe('4');
  });

  it('says of a tenant what its records say', async () => {
    const { present } = await statementOf(first);
    if (present === null) throw new Error('There is an account.');
    const [sums] = await world.db.admin<Record<string, string>>(
      `SELECT count(*)::text AS receipts, sum(prompt_tokens)::text AS "promptTokens",
              sum(cached_prompt_tokens)::text AS "cachedPromptTokens", sum(completion_tokens)::text AS "completionTokens"
       FROM usage_record WHERE tenant_id = $1`,
      [first],
    );
    const [money] = await world.db.admin<{ amount: string }>(
      `SELECT (10000000 - posted)::text AS amount FROM ledger_balance WHERE tenant_id = $1`,
      [first],
    );
    // The one whose process was lost was settled, and so counted, by the other process.
    expect(present.account).toEqual({
      ...{ kind: 'tenant', subject: first, ...sums, documents: expect.any(Array) },
      lanes: [{ lane: '0', last: '7', numbers: ['1-7'] }],
      charged: [{ currency: 'USD', amount: money?.amount }],
    });
    const key = keyOf(1, 1, first);
    const { salt, account, index, path } = present;
    expect(await isInAccounts(key, commitmentOf(salt, account), index, path)).toBe(true);
    expect(await isInAccounts(key, commitmentOf(salt, { ...account, receipts: '8' }), index, path)).toBe(
      false,
    );
  });

  it('says of a version what it earned, for whom, as the ledger was moved', async () => {
    const { present } = await statementOf(world.one, 1n, world.royal.versionId);
    if (present === null) throw new Error('There is an account.');
    const earned = await world.db.admin<{ tenant: Uuid; amount: string }>(
      `SELECT tenant_id AS tenant, sum(amount)::text AS amount FROM ledger_posting
       WHERE subject_id = $1 GROUP BY tenant_id ORDER BY tenant_id`,
      [world.royal.versionId],
    );
    expect(earned.map(({ tenant }) => tenant)).toEqual([world.one, world.third].sort());
    const [charged] = await world.db.admin<{ royalty: string; fee: string }>(
      `SELECT sum(royalty_nano)::text AS royalty, sum(fee_nano)::text AS fee FROM usage_charge WHERE adapter_version_id = $1`,
      [world.royal.versionId],
    );
    expect(present.account).toMatchObject({
      ...{ kind: 'version', subject: world.royal.versionId, owner: world.one, receipts: '4' },
      lanes: [{ lane: '0', last: '4', numbers: ['1-4'] }],
      royalties: [{ currency: 'USD', ...charged, earned }],
    });
    const named = z.array(z.string()).parse(present.account['documents']);
    expect(named).toEqual([...named].sort());
    const documents = await world.db.admin<{ format: string }>(
      `SELECT document::jsonb ->> 'format' AS format FROM proof_document WHERE encode(digest, 'hex') = ANY ($1) ORDER BY 1`,
      [named],
    );
    expect(documents.map(({ format }) => format)).toEqual([
      'patchbay-price/1',
      'patchbay-royalty/1',
      'patchbay-split/1',
    ]);
  });

  it('proves of others that it has no account of them, and shows nobody another’s', async () => {
    for (const who of [world.third, world.one, await world.kit.tenant()]) {
      const { present, absent } = await statementOf(who);
      expect(present).toBeNull();
      if (absent === null) throw new Error('It says neither.');
      const key = keyOf(1, 1, who);
      for (const [side, neighbour] of Object.entries(absent)) {
        if (neighbour === null) continue;
        const own = Buffer.from(neighbour.key, 'hex');
        expect(Buffer.compare(own, key)).toBe(side === 'before' ? -1 : 1);
        const commitment = Buffer.from(neighbour.commitment, 'hex');
        expect(await isInAccounts(own, commitment, neighbour.index, neighbour.path)).toBe(true);
      }
      const [before, after] = [absent.before?.index ?? '-1', absent.after?.index ?? '4'];
      expect(Number(after)).toBe(Number(before) + 1);
    }
    const refused = world.proofs.epochs.statement(reader(world.other), 1n, world.royal.versionId);
    await expect(refused).rejects.toMatchObject({ code: 'NOT_FOUND', field: 'adapterVersion' });
  });
});

describe('closing', () => {
  it('happens once however many close at once, without gaps', async () => {
    await world.serve(first);
    await world.log();
    const others = await Promise.all([0, 1, 2].map(() => world.kit.process()));
    const closers = others.map(({ database }) => world.closer({}, database));
    const closed = (await Promise.all([...closers, ...closers].map((closer) => closer.run()))).flat();
    expect(closed.map(({ number, firstSize, size }) => [number, firstSize, size])).toEqual([[2n, 10, 11]]);
    expect((await epochOf(2n)).epoch.previous).toBe(
      Buffer.from((await world.proofs.epochs.get(1n)).digest).toString('hex'),
    );
    const { present } = await statementOf(first, 2n);
    expect(present?.account['lanes']).toEqual([{ lane: '0', last: '8', numbers: ['8'] }]);
    expect(await world.closer().run()).toEqual([]);
  });

  it('waits for its time, or for enough leaves, and takes no more of them than fit', async () => {
    const hour = { intervalMs: 3_600_000 };
    for (let leaf = 0; leaf < 3; leaf += 1) {
      await world.serve(second);
      await world.log();
    }
    expect(await world.closer({ ...hour, leavesMax: 4 }).run()).toEqual([]);
    const bySize = await world.closer({ ...hour, leavesMax: 2 }).run();
    expect(bySize.map(({ firstSize, size }) => [firstSize, size])).toEqual([[11, 13]]);
    world.clock.advance(3_599_000);
    expect(await world.closer({ ...hour, leavesMax: 2 }).run()).toEqual([]);
    world.clock.advance(1_000);
    const byTime = await world.closer({ ...hour, leavesMax: 2 }).run();
    expect(byTime.map(({ firstSize, size }) => [firstSize, size])).toEqual([[13, 14]]);
  });

  it('that ends anywhere leaves nothing half there', async () => {
    await world.serve(first, BLEND);
    await world.log();
    const count = async () =>
      world.db.admin(`SELECT (SELECT count(*) FROM epoch) + (SELECT count(*) FROM epoch_account)
        + (SELECT count(*) FROM epoch_statement) + (SELECT count(*) FROM epoch_tile) AS rows`);
    const before = await count();
    let ended = 0;
    for (let statements = 1; ; statements += 2) {
      const closing = new AbortController();
      const database = world.countingDatabase(statements, () => closing.abort());
      const closed = await world
        .closer({ epochsMax: 1 }, database)
        .run(closing.signal)
        .catch(() => null);
      if (closed !== null) break;
      ended += 1;
      expect(await count()).toEqual(before);
    }
    expect(ended).toBeGreaterThan(12);
    expect((await world.proofs.epochs.get(null)).number).toBe(5n);
  });

  it('is refused to a key that is not in use', async () => {
    const signer = { ...testSigner(), address: `0x${'2'.repeat(40)}` };
    await world.serve(first);
    await world.log();
    await expect(world.closer({}, undefined, signer).run()).rejects.toMatchObject({
      code: 'PROOF_KEY_UNKNOWN',
    });
  });

  it('waits until its key is valid by its clock', async () => {
    const later = (by: number) =>
      world.plant('UPDATE proof_key SET valid_from = valid_from + $1 WHERE position = 0', [by]);
    await later(86_400_000);
    await expect(world.closer().run()).rejects.toMatchObject({ code: 'PROOF_KEY_UNKNOWN' });
    await later(-86_400_000);
    expect(await world.closer().run()).toHaveLength(1);
  });
});

describe('documents that are kept', () => {
  it('are given to who began to wait before others put them out', async () => {
    const [charge] = await world.db.admin<{ price: Uuid; royalty: Uuid; split: Uuid }>(
      `SELECT price_version AS price, royalty_version AS royalty, split_version AS split FROM usage_charge
       WHERE adapter_version_id = $1 LIMIT 1`,
      [world.royal.versionId],
    );
    if (charge === undefined) throw new Error('Nothing was charged.');
    const { price, royalty, split } = charge;
    const { database } = world.db;
    const other = () => kept.digests([{ price: split, royalty: null, split }]);
    let meanwhile: (() => Promise<unknown>) | null = null;
    const kept: DocumentStore = new DocumentStore(
      {
        database: {
          querySystem: (...args) => database.querySystem(...args),
          withSystem: async (work) => {
            const once = meanwhile;
            meanwhile = null;
            await once?.();
            return database.withSystem(work);
          },
        },
      },
      1,
    );
    const wanted = [{ price, royalty, split: null }];
    const whole = await new DocumentStore({ database }).digests(wanted);
    expect(new Set(whole.keys())).toEqual(new Set([price, royalty]));
    await kept.digests([{ price, royalty: null, split: null }]);
    meanwhile = other;
    expect(await kept.digests(wanted)).toEqual(whole);
  });
});
