import { createHash } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Uuid } from '../../../src/kernel/ids.ts';
import { reconcile } from '../../../src/reconciliation/reconcile.ts';
import { type EpochWorld, epochSchema, openEpochs, reader, statementSchema } from './epochs-kit.ts';

let world: EpochWorld;
let tenantId: Uuid;
beforeAll(async () => {
  world = await openEpochs();
  tenantId = await world.kit.customer(100_000_000n);
});
afterAll(() => world.close());

const ROYAL = [{ adapter: 'royal' }];
const latest = async () => {
  const { receipts, quarantined, released } = await world.proofs.epochs.get(null);
  const document = await world.proofs.epochs.document(null);
  return { receipts, quarantined, released, ...epochSchema.parse(JSON.parse(document)) };
};
const tenantAccount = async () => {
  const { number } = await world.proofs.epochs.get(null);
  const statement = await world.proofs.epochs.statement(reader(tenantId), number, null);
  return statementSchema.parse(JSON.parse(statement)).present?.account;
};
const close = () => world.closer().run();
/** Eight of what does not match for one epoch. */
const IN_TURN = { pageLeaves: 8, differingMax: 8 };
const requestHash = (id: Uuid): string =>
  createHash('sha256')
    .update('patchbay:request:v1\0', 'latin1')
    .update(world.logId)
    .update(Buffer.from(id.replaceAll('-', ''), 'hex'))
    .digest('hex');

/** The posting of a request's capture on an account of the kind. */
const POSTING = (kind: string): string =>
  `transfer_id = (SELECT t.id FROM ledger_transfer t JOIN usage_record r ON r.hold_id = t.pending_id WHERE r.id = $1)
   AND account_id IN (SELECT id FROM ledger_account WHERE kind = '${kind}')`;
const CAPTURE = 'pending_id = (SELECT hold_id FROM usage_record WHERE id = $1)';
const VIEW = `request_id = $1 AND tenant_id = (SELECT tenant_id FROM usage_record WHERE id = $1)`;

/** Each changes one row of a request's, and the reason that is found. */
const PLANTS: readonly (readonly [what: string, reason: string, sql: string])[] = [
  [
    'more tokens than the engine counted',
    'ENGINE_DIFFERS',
    'UPDATE usage_record SET completion_tokens = 6 WHERE id = $1',
  ],
  ['another prompt', 'ENGINE_DIFFERS', 'UPDATE usage_record SET engine_prompt_tokens = 2 WHERE id = $1'],
  [
    'another amount',
    'CAPTURE_DIFFERS',
    'UPDATE usage_record SET amount_nano = amount_nano + 1 WHERE id = $1',
  ],
  ['another currency', 'CAPTURE_DIFFERS', `UPDATE usage_record SET currency = 'EUR' WHERE id = $1`],
  ['no capture', 'CAPTURE_DIFFERS', `DELETE FROM ledger_transfer WHERE ${CAPTURE}`],
  ['a capture of more', 'CAPTURE_DIFFERS', `UPDATE ledger_transfer SET amount = amount + 1 WHERE ${CAPTURE}`],
  [
    'a capture for something else',
    'CAPTURE_DIFFERS',
    `UPDATE ledger_transfer SET reference_id = id WHERE ${CAPTURE}`,
  ],
  [
    'a payment of more',
    'CAPTURE_DIFFERS',
    `UPDATE ledger_posting SET amount = amount - 1 WHERE ${POSTING('CUSTOMER')}`,
  ],
  [
    'earnings of somebody else',
    'CAPTURE_DIFFERS',
    `UPDATE ledger_posting SET account_id = (
       SELECT id FROM ledger_account WHERE kind = 'EARNINGS' ORDER BY tenant_id DESC LIMIT 1)
     WHERE ${POSTING('EARNINGS')} AND tenant_id = (SELECT min(tenant_id::text)::uuid FROM ledger_account WHERE kind = 'EARNINGS')`,
  ],
  ['another fee', 'CAPTURE_DIFFERS', `UPDATE usage_charge SET fee_nano = fee_nano + 1 WHERE request_id = $1`],
  ['another way to end', 'LEAF_DIFFERS', `UPDATE usage_record SET finish_reason = 'length' WHERE id = $1`],
  ['another weight', 'LEAF_DIFFERS', 'UPDATE usage_share SET weight = 0.5 WHERE request_id = $1'],
  [
    'another digest',
    'LEAF_DIFFERS',
    `UPDATE usage_share SET adapter_digest = sha256('') WHERE request_id = $1`,
  ],
  [
    'another owner',
    'LEAF_DIFFERS',
    `UPDATE usage_share SET owner_tenant_id = gen_random_uuid() WHERE request_id = $1`,
  ],
  [
    'another price',
    'LEAF_DIFFERS',
    'UPDATE usage_charge SET price_version = royalty_version WHERE request_id = $1',
  ],
  [
    'a line of the price moved',
    'LEAF_DIFFERS',
    'UPDATE usage_charge SET input_nano = input_nano + 1, output_nano = output_nano - 1 WHERE request_id = $1',
  ],
  [
    'another number',
    'LEAF_DIFFERS',
    `UPDATE receipt_number SET number = number + 1000 WHERE request_id = $1 AND kind = 'tenant'`,
  ],
  [
    'a text that was not committed to',
    'LEAF_DIFFERS',
    `UPDATE receipt_view SET texts[13] = 'length' WHERE ${VIEW}`,
  ],
  [
    'a salt that is not the one',
    'LEAF_DIFFERS',
    `UPDATE receipt_view SET salts = set_byte(salts, 40, get_byte(salts, 40) # 1) WHERE ${VIEW}`,
  ],
  [
    'a commitment that is not the leaf’s',
    'LEAF_DIFFERS',
    'UPDATE receipt SET commitments = set_byte(commitments, 3, get_byte(commitments, 3) # 1) WHERE request_id = $1',
  ],
  [
    'a leaf that is not the log’s',
    'LEAF_DIFFERS',
    `UPDATE receipt SET leaf = sha256('') WHERE request_id = $1`,
  ],
  ['no receipt', 'LEAF_DIFFERS', 'DELETE FROM receipt WHERE request_id = $1'],
  ['no record', 'RECORD_MISSING', 'DELETE FROM usage_record WHERE id = $1'],
];
const PLANTED = [
  ...['usage_record', 'usage_charge', 'usage_share', 'ledger_transfer', 'ledger_posting'],
  ...['receipt', 'receipt_view', 'receipt_number'],
];

describe('what does not match', () => {
  let requests: Readonly<Record<string, Uuid>>;
  let whole: string;

  it('is quarantined, with everything that was planted', async () => {
    const served = await Promise.all(
      PLANTS.map(async ([what]): Promise<[string, Uuid]> => [what, await world.serve(tenantId, ROYAL)]),
    );
    requests = Object.fromEntries(served);
    whole = await world.serve(tenantId, ROYAL);
    await world.log();
    await world.keep(PLANTED);
    for (const [what, , sql] of PLANTS) await world.plant(sql, [requests[what]]);
    await close();
    const found = await world.quarantined();
    expect(Object.fromEntries(served.map(([what, id]) => [what, found[id]]))).toEqual(
      Object.fromEntries(PLANTS.map(([what, reason]) => [what, reason])),
    );
    expect(found[whole]).toBeUndefined();
  });

  it('is in the epoch, where its numbers count and its amounts do not', async () => {
    const { epoch, receipts, quarantined } = await latest();
    expect([receipts, quarantined, epoch.receipts]).toEqual([1n, PLANTS.length, '1']);
    const hashes = epoch.quarantined.map(({ request }) => request);
    expect(hashes).toEqual(Object.values(requests).map(requestHash).sort());
    const [{ amount } = { amount: '' }] = await world.db.admin<{ amount: string }>(
      'SELECT amount_nano::text AS amount FROM usage_record WHERE id = $1',
      [whole],
    );
    expect(await tenantAccount()).toMatchObject({ receipts: '1', charged: [{ currency: 'USD', amount }] });
    const told = await world.db.admin(`SELECT payload FROM outbox_event WHERE kind = 'epoch.quarantined'`);
    expect(told).toEqual([{ payload: { number: '1', quarantined: PLANTS.length, released: 0 } }]);
  });

  it('blocks nothing, is not quarantined again, and is compared again in turn', async () => {
    const ids = Object.values(requests).sort();
    for (const end of [7, 15]) {
      await world.serve(tenantId);
      await world.log();
      await world.closer(IN_TURN).run();
      expect(await latest()).toMatchObject({ receipts: 1n, quarantined: 0, released: 0 });
      expect(await world.db.admin('SELECT compared_until FROM epoch_scan')).toEqual([
        { compared_until: ids[end] },
      ]);
    }
  });

  it('is released by the epoch that finds it matching, with its amounts', async () => {
    await world.restore(PLANTED);
    const last = await world.serve(tenantId);
    await world.log();
    // What matches does not count as what does not, so that one epoch gets through all of it.
    await world.closer(IN_TURN).run();
    const { epoch, receipts, released } = await latest();
    expect([receipts, released, epoch.receipts]).toEqual([
      BigInt(PLANTS.length) + 1n,
      PLANTS.length,
      String(PLANTS.length + 1),
    ]);
    expect(epoch.released.every(({ leaf, epoch: of }) => leaf !== null && of === '1')).toBe(true);
    const [sum] = await world.db.admin<{ amount: string }>(
      'SELECT sum(amount_nano)::text AS amount FROM usage_record WHERE id = ANY ($1)',
      [[...Object.values(requests), last]],
    );
    expect(await tenantAccount()).toMatchObject({
      receipts: String(PLANTS.length + 1),
      charged: [{ currency: 'USD', ...sum }],
    });
    expect(await world.quarantined()).toEqual({});
  });
});

describe('a receipt that the log does not have', () => {
  const forget = (id: Uuid) => world.plant('DELETE FROM log_queue WHERE entry_id = $1', [id]);
  const found = (id: Uuid) =>
    world.plant('INSERT INTO log_queue SELECT request_id, leaf FROM receipt WHERE request_id = $1', [id]);
  let lost: Uuid;
  let unsigned: Uuid;
  let dropped: Uuid;
  /** What reconciliation finds of requests that ended twenty minutes ago. */
  const differences = async () => {
    await world.keep(['usage_record']);
    for (const id of [lost, unsigned, dropped]) {
      await world.plant(`UPDATE usage_record SET ended_at = ended_at - interval '20 minutes' WHERE id = $1`, [
        id,
      ]);
    }
    const [from, to] = [new Date(Date.now() - 3_600_000), new Date(Date.now() + 3_600_000)];
    const report = await reconcile(world.db.database, { from, to, tenantId: null }, ['RECORD_RECEIPT']);
    await world.restore(['usage_record']);
    return Object.fromEntries(report.differences.map(({ subjectId, actual }) => [subjectId, actual]));
  };

  it('is missing ten minutes after the end of its request', async () => {
    lost = await world.serve(tenantId);
    await world.sign();
    await forget(lost);
    // Without a trace but that its process gave others their receipts.
    dropped = await world.serve(tenantId);
    await world.sign();
    for (const table of ['receipt', 'receipt_number', 'receipt_view'])
      await world.plant(`DELETE FROM ${table} WHERE request_id = $1`, [dropped]);
    await forget(dropped);
    unsigned = await world.lose(tenantId);
    await world.plant(
      `UPDATE receipt_pending SET created_at = now() + interval '1 hour' WHERE request_id = $1`,
      [unsigned],
    );
    await world.serve(tenantId);
    await world.log();
    // A server whose clock is an hour ahead neither finds them too soon nor leaves them out later.
    world.clock.advance(3_600_000);
    await close();
    expect(await world.quarantined()).toEqual({});
    await world.serve(tenantId);
    await world.log();
    await world.closer({ missingAfterMs: 0 }).run();
    expect(await world.quarantined()).toEqual({
      ...{ [lost]: 'LEAF_MISSING', [unsigned]: 'LEAF_MISSING', [dropped]: 'LEAF_MISSING' },
    });
    expect(await differences()).toEqual({ [lost]: 'signed', [unsigned]: 'numbered', [dropped]: null });
    const { epoch, receipts } = await latest();
    expect([receipts, epoch.receipts]).toEqual([1n, '1']);
    expect(epoch.quarantined.map(({ leaf }) => leaf)).toEqual([null, null, null]);
    await world.serve(tenantId);
    await world.log();
    await close();
    expect(await latest()).toMatchObject({ quarantined: 0, released: 0 });
  });

  it('is released by the epoch that has its leaf, also when something else of it does not match', async () => {
    await found(lost);
    await world.plant(
      `UPDATE receipt_pending SET created_at = now() - interval '1 hour' WHERE request_id = $1`,
      [unsigned],
    );
    await world.log();
    await world.keep(['usage_record']);
    await world.plant(`UPDATE usage_record SET finish_reason = 'length' WHERE id = $1`, [unsigned]);
    // However few an epoch may release of those that it compares again: no later one has their leaves.
    await world.closer({ releasedMax: 1, pageLeaves: 1 }).run();
    const { epoch, receipts } = await latest();
    expect([Number(epoch.size) - Number(epoch.firstSize), receipts, epoch.receipts]).toEqual([2, 1n, '1']);
    expect(epoch.released.map(({ leaf }) => leaf)).toEqual([null, null]);
    expect(epoch.quarantined).toMatchObject([{ request: requestHash(unsigned), reason: 'LEAF_DIFFERS' }]);
    await world.restore(['usage_record']);
    await world.serve(tenantId);
    await world.log();
    await close();
    expect(await latest()).toMatchObject({ receipts: 2n, released: 1, quarantined: 0 });
    expect(await world.quarantined()).toEqual({ [dropped]: 'LEAF_MISSING' });
    expect(await differences()).toEqual({ [dropped]: null });
  });
});
