import { chmodSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { startEmbeddedPostgres } from '../../../src/db/embedded.ts';
import { reachDatabase } from '../../../src/db/reach.ts';
import { createEmptyDatabase, createTestDatabase, type TestDatabase } from '../../kit/postgres.ts';
import { type CliResult, cli } from '../../unit/cli/fake-io.ts';
import { capture, createLedger, credit, hold } from './kit.ts';

let db: TestDatabase;
beforeAll(async () => {
  db = await createTestDatabase();
  const ledger = await createLedger(db);
  const customer = await ledger.customer(100n);
  const held = hold(customer.accountId, 10n);
  await ledger.service.hold(held, 'request');
  await ledger.service.capture(capture(held.id, [credit(ledger.fee, 3n)]));
  await ledger.sealer.run();
});
afterAll(() => db.dispose());

function verify(...flags: string[]): Promise<CliResult> {
  const environment = { DATABASE_URL: db.adminUrl, PATCHBAY_SECRET: db.secret };
  return cli(['ledger', 'verify', ...flags], { environment });
}

test('ledger verify says that the ledger is whole, and where its head is', async () => {
  const { code, out, err } = await verify();
  expect(err).not.toMatch(/[A-Z]+_[A-Z]+/);
  expect(out).toMatch(/^The ledger is whole: 1 batches with 11 rows; 0 facts wait/);
  const head = /^head {2}(1:[0-9a-f]{64})$/m.exec(out)?.[1] ?? '';
  expect(code).toBe(0);
  expect((await verify('--head', head)).code).toBe(0);
  expect((await verify('--head', `1:${'0'.repeat(64)}`)).code).toBe(1);
  expect((await verify('--head', 'x')).code).toBe(2);
});

test('ledger verify names what was changed, for people and for programs, and ends with 1', async () => {
  const change = (by: string) =>
    db.admin(`BEGIN; SET LOCAL session_replication_role = replica;
      UPDATE ledger_posting SET amount = amount ${by} WHERE amount = ANY (ARRAY[3, 4]); COMMIT`);
  await change('+ 1');
  const people = await verify();
  expect(people.code).toBe(1);
  expect(people.out).toMatch(/^1 +ledger_posting +\S+\/2 +The row is not the one that was sealed\.$/m);
  const programs = await verify('--json');
  expect(programs.code).toBe(1);
  expect(JSON.parse(programs.out)).toMatchObject({
    head: { sequence: '1' },
    problems: [
      { batch: '1', table: 'ledger_posting' },
      { table: 'ledger_transfer' },
      { table: 'ledger_fold' },
    ],
  });
  await change('- 1');
  expect((await verify()).code).toBe(0);
});

test('a database without a ledger is told apart from one that was changed', async () => {
  const empty = await createEmptyDatabase();
  const environment = { DATABASE_URL: empty.adminUrl, PATCHBAY_SECRET: db.secret };
  const { code, err } = await cli(['ledger', 'verify'], { environment });
  await empty.dispose();
  expect(code).toBe(1);
  expect(err).toContain('DATABASE_MIGRATION');
});

test('the embedded database is reached whether a server runs it or not', async () => {
  const dir = mkdtempSync(join(tmpdir(), 'patchbay-reach-'));
  chmodSync(dir, 0o755);
  const data = { dir, databaseUrl: null };
  try {
    const server = await startEmbeddedPostgres({ dataDir: dir });
    const beside = await reachDatabase(data);
    expect(beside.adminUrl).toBe(server.adminUrl);
    await beside.release();
    await server.stop();
    const alone = await reachDatabase(data);
    expect(new URL(alone.adminUrl).pathname).toBe('/patchbay');
    await alone.release();
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
});
