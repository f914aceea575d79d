import { randomBytes } from 'node:crypto';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { Database } from '../../../src/db/client.ts';
import { systemClock } from '../../../src/kernel/clock.ts';
import { newId, type Uuid } from '../../../src/kernel/ids.ts';
import { NO_QUOTAS } from '../../../src/kernel/quota.ts';
import { OutputCommitment, promptCommitment } from '../../../src/metering/commitment.ts';
import { METERING_DEFAULTS, Metering } from '../../../src/metering/metering.ts';
import { writeRound } from '../../../src/metering/round.ts';
import type { Admission, Settlement } from '../../../src/metering/types.ts';
import { createTestDatabase, type TestDatabase } from '../../kit/postgres.ts';
import { FREE, freeRecharge, NO_CHARGE } from '../../kit/unpriced.ts';
import { waitFor } from '../../kit/wait.ts';
import { expire, only, recordsOf, startProcess, type TestProcess } from '../inference/harness.ts';

let db: TestDatabase;
let first: TestProcess;
let second: TestProcess;

beforeAll(async () => {
  db = await createTestDatabase();
});
afterAll(() => db.dispose());
beforeEach(async () => {
  [first, second] = [await startProcess(db), await startProcess(db)];
});
afterEach(async () => {
  await first.close();
  await second.close();
});

function admissionOf(tenantId: Uuid): Admission {
  const salt = randomBytes(32);
  return {
    requestId: newId(systemClock),
    tenantId,
    keyId: newId(systemClock),
    idempotency: null,
    backboneDigest: 'ab'.repeat(32),
    adapters: [],
    priority: 'STANDARD',
    promptTokens: 7,
    maxTokens: 16,
    salt,
    promptCommitment: promptCommitment(salt, [1]),
    emptyOutputCommitment: new OutputCommitment(salt).value(),
    charge: FREE,
  };
}

function settlementOf(requestId: Uuid, instanceId: Uuid, completionTokens: number): Settlement {
  return {
    requestId,
    instanceId,
    promptTokens: 7,
    cachedPromptTokens: 0,
    completionTokens,
    outputCommitment: randomBytes(32),
    queueUs: 1,
    prefillUs: 2,
    decodeUs: 3,
    computeUs: 4,
    bytesLoaded: 5,
    finishReason: 'stop',
    errorCode: null,
    settledBy: 'engine',
    engineCount: null,
    executed: null,
    charge: NO_CHARGE,
    capture: null,
  };
}

/** An admitted request of the first process with one token of progress. */
async function running(tenantId: Uuid): Promise<{ requestId: Uuid; instanceId: Uuid; commitment: Buffer }> {
  const admission = admissionOf(tenantId);
  const admitted = await first.metering.recorder.admit(admission);
  if (admitted.kind !== 'admitted') throw new Error('Not admitted');
  const { requestId } = admission;
  const { instanceId } = admitted;
  const commitment = randomBytes(32);
  await first.metering.recorder.progress({
    requestId,
    instanceId,
    completionTokens: 1,
    cachedPromptTokens: 2,
    outputCommitment: commitment,
  });
  return { requestId, instanceId, commitment };
}

describe('recovery', () => {
  it('settles what a dead process left from its last committed progress', async () => {
    const tenantId = newId(systemClock);
    const { requestId, commitment } = await running(tenantId);
    await expire(db, first);
    const recovery = await second.metering.recoverExpired();
    expect(recovery.settled).toEqual([{ requestId, tenantId, promptTokens: 7, completionTokens: 1 }]);
    expect(only(await recordsOf(db, tenantId))).toMatchObject({
      settled_by: 'recovery',
      error_code: 'SERVER_LOST',
      prompt_tokens: 7,
      cached_prompt_tokens: 2,
      output_commitment: commitment,
      compute_us: null,
    });
  });

  it('meters nothing of a request that had delivered nothing', async () => {
    const tenantId = newId(systemClock);
    await first.metering.recorder.admit(admissionOf(tenantId));
    await expire(db, first);
    await second.metering.recoverExpired();
    expect(only(await recordsOf(db, tenantId))).toMatchObject({ prompt_tokens: 0, completion_tokens: 0 });
  });

  it('leaves the living alone', async () => {
    const tenantId = newId(systemClock);
    const { requestId, instanceId } = await running(tenantId);
    expect(await second.metering.recoverExpired()).toEqual({ fenced: [], settled: [], failed: [] });
    await first.metering.recorder.settle(settlementOf(requestId, instanceId, 3));
    expect(only(await recordsOf(db, tenantId))).toMatchObject({ settled_by: 'engine', completion_tokens: 3 });
  });

  it('lets an instance go on that renews late but before anyone fenced it', async () => {
    const tenantId = newId(systemClock);
    const { requestId, instanceId } = await running(tenantId);
    await expire(db, first);
    await first.metering.lease.renew();
    expect((await second.metering.recoverExpired()).fenced).toEqual([]);
    await first.metering.recorder.settle(settlementOf(requestId, instanceId, 2));
  });

  it('keeps a fenced instance from admitting, progressing, settling and voiding', async () => {
    const tenantId = newId(systemClock);
    const { requestId, instanceId } = await running(tenantId);
    await db.admin(`UPDATE instance SET fenced_at = now(), fence_reason = 'expired' WHERE id = $1`, [
      instanceId,
    ]);
    const { recorder } = first.metering;
    const progress = {
      requestId,
      instanceId,
      completionTokens: 2,
      cachedPromptTokens: 2,
      outputCommitment: randomBytes(32),
    };
    await expect(recorder.progress(progress)).rejects.toMatchObject({ code: 'LEASE_LOST' });
    await expect(recorder.settle(settlementOf(requestId, instanceId, 2))).rejects.toMatchObject({
      code: 'LEASE_LOST',
    });
    await recorder.void({ requestId, charge: FREE }, instanceId);
    expect(await db.admin('SELECT completion_tokens FROM request_progress')).toEqual([
      { completion_tokens: 1 },
    ]);
    expect(await recordsOf(db, tenantId)).toEqual([]);
    await second.metering.recoverExpired();
    expect(only(await recordsOf(db, tenantId))).toMatchObject({
      completion_tokens: 1,
      settled_by: 'recovery',
    });
  });

  it('registers a fenced process anew, under another id', async () => {
    const before = first.metering.lease.current?.instanceId;
    const lost: Uuid[] = [];
    first.metering.lease.onFenced((id) => lost.push(id));
    await expire(db, first);
    await second.metering.recoverExpired();
    await first.metering.lease.renew();
    expect(lost).toEqual([before]);
    await first.metering.lease.renew();
    expect(first.metering.lease.current?.instanceId).not.toBe(before);
  });

  it('and the process itself never both settle: one record whoever is faster', async () => {
    const tenantId = newId(systemClock);
    for (let round = 0; round < 25; round += 1) {
      const { requestId, instanceId } = await running(tenantId);
      await expire(db, first);
      const [settled, ...recoveries] = await Promise.allSettled([
        first.metering.recorder.settle(settlementOf(requestId, instanceId, 9)),
        second.metering.recoverExpired(),
        second.metering.recoverExpired(),
      ]);
      expect(recoveries.every((recovery) => recovery.status === 'fulfilled')).toBe(true);
      const record = only((await recordsOf(db, tenantId)).filter((row) => row.id === requestId));
      // Who was told that it settled did settle, and nobody else.
      expect(record.settled_by).toBe(settled?.status === 'fulfilled' ? 'engine' : 'recovery');
      expect(record.completion_tokens).toBe(record.settled_by === 'engine' ? 9 : 1);
      await first.metering.lease.renew();
      await first.metering.lease.ensure();
    }
  });

  it('never loses a progress that was acknowledged, whenever the fence falls', async () => {
    const tenantId = newId(systemClock);
    for (let round = 0; round < 25; round += 1) {
      const { requestId, instanceId } = await running(tenantId);
      await expire(db, first);
      let acknowledged = 1;
      const advance = async (): Promise<void> => {
        for (let n = 2; n <= 6; n += 1) {
          const progress = {
            requestId,
            instanceId,
            completionTokens: n,
            cachedPromptTokens: 2,
            outputCommitment: randomBytes(32),
          };
          await first.metering.recorder.progress(progress);
          acknowledged = n;
        }
      };
      await Promise.allSettled([advance(), second.metering.recoverExpired()]);
      await db.admin(`UPDATE instance SET lease_expires_at = now() - interval '1 second' WHERE id = $1`, [
        instanceId,
      ]);
      await second.metering.recoverExpired();
      const record = only((await recordsOf(db, tenantId)).filter((row) => row.id === requestId));
      expect(record.completion_tokens).toBe(acknowledged);
      await first.metering.lease.renew();
      await first.metering.lease.ensure();
    }
  });

  it('waits for a round that is under way, and settles what it wrote', async () => {
    const tenantId = newId(systemClock);
    const value = admissionOf(tenantId);
    const { instanceId } = await first.metering.lease.ensure();
    await expire(db, first);
    let commit = (): void => {};
    const held = new Promise<void>((resolve) => {
      commit = resolve;
    });
    let written = false;
    const round = first.database.withSystemPg(async (client) => {
      await writeRound(client, { shard: 0, quotas: NO_QUOTAS, witness: null }, [
        { kind: 'admit', instanceId, value },
      ]);
      written = true;
      await held;
    });
    await waitFor(() => written);
    const recovery = second.metering.recoverExpired();
    const blocked = `SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`;
    await waitFor(async () => (await db.admin(blocked)).length > 0, { what: 'the fence to wait' });
    commit();
    await round;
    expect((await recovery).settled).toMatchObject([{ requestId: value.requestId, completionTokens: 0 }]);
  });

  it('settles more requests than one batch holds, by several sweepers at once', async () => {
    const tenantId = newId(systemClock);
    await Promise.all(
      Array.from({ length: 450 }, () => first.metering.recorder.admit(admissionOf(tenantId))),
    );
    await expire(db, first);
    const sweeps = await Promise.all(Array.from({ length: 4 }, () => second.metering.recoverExpired()));
    expect(sweeps.flatMap((sweep) => sweep.settled)).toHaveLength(450);
    expect(await recordsOf(db, tenantId)).toHaveLength(450);
  });

  it('settles every request but the one that cannot be settled, names it, and tries it again', async () => {
    const tenantId = newId(systemClock);
    const admissions = Array.from({ length: 230 }, () => admissionOf(tenantId));
    await Promise.all(admissions.map((admission) => first.metering.recorder.admit(admission)));
    const poison = admissions[17]?.requestId;
    await db.admin(`UPDATE inference_request SET adapters = '[{"version_id": "nonsense"}]' WHERE id = $1`, [
      poison,
    ]);
    await expire(db, first);
    const told: string[] = [];
    const sweeper = new Metering(METERING_DEFAULTS, {
      database: second.database,
      clock: systemClock,
      recharge: freeRecharge,
      onBackgroundError: (task) => told.push(task),
    });
    const recovery = await sweeper.recoverExpired();
    expect(recovery.settled).toHaveLength(229);
    expect(recovery.failed.map(({ requestId }) => requestId)).toEqual([poison]);
    expect(told).toEqual([`recover request ${poison}`]);
    await db.admin(`UPDATE inference_request SET adapters = '[]' WHERE id = $1`, [poison]);
    expect(await sweeper.recoverExpired()).toMatchObject({ settled: [{ requestId: poison }], failed: [] });
  });

  it('halves a batch that takes longer than a statement may', async () => {
    const tenantId = newId(systemClock);
    const admissions = Array.from({ length: 8 }, () => admissionOf(tenantId));
    await Promise.all(admissions.map((admission) => first.metering.recorder.admit(admission)));
    await expire(db, first);
    await db.admin(`
      CREATE FUNCTION take_time() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(0.1); RETURN new; END';
      CREATE TRIGGER slow BEFORE INSERT ON usage_salt_default FOR EACH ROW EXECUTE FUNCTION take_time()`);
    const { appUrl, systemUrl } = db;
    const database = new Database({ appUrl, systemUrl, statementTimeoutMs: 500 });
    const sweeper = new Metering(METERING_DEFAULTS, {
      database,
      clock: systemClock,
      recharge: freeRecharge,
    });
    const recovery = await sweeper.recoverExpired();
    await database.close();
    await db.admin('DROP TRIGGER slow ON usage_salt_default; DROP FUNCTION take_time');
    expect(recovery.settled).toHaveLength(8);
  });

  it('runs without waiting for a lease that was given back', async () => {
    const tenantId = newId(systemClock);
    await running(tenantId);
    await first.metering.lease.release();
    expect((await second.metering.recoverExpired()).settled).toHaveLength(1);
  });

  it('never fences the process that sweeps', async () => {
    await expire(db, second);
    expect((await second.metering.recoverExpired()).fenced).toEqual([]);
  });
});

describe('a repeated write, as after a lost answer', () => {
  it('admits, settles and voids once', async () => {
    const tenantId = newId(systemClock);
    const { recorder } = first.metering;
    const admission = admissionOf(tenantId);
    const [one, two] = [await recorder.admit(admission), await recorder.admit(admission)];
    expect(two).toEqual(one);
    if (one.kind !== 'admitted') throw new Error('Not admitted');
    const settlement = settlementOf(admission.requestId, one.instanceId, 3);
    await recorder.settle(settlement);
    await recorder.settle(settlement);
    expect(await recordsOf(db, tenantId)).toHaveLength(1);
    await recorder.void(admission, one.instanceId);
    expect(await recordsOf(db, tenantId)).toHaveLength(1);
  });

  it('never moves progress back', async () => {
    const tenantId = newId(systemClock);
    const { requestId, instanceId } = await running(tenantId);
    const { recorder } = first.metering;
    await recorder.progress({
      requestId,
      instanceId,
      completionTokens: 5,
      cachedPromptTokens: 2,
      outputCommitment: randomBytes(32),
    });
    const back = {
      requestId,
      instanceId,
      completionTokens: 4,
      cachedPromptTokens: 2,
      outputCommitment: randomBytes(32),
    };
    await expect(recorder.progress(back)).rejects.toMatchObject({ code: 'LEASE_LOST' });
    await recorder.settle(settlementOf(requestId, instanceId, 5));
  });
});
