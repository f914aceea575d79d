import { createHash, randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { hexlify } from 'ethers';
import { recoverAddress } from 'ethers/transaction';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { z } from 'zod';
import type { Principal } from '../../../src/auth/principal.ts';
import type { Database } from '../../../src/db/client.ts';
import type { ReceiptText } from '../../../src/inference/events.ts';
import type { Uuid } from '../../../src/kernel/ids.ts';
import { pause } from '../../../src/metering/periodic.ts';
import { keystoreKey, replaceKeystore } from '../../../src/proofs/keys/keystore.ts';
import { KeyRegistry } from '../../../src/proofs/keys/registry.ts';
import { walletSigner } from '../../../src/proofs/keys/wallet.ts';
import { verifiesInclusion } from '../../../src/proofs/merkle/verify.ts';
import { openProofs, type Proofs } from '../../../src/proofs/open.ts';
import { DESK_DEFAULTS } from '../../../src/proofs/receipts/desk.ts';
import { batchDigest, successionDigest } from '../../../src/proofs/typed.ts';
import { ManualClock } from '../../kit/fake-runner.ts';
import { testSigner } from '../../kit/log.ts';
import { createTestDatabase } from '../../kit/postgres.ts';
import { waitFor } from '../../kit/wait.ts';
import { type BillingKit, openBilling, priceBackbone } from '../billing/kit.ts';
import { plays } from '../inference/fake-engine.ts';
import {
  collect,
  endOf,
  expire,
  plainInput,
  type TestProcess,
  take,
  testCaller,
} from '../inference/harness.ts';

const receiptSchema = z.strictObject({
  format: z.literal('patchbay-receipt/1'),
  log: z.string(),
  id: z.string(),
  commitments: z.array(z.string()),
  opened: z.array(
    z.strictObject({ index: z.number(), name: z.string(), salt: z.string(), value: z.string() }),
  ),
  batch: z.strictObject({
    size: z.string(),
    index: z.string(),
    path: z.array(z.string()),
    signedAt: z.string(),
    signature: z.string(),
  }),
  inclusion: z
    .object({
      index: z.string(),
      path: z.array(z.string()),
      head: z.object({ root: z.string(), size: z.string() }),
    })
    .nullable(),
  documents: z.array(z.record(z.string(), z.unknown())),
});
type ReceiptJson = z.infer<typeof receiptSchema>;

let kit: BillingKit;
let api: TestProcess;
let proofs: Proofs;
const opened: Proofs[] = [];

const open = async (database: Database): Promise<Proofs> => {
  const onError = (error: unknown) => {
    throw error;
  };
  const made = await openProofs({
    database,
    clock: kit.clock,
    signer: testSigner(),
    randomBytes,
    pause,
    onError,
  });
  opened.push(made);
  return made;
};

beforeAll(async () => {
  kit = await openBilling();
  await priceBackbone(kit);
  api = await kit.process({ proofs: open });
  const [first] = opened;
  if (first === undefined) throw new Error('The process has no proofs');
  proofs = first;
  api.engine.script = plays(({ stop }) => Math.min(stop.maxTokens, 4));
});
afterAll(() => kit.close());

function parse(text: string | null): ReceiptJson {
  return receiptSchema.parse(JSON.parse(text ?? 'null'));
}

/** Waits for the receipt of an answer. */
const asked = async ({ receipt }: { readonly receipt: ReceiptText | null }) => (await receipt?.()) ?? null;

const fieldOf = (receipt: ReceiptJson, name: string) =>
  receipt.opened.find((field) => field.name === name)?.value;

const principal = (tenantId: Uuid): Principal => ({
  kind: 'TENANT',
  tenantId,
  keyId: tenantId,
  scopes: ['usage:read'],
});

/** The leaf by what the specification says, and nothing of the program. */
function leafOf({ log, id, commitments }: ReceiptJson): Buffer {
  const count = Buffer.alloc(2);
  count.writeUInt16BE(commitments.length);
  const body = Buffer.concat([
    Buffer.from('patchbay:receipt:v1\0', 'latin1'),
    Buffer.from(log, 'hex'),
    Buffer.from(id.replaceAll('-', ''), 'hex'),
    count,
    Buffer.from(commitments.join(''), 'hex'),
  ]);
  return createHash('sha256').update(Buffer.of(0)).update(body).digest();
}

/** Fails unless every opened field is committed to and the key signed the batch. */
function check(receipt: ReceiptJson): void {
  for (const { index, salt, value } of receipt.opened) {
    const at = Buffer.alloc(2);
    at.writeUInt16BE(index);
    const commitment = createHash('sha256')
      .update('patchbay:field:v1\0', 'latin1')
      .update(at)
      .update(Buffer.from(salt, 'hex'))
      .update(value)
      .digest('hex');
    expect(receipt.commitments[index]).toBe(commitment);
  }
  expect(new Set(receipt.opened.map(({ salt }) => salt)).size).toBe(receipt.opened.length);
  const { batch } = receipt;
  const size = Number(batch.size);
  const root = rootFrom(leafOf(receipt), Number(batch.index), size, batch.path);
  const digest = batchDigest(Buffer.from(receipt.log, 'hex'), {
    root,
    size,
    signedAt: Number(batch.signedAt),
  });
  expect(recoverAddress(`0x${Buffer.from(digest).toString('hex')}`, batch.signature)).toBe(
    testSigner().address,
  );
}

/** RFC 9162, section 2.1.3.2. */
function rootFrom(leaf: Buffer, index: number, size: number, path: readonly string[]): Buffer {
  let [node, last, hash] = [index, size - 1, leaf];
  for (const text of path) {
    const sibling = Buffer.from(text, 'hex');
    const isRight = node % 2 === 1 || node === last;
    hash = createHash('sha256')
      .update(Buffer.of(1))
      .update(isRight ? sibling : hash)
      .update(isRight ? hash : sibling)
      .digest();
    if (isRight) while (node % 2 === 0 && node !== 0) [node, last] = [node >> 1, last >> 1];
    [node, last] = [node >> 1, last >> 1];
  }
  expect(last).toBe(0);
  return hash;
}

describe('a request that is settled', () => {
  it('ends with a receipt that states what it used and cost, and that opens nothing of others', async () => {
    const tenantId = await kit.customer(1_000_000n);
    const stream = await api.service.infer(testCaller(tenantId), plainInput(3, { maxTokens: 4 }));
    const receipt = parse(await asked(endOf(await collect(stream))));
    check(receipt);
    expect(receipt.commitments).toHaveLength(33);
    const [record] = await kit.db.admin<{ amount: string; output: string }>(
      `SELECT amount_nano AS amount, encode(output_commitment, 'hex') AS output FROM usage_record WHERE id = $1`,
      [receipt.id],
    );
    expect(Object.fromEntries(receipt.opened.map(({ name, value }) => [name, value]))).toMatchObject({
      tenant: tenantId,
      tenantCounter: '0:1',
      backbone: api.engine.info.backboneDigest,
      promptTokens: '3',
      completionTokens: '4',
      outputCommitment: record?.output,
      finish: 'length',
      settledBy: 'engine',
      currency: 'USD',
      amount: record?.amount,
      'part.0.version': '',
      'part.0.share': '1/1',
      'part.0.total': record?.amount,
    });
    expect(receipt.documents).toEqual([expect.objectContaining({ format: 'patchbay-price/1' })]);
    expect(receipt.inclusion).toBeNull();
  });

  it('is in the log a moment later, and whoever else asks for it gets nothing', async () => {
    const tenantId = await kit.customer(1_000_000n);
    const answer = await api.service.generate(testCaller(tenantId), plainInput(2, { maxTokens: 2 }));
    const { requestId } = answer;
    expect(await asked(answer)).not.toBeNull();
    await proofs.appender.run();
    const found = await proofs.receipts.find(principal(tenantId), requestId);
    const receipt = parse(found?.document ?? null);
    check(receipt);
    const { inclusion } = receipt;
    if (inclusion === null) throw new Error('The log does not have the receipt');
    expect(
      verifiesInclusion({
        leaf: leafOf(receipt),
        index: Number(inclusion.index),
        size: Number(inclusion.head.size),
        root: Buffer.from(inclusion.head.root, 'hex'),
        path: inclusion.path.map((hash) => Buffer.from(hash, 'hex')),
      }),
    ).toBe(true);
    expect(found?.leaf).toBe(leafOf(receipt).toString('hex'));
    expect(await proofs.receipts.find(principal(await kit.customer()), requestId)).toBeNull();
    expect(
      await proofs.receipts.find({ ...principal(tenantId), kind: 'OPERATOR' }, requestId),
    ).not.toBeNull();
  });

  it('shows an owner what ran on the adapter and not for whom, and the tenant not how much else did', async () => {
    const [owner, other] = [await kit.customer(), await kit.customer()];
    const one = await kit.adapterWithRoyalty('one', owner, 250_000n);
    const two = await kit.adapterWithRoyalty('two', other, 100_000n);
    const tenantId = await kit.customer(1_000_000n);
    kit.clock.advance(3_000);
    const blend = {
      plainBackbone: false,
      adapters: [
        { adapter: 'one', weight: 1 },
        { adapter: 'two', weight: -0.5 },
      ],
    };
    const answer = await api.service.generate(
      testCaller(tenantId),
      plainInput(3, { ...blend, maxTokens: 2 }),
    );
    const { requestId } = answer;
    expect(await asked(answer)).not.toBeNull();
    const views = await Promise.all(
      [tenantId, owner, other].map(async (who) =>
        parse((await proofs.receipts.find(principal(who), requestId))?.document ?? null),
      ),
    );
    for (const view of views) check(view);
    const [asTenant, asOwner, asOther] = views;
    if (asTenant === undefined || asOwner === undefined || asOther === undefined) throw new Error('no views');
    expect(asOwner.commitments).toEqual(asTenant.commitments);
    const first = [one.versionId, two.versionId].sort()[0] === one.versionId ? 0 : 1;
    const mine = `part.${first}`;
    const theirs = `part.${1 - first}`;
    expect(fieldOf(asTenant, `${mine}.version`)).toBe(one.versionId);
    expect(fieldOf(asTenant, `${mine}.weight`)).toBe('3ff0000000000000');
    expect(fieldOf(asTenant, `${theirs}.weight`)).toBe('bfe0000000000000');
    expect(fieldOf(asTenant, `${mine}.share`)).toBe('2/3');
    const names = (view: ReceiptJson) => view.opened.map(({ name }) => name);
    for (const hidden of ['owner', 'counter', 'split', 'fee']) {
      expect(names(asTenant)).not.toContain(`${mine}.${hidden}`);
      expect(names(asOwner)).toContain(`${mine}.${hidden}`);
    }
    expect(fieldOf(asOwner, `${mine}.counter`)).toBe('0:1');
    for (const hidden of [
      'tenant',
      'tenantCounter',
      'key',
      'promptCommitment',
      'amount',
      `${theirs}.version`,
    ]) {
      expect(names(asOwner)).not.toContain(hidden);
    }
    expect(JSON.stringify(asOwner)).not.toContain(tenantId);
    expect(names(asOther)).toContain(`${theirs}.royalty`);
    const royalties = [0, 1].map((part) => BigInt(fieldOf(asTenant, `part.${part}.royalty`) ?? ''));
    expect(royalties.every((royalty) => royalty > 0n)).toBe(true);
  });

  it('that another process settles after its own was lost is stated too', async () => {
    const tenantId = await kit.customer(1_000_000n);
    const lost = await kit.process({ proofs: open });
    const stream = await lost.service.infer(testCaller(tenantId), plainInput(3, { maxTokens: 9 }));
    await take(stream);
    const sequence = await lost.engine.sequence(lost.engine.all.length - 1);
    sequence.emit(1, 2);
    await take(stream);
    await expire(kit.db, lost);
    const [settled] = (await api.metering.recoverExpired()).settled;
    // So that it counts as left behind.
    await kit.db.admin(`UPDATE receipt_pending SET created_at = now() - interval '1 minute'`);
    kit.clock.advance(DESK_DEFAULTS.lostEveryMs);
    proofs.desk.wake();
    const find = () => proofs.receipts.find(principal(tenantId), settled?.requestId ?? '');
    await waitFor(async () => (await find()) !== null, { what: 'the receipt' });
    const receipt = parse((await find())?.document ?? null);
    check(receipt);
    expect(fieldOf(receipt, 'settledBy')).toBe('recovery');
    expect(fieldOf(receipt, 'completionTokens')).toBe('2');
    sequence.end('stop');
    await collect(stream);
  });
});

describe('numbers', () => {
  it('have no gaps however many settle at once, on several processes, and are in the order of a page', async () => {
    const owner = await kit.customer();
    const { versionId } = await kit.adapterWithRoyalty('counted', owner, 0n);
    const tenantId = await kit.customer(10_000_000n);
    kit.clock.advance(3_000);
    const second = await kit.process({ proofs: open });
    second.engine.script = api.engine.script;
    const third = await kit.process({ proofs: open });
    third.engine.script = api.engine.script;
    const run = (process: TestProcess) =>
      process.service.generate(
        testCaller(tenantId),
        plainInput(1, { plainBackbone: false, adapters: [{ adapter: 'counted', weight: 1 }], maxTokens: 1 }),
      );
    const results = await Promise.all(
      [second, third].flatMap((process) => Array.from({ length: 30 }, () => run(process))),
    );
    expect(await Promise.all(results.map(asked))).not.toContain(null);
    const seen: { readonly lane: number; readonly number: bigint; readonly requestId: Uuid }[] = [];
    for (let after: string | null = null; ; ) {
      const page = await proofs.receipts.numbered(principal(owner), versionId, { first: 25, after });
      seen.push(
        ...page.items.map(({ lane, number, receipt }) => ({ lane, number, requestId: receipt.requestId })),
      );
      if (!page.hasNextPage) break;
      const last = page.items.at(-1);
      after = `${last?.lane}:${last?.number}`;
    }
    expect(seen).toHaveLength(60);
    expect(new Set(seen.map(({ requestId }) => requestId)).size).toBe(60);
    for (const lane of new Set(seen.map((one) => one.lane))) {
      const numbers = seen.filter((one) => one.lane === lane).map(({ number }) => number);
      expect(numbers).toEqual(numbers.map((_, index) => BigInt(index + 1)));
    }
    const own = await proofs.receipts.numbered(principal(tenantId), null, { first: 100, after: null });
    expect(own.items).toHaveLength(60);
    expect(
      (await proofs.receipts.numbered(principal(tenantId), versionId, { first: 1, after: null })).items,
    ).toEqual([]);
  });
});

describe('erasing', () => {
  it('leaves every proof as it was, and nobody who could open a field', async () => {
    const tenantId = await kit.customer(1_000_000n);
    const answer = await api.service.generate(testCaller(tenantId), plainInput(1));
    const { requestId } = answer;
    const receipt = parse(await asked(answer));
    await kit.db.database.withSystemPg((client) =>
      client.query('DELETE FROM receipt_view WHERE request_id = $1', [requestId]),
    );
    expect(await proofs.receipts.find(principal(tenantId), requestId)).toBeNull();
    const [row] = await kit.db.admin<{ commitments: Buffer; leaf: Buffer }>(
      'SELECT commitments, leaf FROM receipt WHERE request_id = $1',
      [requestId],
    );
    expect(row?.commitments.toString('hex')).toBe(receipt.commitments.join(''));
    expect(row?.leaf).toEqual(leafOf(receipt));
  });
});

describe('the key', () => {
  it('that is not in use starts no server, and signs nothing', async () => {
    const other = { ...testSigner(), address: `0x${'2'.repeat(40)}` };
    await expect(proofs.keys.use(other)).rejects.toMatchObject({ code: 'PROOF_KEY_UNKNOWN' });
    await expect(
      kit.db.database.withSystemPg((client) =>
        client.query(
          `INSERT INTO receipt_batch (id, root, size, signed_at, signer, signature)
           VALUES (gen_random_uuid(), sha256(''), 1, $1, $2, $3)`,
          [0, testSigner().address, `0x${'0'.repeat(130)}`],
        ),
      ),
    ).rejects.toMatchObject({ code: '42501' });
    expect(await proofs.keys.list()).toEqual([
      { address: testSigner().address, validFrom: expect.any(Number), validUntil: null, endorsement: null },
    ]);
  });

  it('that replaces another is endorsed by it, however often the command is killed and repeated', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'patchbay-keys-'));
    const file = join(folder, 'proof-key.json');
    const db = await createTestDatabase();
    const clock = new ManualClock();
    const registry = new KeyRegistry({ database: db.database, clock });
    const first = walletSigner(await keystoreKey(file, 'a password'));
    await registry.use(first);
    const succeed = (present: string, next: string) =>
      registry.succeed(walletSigner(present), walletSigner(next));
    // Killed after the database knows, before the file is moved.
    await expect(
      replaceKeystore(file, 'a password', async (present, next) => {
        await succeed(present, next);
        throw new Error('killed');
      }),
    ).rejects.toThrow('killed');
    await expect(registry.use(walletSigner(await keystoreKey(file, 'a password')))).rejects.toMatchObject({
      code: 'PROOF_KEY_UNKNOWN',
    });
    await replaceKeystore(file, 'a password', succeed);
    const next = walletSigner(await keystoreKey(file, 'a password'));
    await registry.use(next);
    const [old, present, ...more] = await registry.list();
    expect(more).toEqual([]);
    expect(old).toMatchObject({ address: first.address, validUntil: present?.validFrom, endorsement: null });
    expect(present).toMatchObject({ address: next.address, validUntil: null });
    const digest = successionDigest(await registry.logId(), {
      next: next.address,
      validFrom: present?.validFrom ?? 0,
    });
    expect(recoverAddress(hexlify(digest), present?.endorsement ?? '')).toBe(first.address);
    await expect(keystoreKey(file, 'another password')).rejects.toMatchObject({ code: 'CONFIG_INVALID' });
    await expect(registry.succeed(first, testSigner())).rejects.toMatchObject({ code: 'PROOF_KEY_UNKNOWN' });
    await db.dispose();
    rmSync(folder, { recursive: true });
  });
});
