import { spawn } from 'node:child_process';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { TreeHead } from '../../../src/proofs/log/types.ts';
import { type Bundle, bundle } from '../../kit/bundle.ts';
import { createTestDatabase, type TestDatabase } from '../../kit/postgres.ts';
import { waitFor } from '../../kit/wait.ts';
import { Definition } from '../../unit/proofs/rfc6962.ts';
import { isSigned, queue, testLog } from './kit.ts';

// A process that appends is killed for real between its steps. What it had committed stays, what it had not is left to the next
// one, and the heads of before are beginnings of the heads of after.

let db: TestDatabase;
let program: Bundle;
beforeAll(async () => {
  program = await bundle('test/integration/proofs/kill-process.ts');
  db = await createTestDatabase();
});
afterAll(async () => {
  await db.dispose();
  await program.remove();
});

/** Lets a process append and die; answers with the signal that ended it. */
function die(point: string): Promise<NodeJS.Signals | null> {
  const { appUrl, systemUrl } = db;
  const child = spawn(process.execPath, [program.path, JSON.stringify({ appUrl, systemUrl, point })], {
    stdio: ['ignore', 'inherit', 'inherit'],
  });
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
    expect(await die(point), point).toBe('SIGKILL');
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
