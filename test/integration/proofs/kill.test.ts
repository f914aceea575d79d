import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { pause } from '../../../src/metering/periodic.ts';
import type { TreeHead } from '../../../src/proofs/log/types.ts';
import { openProofs } from '../../../src/proofs/open.ts';
import { type Bundle, bundle } from '../../kit/bundle.ts';
import { testSigner } from '../../kit/log.ts';
import { createTestDatabase, type TestDatabase } from '../../kit/postgres.ts';
import { waitFor } from '../../kit/wait.ts';
import { Definition } from '../../unit/proofs/rfc6962.ts';
import { openBilling, priceBackbone } from '../billing/kit.ts';
import { plays } from '../inference/fake-engine.ts';
import { plainInput, testCaller } from '../inference/harness.ts';
import { isSigned, queue, testLog } from './kit.ts';

// Processes are killed for real between their steps. What they had committed stays, and what they had not is left to the next
// one.

let db: TestDatabase;
let appending: Bundle;
let issuing: Bundle;
beforeAll(async () => {
  appending = await bundle('test/integration/proofs/kill-process.ts');
  issuing = await bundle('test/integration/proofs/issue-process.ts');
  db = await createTestDatabase();
});
afterAll(async () => {
  await db.dispose();
  await appending.remove();
  await issuing.remove();
});

/** Lets a process work and die; answers with the signal that ended it. */
function die(
  program: Bundle,
  { appUrl, systemUrl }: Pick<TestDatabase, 'appUrl' | 'systemUrl'>,
  point: string,
  more: Readonly<Record<string, number>> = {},
): Promise<NodeJS.Signals | null> {
  const child = spawn(
    process.execPath,
    [program.path, JSON.stringify({ appUrl, systemUrl, point, ...more })],
    {
      stdio: ['ignore', 'inherit', 'inherit'],
    },
  );
  return new Promise((resolve) => child.once('exit', (_code, signal) => resolve(signal)));
}

test('an appender that is killed between any two steps leaves a log that the next one goes on with', async () => {
  const { appender, service } = testLog(db);
  const all = new Definition(Array.from({ length: 4_000 }, (_, n) => Buffer.from(`entry ${n}`)));
  let queued = 0;
  const sizes: number[] = [];
  for (const [point, committed] of [
    ['before signing', 0],
    ['after signing', 0],
    ['before commit', 0],
    ['after commit', 300],
  ] as const) {
    const before = queued;
    await queue(db, queued, queued + 700);
    queued += 700;
    expect(await die(appending, db, point), point).toBe('SIGKILL');
    const latest = await service.latest();
    expect(latest?.size ?? 0, point).toBe(before + committed);
    if (committed > 0) sizes.push(before + committed);
    // The lock is free when the server has noticed that the process is gone.
    let heads: readonly TreeHead[] = [];
    await waitFor(async () => {
      heads = await appender.run();
      return heads.length > 0;
    });
    expect(
      heads.map(({ size }) => size),
      point,
    ).toEqual([queued]);
    sizes.push(queued);
  }
  for (const size of sizes) {
    const head = await service.head(size);
    expect(isSigned(head)).toBe(true);
    expect(Buffer.compare(head.root, all.mth(size)), `${size}`).toBe(0);
    await service.consistency(size, null);
  }
  const [left] = await db.admin('SELECT count(*)::integer AS waiting FROM log_queue');
  expect(left).toEqual({ waiting: 0 });
});

test('a process that is killed while it signs leaves each request with one receipt, or with none that the next one makes', async () => {
  const kit = await openBilling();
  await priceBackbone(kit);
  // Nobody signs here but the processes that die: what settles is left to them.
  const broken = {
    address: testSigner().address,
    sign: () => Promise.reject(new Error('no key')),
  };
  const api = await kit.process({
    proofs: (database) =>
      openProofs({ database, clock: kit.clock, signer: broken, randomBytes, pause, onError: () => {} }),
  });
  api.engine.script = plays(({ stop }) => Math.min(stop.maxTokens, 2));
  const tenantId = await kit.customer(1_000_000n);
  const count = async (table: string): Promise<number> => {
    const [row] = await kit.db.admin<{ many: number }>(`SELECT count(*)::integer AS many FROM ${table}`);
    return row?.many ?? 0;
  };
  let settled = 0;
  // Reading is the first transaction, the next two are of documents, the fourth writes.
  for (const [point, isSigned] of [
    ['transaction 3 after commit', false],
    ['transaction 4 before commit', false],
    ['transaction 4 after commit', true],
  ] as const) {
    await api.service.generate(testCaller(tenantId), plainInput(2, { maxTokens: 2 }));
    settled += 1;
    expect(await die(issuing, kit.db, point, { nowMs: kit.clock.nowMs() }), point).toBe('SIGKILL');
    expect(await count('receipt'), point).toBe(isSigned ? settled : 0);
    expect(await count('receipt_pending'), point).toBe(isSigned ? 0 : settled);
  }
  for (const table of ['receipt_view', 'receipt_number', 'log_queue'])
    expect(await count(table)).toBe(settled);
  await kit.close();
});
