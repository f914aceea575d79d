import { randomBytes, randomUUID } from 'node:crypto';
import { getAddress, hexlify, Wallet } from 'ethers';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { ChainOutbox } from '../../../../src/chain/outbox/outbox.ts';
import { sqlState } from '../../../../src/db/errors.ts';
import { PatchbayError } from '../../../../src/kernel/errors.ts';
import { newId } from '../../../../src/kernel/ids.ts';
import { Distributors } from '../../../../src/payouts/chain/distributors.ts';
import { ChainPayoutRail } from '../../../../src/payouts/chain/rail.ts';
import type { ChainReader } from '../../../../src/payouts/chain/types.ts';
import { describePayoutRail, payment } from '../../../conformance/payout-rail.ts';
import { ManualClock } from '../../../kit/fake-runner.ts';
import { createTestDatabase, type TestDatabase } from '../../../kit/postgres.ts';
import { codeOf } from '../kit.ts';

const CHAIN = 31_337n;
/** The rail asks nothing of the chain: what it pays is decided by what is stored. */
const unreachable: ChainReader = {
  account: null,
  provider: async () => {
    throw new PatchbayError('CHAIN_UNREACHABLE', 'There is no chain.');
  },
  finalBlock: async () => null,
};

let db: TestDatabase;
beforeAll(async () => {
  db = await createTestDatabase();
});
afterAll(() => db.dispose());

const clock = new ManualClock();
clock.advance(Date.UTC(2028, 0, 1));
const account = () => Wallet.createRandom().address;

/** A distributor that was read from the chain, and rails of two processes. */
async function openRails(decimals: number) {
  const id = newId(clock);
  const place = {
    chainId: CHAIN,
    distributor: getAddress(hexlify(randomBytes(20))),
    token: getAddress(hexlify(randomBytes(20))),
  };
  await db.admin(
    `WITH d AS (
       INSERT INTO payout_distributor (id, chain_id, address, token, decimals, opening_units, opening_block, created_at)
       VALUES ($1, $2, $3, $4, $5, 0, 0, now()) RETURNING id)
     INSERT INTO payout_chain_follow (distributor_id, block_number, block_hash, balance_units, received_units, claimed_units,
       published, followed_at)
     SELECT id, 0, decode(repeat('00', 32), 'hex'), 0, 0, 0, 0, now() FROM d`,
    [id, String(CHAIN), place.distributor, place.token, decimals],
  );
  const { database } = db;
  const deps = {
    database,
    clock,
    chain: unreachable,
    outbox: new ChainOutbox({ chainId: CHAIN }, { database, clock }),
  };
  const rail = () => new ChainPayoutRail(new Distributors(place, deps), deps);
  const payments = async () => {
    const rows = await db.admin<{ key: string; amount: string }>(
      `SELECT encode(p.payment_key, 'hex') AS key, p.amount_nano::text AS amount
       FROM payout_tree t JOIN payout_tree_payment p ON p.tree_id = t.id
       WHERE t.distributor_id = $1 ORDER BY t.sequence, p.line`,
      [id],
    );
    return rows.map(({ key, amount }) => ({ key, amount: BigInt(amount) }));
  };
  return { id, place, rail, payments };
}

// Of a token that has nano-units, so that every payment can be told from what can be claimed.
describePayoutRail('chain', async () => {
  const { rail, payments } = await openRails(9);
  return { rail: rail(), restarted: rail, account, payments, close: async () => {} };
});

describe('the database refuses a tree', () => {
  const order = (amounts: readonly bigint[]) => ({
    ...{ batchId: randomUUID(), currency: 'USD' },
    payments: amounts.map((amount) => payment(amount, { accountReference: account() })),
  });

  /** The SQLSTATE and constraint that a copy of the last tree ends with, changed by the statements. */
  async function outcome(id: string, values: { sequence?: string; total?: string }, ...leaves: string[]) {
    try {
      await db.database.withSystemPg(async (client) => {
        const tree = randomUUID();
        for (const leaf of leaves) await client.query(leaf, [tree, id]);
        await client.query(
          `INSERT INTO payout_tree (id, distributor_id, sequence, batch_id, currency, root, total_units, accounts, order_sha256, created_at)
           SELECT $1, $2, coalesce($3::bigint, t.sequence + 1), gen_random_uuid(), t.currency, t.root,
                  coalesce($4::numeric, t.total_units), t.accounts, t.order_sha256, now()
           FROM payout_tree t WHERE t.distributor_id = $2 ORDER BY t.sequence DESC LIMIT 1`,
          [tree, id, values.sequence ?? null, values.total ?? null],
        );
      });
      return 'ok';
    } catch (error) {
      const constraint =
        typeof error === 'object' && error !== null && 'constraint' in error ? error.constraint : '';
      return `${sqlState(error)} ${constraint}`;
    }
  }
  const COPY = `
    INSERT INTO payout_tree_leaf (tree_id, account, units)
    SELECT $1::uuid, l.account, l.units FROM payout_tree t JOIN payout_tree_leaf l ON l.tree_id = t.id WHERE t.distributor_id = $2`;
  const LESS = COPY.replace('l.units FROM', 'l.units - 1 FROM');
  const MORE = COPY.replace('l.units FROM', 'l.units + 1 FROM');
  const PAYMENT = `
    INSERT INTO payout_tree_payment (payment_key, tree_id, line, beneficiary_id, account, amount_nano)
    SELECT sha256(convert_to($1::uuid::text, 'UTF8')), $1::uuid, 1, gen_random_uuid(), l.account, 999
    FROM payout_tree t JOIN payout_tree_leaf l ON l.tree_id = t.id WHERE t.distributor_id = $2`;

  test('that leaves a gap, takes back, is not the sum of its payments or its leaves, or is added to', async () => {
    const { id, rail } = await openRails(6);
    await rail().submit(order([5_000n]));
    expect(await outcome(id, { sequence: '3' }, PAYMENT, COPY)).toBe('23514 payout_tree_follows');
    expect(await outcome(id, { sequence: '1' }, PAYMENT, COPY)).toBe(
      '23505 payout_tree_distributor_id_sequence_key',
    );
    expect(await outcome(id, {}, PAYMENT)).toBe('23514 payout_tree_takes_back');
    expect(await outcome(id, {}, PAYMENT, LESS)).toBe('23514 payout_tree_takes_back');
    expect(await outcome(id, {}, PAYMENT, MORE)).toBe('23514 payout_tree_leaf_of_payments');
    expect(await outcome(id, { total: '4' }, PAYMENT, COPY)).toBe('23514 payout_tree_adds_up');
    expect(await outcome(id, {}, COPY)).toBe('23514 payout_tree_adds_up');
    const added = db.database.querySystem(
      `INSERT INTO payout_tree_leaf (tree_id, account, units)
       SELECT t.id, '0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed', 1 FROM payout_tree t WHERE t.distributor_id = $1`,
      [id],
    );
    await expect(added.catch(sqlState)).resolves.toBe('42501');
    expect(await outcome(id, {}, PAYMENT, COPY)).toBe('ok');
  });

  test('of a batch that was cancelled; and what another distributor has is known again', async () => {
    const { rail } = await openRails(6);
    const asked = order([5_000n]);
    const receipt = await rail().submit(asked);
    expect(await rail().neverTook(asked.batchId)).toBe(false);
    const later = await openRails(6);
    expect(await later.rail().submit(asked)).toEqual(receipt);
    expect(await later.payments()).toEqual([]);
  });

  test('and the rail says what an order cannot be', async () => {
    const { rail } = await openRails(2);
    const dust = order([9_999_999n]);
    expect(await codeOf(rail().submit(dust))).toBe('PAYOUT_RAIL');
    expect(await rail().terms('USD')).toEqual({ leastNano: 10_000_000n });
    await rail().submit(order([10_000_000n]));
    // What is too little by itself is taken now, and carried.
    expect((await rail().submit(dust)).reference).toMatch(/:2$/);
    expect(await codeOf(rail().submit({ ...order([10_000_000n]), currency: 'EUR' }))).toBe('PAYOUT_RAIL');
    expect(await codeOf(rail().terms('EUR'))).toBe('PAYOUT_RAIL');
  });
});
