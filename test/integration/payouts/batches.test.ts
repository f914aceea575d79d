import { randomUUID } from 'node:crypto';
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Principal } from '../../../src/auth/principal.ts';
import { SYSTEM_ACTOR } from '../../../src/auth/principal.ts';
import { newId } from '../../../src/kernel/ids.ts';
import { paymentKey } from '../../../src/payouts/key.ts';
import { waitFor } from '../../kit/wait.ts';
import {
  type Beneficiary,
  codeOf,
  DAY_MS,
  IBAN,
  newCurrency,
  openPayoutsKit,
  type PayoutsKit,
  UNIT,
} from './kit.ts';

let kit: PayoutsKit;
beforeAll(async () => {
  kit = await openPayoutsKit({ options: { batchMax: 3 } });
});
afterAll(() => kit.dispose());

/** Somebody with so much past the holdback window. */
async function earned(currency: string, amount: bigint): Promise<Beneficiary> {
  const who = await kit.beneficiary(currency);
  await kit.earn(who, currency, amount);
  return who;
}
const mature = (): void => kit.clock.advance(kit.options.holdbackMs + 1);

describe('a draft', () => {
  test('holds what is past the window, in whole cents, of whoever has the minimum and a destination', async () => {
    const currency = newCurrency();
    const rich = await earned(currency, 25n * UNIT + 19_999_999n);
    const poor = await earned(currency, 10n * UNIT - 1n);
    const lost = await kit.beneficiary(currency, null);
    await kit.earn(lost, currency, 99n * UNIT);
    const debtor = await earned(currency, 5n * UNIT);
    await kit.correct(debtor, currency, -30n * UNIT);
    mature();
    await kit.earn(rich, currency, 3n * UNIT);
    const batch = await kit.create(currency);
    const [payout, ...others] = await kit.payoutsOf(batch.id);
    expect(others).toEqual([]);
    const amount = 25n * UNIT + 10_000_000n;
    expect(batch).toMatchObject({
      state: 'DRAFT',
      payoutCount: 1,
      totalNano: amount,
      needsSecondPerson: false,
    });
    expect(payout).toMatchObject({
      tenantId: rich.tenantId,
      state: 'PENDING',
      amountNano: amount,
      earnedBefore: batch.earnedBefore,
    });
    expect(payout?.paymentKey).toBe(
      paymentKey({
        ...{ beneficiary: rich.tenantId, earnedBefore: batch.earnedBefore, amountNano: amount, currency },
        ...{ kind: 'FILE', accountName: 'Ada Lovelace', accountReference: IBAN },
      }),
    );
    expect(await kit.balance(rich)).toMatchObject({ posted: 28n * UNIT + 19_999_999n, held: amount });
    for (const other of [poor, lost, debtor]) expect((await kit.balance(other)).held).toBe(0n);
    // Nothing is left that could be paid, and what is carried over comes when it is enough.
    expect(await codeOf(kit.create(currency))).toBe('PAYOUT_NOTHING_DUE');
    await kit.earn(poor, currency, 1n);
    await kit.earn(debtor, currency, 35n * UNIT - 1n);
    mature();
    const next = await kit.payoutsOf((await kit.create(currency)).id);
    expect(next.map(({ tenantId, amountNano }) => [tenantId, amountNano])).toEqual([
      [poor.tenantId, 10n * UNIT],
    ]);
  });

  test('is bounded, and the next one takes the others', async () => {
    const currency = newCurrency();
    for (let i = 0; i < 5; i += 1) await earned(currency, 20n * UNIT);
    mature();
    const batches = [await kit.create(currency), await kit.create(currency)];
    expect(batches.map(({ payoutCount }) => payoutCount)).toEqual([3, 2]);
    const everybody = (await Promise.all(batches.map(({ id }) => kit.payoutsOf(id)))).flat();
    expect(new Set(everybody.map(({ tenantId }) => tenantId)).size).toBe(5);
  });

  test('of a retry is the first one, and of two at once one has everything', async () => {
    const currency = newCurrency();
    await earned(currency, 20n * UNIT);
    mature();
    const input = { idempotencyKey: randomUUID(), currency, earnedBefore: null };
    const { batches } = kit.payouts;
    const first = await batches.create(kit.drafter, input);
    kit.clock.advance(5_000);
    expect(await batches.create(kit.drafter, input)).toEqual(first);
    await batches.cancel(kit.drafter, first.id);
    kit.clock.advance(1);
    const race = await Promise.all(Array.from({ length: 4 }, () => codeOf(kit.create(currency))));
    expect(race.sort()).toEqual(['PAYOUT_NOTHING_DUE', 'PAYOUT_NOTHING_DUE', 'PAYOUT_NOTHING_DUE', null]);
  });

  test('can end earlier than the window, and not later', async () => {
    const currency = newCurrency();
    const who = await earned(currency, 20n * UNIT);
    const middle = new Date(kit.clock.nowMs() + DAY_MS);
    kit.clock.advance(2 * DAY_MS);
    await kit.earn(who, currency, 5n * UNIT);
    expect(await codeOf(kit.create(currency, new Date(kit.clock.nowMs() - kit.options.holdbackMs + 1)))).toBe(
      'BAD_INPUT',
    );
    mature();
    const early = await kit.create(currency, middle);
    expect(early).toMatchObject({ totalNano: 20n * UNIT, earnedBefore: middle });
    // What was earned before a time is paid once, whatever became of it: the key would be the same.
    await kit.payouts.batches.cancel(kit.drafter, early.id);
    expect(await codeOf(kit.create(currency, middle))).toBe('PAYOUT_NOTHING_DUE');
    expect((await kit.create(currency)).totalNano).toBe(25n * UNIT);
  });

  test('pays to the destination that is in effect, and keeps it', async () => {
    const currency = newCurrency();
    const who = await earned(currency, 20n * UNIT);
    mature();
    const changed = await kit.payouts.destinations.set(who.principal, {
      ...{
        idempotencyKey: randomUUID(),
        accountName: 'Ada L.',
        accountReference: 'GB29 NWBK 6016 1331 9268 19',
      },
    });
    expect(changed.effectiveFrom.getTime()).toBe(kit.clock.nowMs() + kit.options.destinationDelayMs);
    kit.clock.advance(kit.options.destinationDelayMs - 1);
    const before = await kit.create(currency);
    await kit.earn(who, currency, 30n * UNIT);
    mature();
    const after = await kit.create(currency);
    const references = [];
    for (const { id } of [before, after])
      references.push((await kit.payoutsOf(id))[0]?.destination.accountReference);
    expect(references).toEqual([IBAN, 'GB29NWBK60161331926819']);
  });

  test('pays to the first destination at once, and only one is the first, whoever races', async () => {
    const who = await kit.beneficiary(newCurrency(), null);
    const set = (accountName: string) =>
      kit.payouts.destinations.set(who.principal, {
        ...{ idempotencyKey: randomUUID(), accountName, accountReference: IBAN },
      });
    // Neither can end while the audit log takes nothing: the second has to wait for the first before it looks.
    const client = new pg.Client({ connectionString: kit.db.adminUrl });
    await client.connect();
    await client.query('BEGIN');
    await client.query('LOCK TABLE audit_log IN SHARE MODE');
    const both = Promise.all([set('Ada'), set('Grace')]);
    await waitFor(
      async () => {
        const waiting = `SELECT 1 FROM pg_stat_activity
          WHERE datname = current_database() AND wait_event_type = 'Lock'`;
        return (await kit.db.admin(waiting)).length === 2;
      },
      { what: 'both to wait' },
    );
    await client.query('ROLLBACK');
    await client.end();
    const times = (await both).map(({ effectiveFrom }) => effectiveFrom.getTime() - kit.clock.nowMs());
    expect(times.sort((a, b) => a - b)).toEqual([0, kit.options.destinationDelayMs]);
  });

  test('leaves out who is suspended, and pays who is closed what they have earned', async () => {
    const currency = newCurrency();
    const who = await earned(currency, 20n * UNIT);
    mature();
    await kit.tenancy.tenants.setState(kit.drafter, who.tenantId, 'SUSPENDED');
    expect(await codeOf(kit.create(currency))).toBe('PAYOUT_NOTHING_DUE');
    await kit.tenancy.tenants.setState(kit.drafter, who.tenantId, 'CLOSED');
    expect(await kit.create(currency)).toMatchObject({ payoutCount: 1, totalNano: 20n * UNIT });
  });
});

describe('approval', () => {
  test('of a small batch is for any operator, and repeating it changes nothing', async () => {
    const currency = newCurrency();
    await earned(currency, 1_000n * UNIT);
    mature();
    const { id, needsSecondPerson } = await kit.create(currency);
    expect(needsSecondPerson).toBe(false);
    const { batches } = kit.payouts;
    const approved = await batches.approve(kit.drafter, id);
    expect(approved).toMatchObject({ state: 'APPROVED', approvedBy: kit.drafter.keyId });
    expect(await batches.approve(kit.drafter, id)).toEqual(approved);
    expect(await codeOf(batches.approve(kit.approver, id))).toBe('PAYOUT_STATE');
  });

  test('above the limit needs a second person, whom a rotated key does not make', async () => {
    const currency = newCurrency();
    await earned(currency, 1_000n * UNIT + 10_000_000n);
    mature();
    const { id, needsSecondPerson } = await kit.create(currency);
    expect(needsSecondPerson).toBe(true);
    const { batches } = kit.payouts;
    expect(await codeOf(batches.approve(kit.drafter, id))).toBe('FORBIDDEN');
    const { secret } = await kit.tenancy.keys.rotate(kit.drafter, {
      ...{ idempotencyKey: randomUUID(), id: kit.drafter.keyId, overlapMs: 3_600_000 },
    });
    const rotated = await kit.tenancy.authenticator.authenticate(`Bearer ${secret}`);
    expect(rotated.keyId).not.toBe(kit.drafter.keyId);
    expect(await codeOf(batches.approve(rotated, id))).toBe('FORBIDDEN');
    const denied = await kit.db.admin<{ key: string }>(
      `SELECT actor_key_id AS key FROM audit_log WHERE action = 'payoutBatch.approve' AND outcome = 'DENIED' AND target_id = $1`,
      [id],
    );
    expect(new Set(denied.map(({ key }) => key))).toEqual(new Set([kit.drafter.keyId, rotated.keyId]));
    // Nor do keys that the drafter's keys made, themselves or at two removes.
    const made = async (by: Principal): Promise<Principal> => {
      const input = {
        idempotencyKey: randomUUID(),
        tenantId: null,
        name: 'me',
        scopes: null,
        expiresAt: null,
      };
      const issued = await kit.tenancy.keys.create(by, input);
      return kit.tenancy.authenticator.authenticate(`Bearer ${issued.secret}`);
    };
    const child = await made(kit.drafter);
    const grandchild = await made(child);
    const ofRotated = await made(rotated);
    const relatives = [child, grandchild, ofRotated];
    for (const relative of relatives) expect(await codeOf(batches.approve(relative, id))).toBe('FORBIDDEN');
    // Nor two keys of one maker, whichever of them drafts.
    await earned(currency, 1_000n * UNIT + 10_000_000n);
    mature();
    const ofChild = await batches.create(child, {
      idempotencyKey: randomUUID(),
      currency,
      earnedBefore: null,
    });
    expect(ofChild.needsSecondPerson).toBe(true);
    for (const relative of [kit.drafter, grandchild, ofRotated]) {
      expect(await codeOf(batches.approve(relative, ofChild.id))).toBe('FORBIDDEN');
    }
    expect(await batches.approve(await made(kit.approver), ofChild.id)).toMatchObject({ state: 'APPROVED' });
    // Past the service, the database refuses the same.
    for (const key of [kit.drafter, rotated, ...relatives].map(({ keyId }) => keyId)) {
      const text = `UPDATE payout_batch SET state = 'APPROVED', approved_by = $1, approved_at = now() WHERE id = $2`;
      await expect(kit.db.database.querySystem(text, [key, id])).rejects.toMatchObject({
        ...{ code: '42501', constraint: 'payout_batch_second_person' },
      });
    }
    expect(await codeOf(batches.submit(kit.drafter, id))).toBe('PAYOUT_STATE');
    expect(await batches.approve(kit.approver, id)).toMatchObject({
      state: 'APPROVED',
      approvedBy: kit.approver.keyId,
    });
  });
});

describe('a cancelled batch', () => {
  test('gives its money back, and is not handed over', async () => {
    const currency = newCurrency();
    const who = await earned(currency, 20n * UNIT);
    mature();
    const { id } = await kit.create(currency);
    const { batches } = kit.payouts;
    await batches.approve(kit.approver, id);
    const cancelled = await batches.cancel(kit.drafter, id);
    expect(cancelled.state).toBe('CANCELLED');
    expect(await batches.cancel(kit.drafter, id)).toEqual(cancelled);
    expect(await kit.balance(who)).toMatchObject({ posted: 20n * UNIT, held: 0n });
    expect(await codeOf(batches.submit(kit.drafter, id))).toBe('PAYOUT_STATE');
    expect(await codeOf(batches.approve(kit.approver, id))).toBe('PAYOUT_STATE');
    const [payout] = await kit.payoutsOf(id);
    expect(await kit.events(payout?.id ?? '')).toEqual(['PENDING', 'CANCELLED']);
    expect(await kit.events(id)).toEqual(['DRAFT', 'APPROVED', 'CANCELLED']);
  });

  test('that was handed over cannot be', async () => {
    const currency = newCurrency();
    await earned(currency, 20n * UNIT);
    mature();
    const { id } = await kit.submitted(currency);
    expect(await codeOf(kit.payouts.batches.cancel(kit.drafter, id))).toBe('PAYOUT_STATE');
  });
});

test('a batch goes through all its states once, with an event and an audit line for each', async () => {
  const currency = newCurrency();
  const who = await earned(currency, 20n * UNIT);
  mature();
  const batch = await kit.submitted(currency);
  expect(batch).toMatchObject({ state: 'SUBMITTED', railReference: `payouts-${batch.id}.csv` });
  expect(await kit.payouts.batches.submit(kit.drafter, batch.id)).toEqual(batch);
  const [payout] = await kit.payoutsOf(batch.id);
  const { paymentKey: key = '', amountNano: amount = 0n } = payout ?? {};
  expect((await kit.payments()).filter((one) => one.key === key)).toEqual([
    { file: batch.railReference, key, tenantId: who.tenantId, amount },
  ]);
  await kit.say([{ key, amount, state: 'PAID', reference: 'BANK-7' }]);
  expect(await kit.events(batch.id)).toEqual(['DRAFT', 'APPROVED', 'SUBMITTING', 'SUBMITTED', 'SETTLED']);
  expect(await kit.events(payout?.id ?? '')).toEqual(['PENDING', 'SENDING', 'PAID']);
  const audit = await kit.db.admin<{ line: string }>(
    `SELECT concat_ws(' ', action, outcome, actor_kind, before ->> 'state', after ->> 'state') AS line
     FROM audit_log WHERE target_id = $1 ORDER BY action`,
    [batch.id],
  );
  expect(audit.map(({ line }) => line)).toEqual([
    'payoutBatch.approve DONE OPERATOR DRAFT APPROVED',
    'payoutBatch.create DONE OPERATOR',
    'payoutBatch.settled DONE SYSTEM SUBMITTED SETTLED',
    'payoutBatch.submit DONE OPERATOR APPROVED SUBMITTING',
    'payoutBatch.submitted DONE SYSTEM SUBMITTING SUBMITTED',
  ]);
  const [imported] = await kit.db.admin<{ after: object }>(
    `SELECT after FROM audit_log WHERE action = 'payout.import' ORDER BY id DESC LIMIT 1`,
  );
  expect(imported?.after).toMatchObject({ paid: [payout?.id], failed: [], unknown: [] });
  expect(await kit.balance(who)).toMatchObject({ posted: 0n, held: 0n });
  expect(await kit.paidOut(currency)).toBe(20n * UNIT);
});

describe('nobody but an operator with a key', () => {
  test('moves a batch', async () => {
    const currency = newCurrency();
    const who = await earned(currency, 20n * UNIT);
    mature();
    const { id } = await kit.create(currency);
    const { batches, outcomes } = kit.payouts;
    for (const actor of [who.principal, SYSTEM_ACTOR]) {
      const input = { idempotencyKey: randomUUID(), currency, earnedBefore: null };
      const resolution = { payoutId: id, outcome: 'FAILED', bankReference: null } as const;
      for (const attempt of [
        () => batches.create(actor, input),
        () => batches.approve(actor, id),
        () => batches.cancel(actor, id),
        () => batches.submit(actor, id),
        () => outcomes.importResults(actor, ''),
        () => outcomes.resolveUnknown(actor, resolution),
      ]) {
        expect(await codeOf(attempt())).toBe('FORBIDDEN');
      }
    }
    expect(await codeOf(batches.approve(kit.approver, randomUUID()))).toBe('NOT_FOUND');
    const weak = { ...who.principal, scopes: ['billing:read'] };
    const destination = { idempotencyKey: randomUUID(), accountName: 'A', accountReference: IBAN };
    expect(await codeOf(kit.payouts.destinations.set(weak, destination))).toBe('FORBIDDEN');
    expect(await codeOf(kit.payouts.destinations.set(kit.drafter, destination))).toBe('BAD_INPUT');
  });
});

describe('a batch that the rail does not take', () => {
  test('stops no other when batches are gone on with, and is told of', async () => {
    await mkdir(kit.folder, { recursive: true });
    const fileOf = (id: string): string => join(kit.folder, `payouts-${id}.csv`);
    const ids: string[] = [];
    for (let i = 0; i < 2; i += 1) {
      const currency = newCurrency();
      await earned(currency, 20n * UNIT);
      mature();
      const { id } = await kit.create(currency);
      await kit.payouts.batches.approve(kit.approver, id);
      // Something else has the name of its file.
      await writeFile(fileOf(id), 'something else');
      expect(await codeOf(kit.payouts.batches.submit(kit.drafter, id))).toBe('PAYOUT_RAIL');
      ids.push(id);
    }
    const [stuck = '', free = ''] = ids.toSorted();
    await rm(fileOf(free));
    const { resumed, failed } = await kit.payouts.batches.resume();
    expect(resumed).toMatchObject([{ id: free, state: 'SUBMITTED' }]);
    expect(failed).toMatchObject([{ batchId: stuck, error: { code: 'PAYOUT_RAIL' } }]);
    await rm(fileOf(stuck));
    expect((await kit.payouts.batches.resume()).resumed).toMatchObject([{ id: stuck }]);
  });
});

describe('a batch that is forgotten', () => {
  test('before it was handed over is cancelled, and its money is free', async () => {
    const currency = newCurrency();
    const who = await earned(currency, 20n * UNIT);
    mature();
    const { id } = await kit.create(currency);
    await kit.payouts.batches.approve(kit.approver, id);
    const expiredOf = async () =>
      (await kit.payouts.batches.expire()).expired.filter((batch) => batch.id === id);
    kit.clock.advance(kit.options.draftTtlMs);
    expect(await expiredOf()).toEqual([]);
    expect((await kit.balance(who)).held).toBe(20n * UNIT);
    kit.clock.advance(1);
    expect(await expiredOf()).toMatchObject([{ state: 'CANCELLED' }]);
    expect(await expiredOf()).toEqual([]);
    expect(await kit.balance(who)).toMatchObject({ posted: 20n * UNIT, held: 0n });
    const audit = await kit.db.admin(
      `SELECT actor_kind::text AS kind FROM audit_log WHERE action = 'payoutBatch.expire' AND target_id = $1`,
      [id],
    );
    expect(audit).toEqual([{ kind: 'SYSTEM' }]);
    expect(await kit.create(currency)).toMatchObject({ totalNano: 20n * UNIT });
  });

  test('after it was handed over is not', async () => {
    const currency = newCurrency();
    await earned(currency, 20n * UNIT);
    mature();
    const { id } = await kit.submitted(currency);
    kit.clock.advance(kit.options.draftTtlMs + 1);
    await kit.payouts.batches.expire();
    expect((await kit.payouts.batches.get(kit.drafter, id))?.state).toBe('SUBMITTED');
  });

  // The last one: from here on the books do not agree.
  test('keeps no other from being cancelled when it cannot be', async () => {
    const [one, two] = [newCurrency(), newCurrency()];
    for (const currency of [one, two]) await earned(currency, 20n * UNIT);
    mature();
    const [first, second] = [await kit.create(one), await kit.create(two)];
    // Somebody has released the money of the first behind its back.
    const [payout] = await kit.payoutsOf(first.id);
    const [held] = await kit.db.admin<{ hold_id: string }>('SELECT hold_id FROM payout WHERE id = $1', [
      payout?.id,
    ]);
    await kit.ledger.void({ id: newId(kit.clock), holdId: held?.hold_id ?? '' });
    kit.clock.advance(kit.options.draftTtlMs + 1);
    const { expired, failed } = await kit.payouts.batches.expire();
    expect(failed.map(({ batchId }) => batchId)).toContain(first.id);
    expect(expired.map(({ id }) => id)).toContain(second.id);
  });
});
