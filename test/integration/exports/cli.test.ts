import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parquetReadObjects } from 'hyparquet';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import type { Uuid } from '../../../src/kernel/ids.ts';
import { createEmptyDatabase } from '../../kit/postgres.ts';
import { type CliOptions, type CliResult, cli } from '../../unit/cli/fake-io.ts';
import { DAY, type ExportKit, of, openExportKit, sha256 } from './kit.ts';

let kit: ExportKit;
let tenantId: Uuid;
let dir: string;
beforeAll(async () => {
  kit = await openExportKit();
  tenantId = await kit.tenant();
  await kit.requests(tenantId, 30);
  await kit.requests(await kit.tenant(), 4);
});
afterAll(() => kit.dispose());
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'patchbay-export-'));
  return () => rmSync(dir, { recursive: true, force: true });
});

const day = (date: Date) => date.toISOString().slice(0, 10);

function run(options: Readonly<Record<string, string | null>>, more: CliOptions = {}): Promise<CliResult> {
  const flags = {
    '--source': 'usage',
    '--format': 'csv',
    '--out': join(dir, 'out'),
    '--from': day(DAY.from),
    '--to': day(DAY.until),
    ...options,
  };
  const argv = Object.entries(flags).flatMap(([name, value]) => (value === null ? [] : [name, value]));
  return cli(['export', ...argv], {
    environment: { DATABASE_URL: kit.db.adminUrl, PATCHBAY_SECRET: kit.db.secret },
    ...more,
  });
}

test('a file appears whole, with its rows and checksum, the same as any other way', async () => {
  const { code, out, err } = await run({ '--tenant': tenantId });
  expect(code).toBe(0);
  expect(err).not.toMatch(/[A-Z]+_[A-Z]+/);
  const content = readFileSync(join(dir, 'out'));
  expect(content.equals((await kit.write('usage', 'csv', of(tenantId))).content)).toBe(true);
  expect(out).toMatch(/^rows {4}30$/m);
  expect(out).toContain(`sha256  ${sha256(content)}`);
  expect(out).toContain(`until   ${DAY.until.toISOString()}`);
  expect(readdirSync(dir)).toEqual(['out']);
});

test('a tenant is found by its slug; without one it is all; --json says the same to programs', async () => {
  const [row] = await kit.db.admin<{ slug: string }>('SELECT slug FROM tenant WHERE id = $1', [tenantId]);
  const ofOne = await cli(
    [
      'export',
      '--source',
      'charges',
      '--format',
      'parquet',
      '--out',
      join(dir, 'a'),
      '--json',
      '--tenant',
      row?.slug ?? '',
      '--from',
      '2026-01-10T01:00:00+01:00',
    ],
    { environment: { DATABASE_URL: kit.db.adminUrl, PATCHBAY_SECRET: kit.db.secret } },
  );
  expect(ofOne.code).toBe(0);
  const report = JSON.parse(ofOne.out);
  expect(report).toMatchObject({
    source: 'charges',
    format: 'parquet',
    rows: '60',
    tenantId,
    from: DAY.from.toISOString(),
    sha256: sha256(readFileSync(join(dir, 'a'))),
  });
  const rows = await parquetReadObjects({ file: new Uint8Array(readFileSync(join(dir, 'a'))).buffer });
  expect(rows).toHaveLength(60);
  expect((await run({})).out).toMatch(/^rows {4}34$/m);
});

test('Ctrl-C leaves no half file, and what was there before stays', async () => {
  writeFileSync(join(dir, 'out'), 'before');
  const { code, out, err } = await run(
    {},
    {
      onInterrupt: (handler) => {
        handler();
        return () => {};
      },
    },
  );
  expect({ code, out }).toEqual({ code: 130, out: '' });
  expect(err).toContain('nothing was written');
  expect(readdirSync(dir)).toEqual(['out']);
  expect(readFileSync(join(dir, 'out'), 'utf8')).toBe('before');
  // Not interrupted, it takes the place.
  expect((await run({})).code).toBe(0);
  expect(readFileSync(join(dir, 'out'), 'utf8')).toMatch(/^request_id,/);
});

test.each([
  ['a folder that there is not', { '--out': '/nowhere/at/all' }, 3, 'FILE_MISSING'],
  ['a folder in place of a file', { '--out': tmpdir() }, 3, 'BAD_INPUT'],
  ['a tenant that there is not', { '--tenant': 'nobody' }, 3, 'NOT_FOUND'],
  ['a range that ends before it begins', { '--to': '2020-01-01' }, 3, 'BAD_INPUT'],
  ['a range that is still to come', { '--from': '2100-01-01', '--to': '2100-02-01' }, 3, 'BAD_INPUT'],
  ['a source that there is not', { '--source': 'users' }, 2, 'usage, charges, ledger, invoices'],
])('%s is refused with a fix, and leaves nothing', async (_, options, exit, said) => {
  const { code, err } = await run(options);
  expect(code).toBe(exit);
  expect(err).toContain(said);
  if (exit === 3) expect(err).toContain('Fix: ');
  expect(readdirSync(dir)).toEqual([]);
});

test('a database that no server has prepared is told apart', async () => {
  const empty = await createEmptyDatabase();
  const environment = { DATABASE_URL: empty.adminUrl, PATCHBAY_SECRET: kit.db.secret };
  const { code, err } = await run({}, { environment });
  await empty.dispose();
  expect(code).toBe(1);
  expect(err).toContain('DATABASE_MIGRATION');
});

test('what the operator exported is in the audit log', async () => {
  await run({ '--tenant': tenantId, '--source': 'ledger', '--from': '2020-01-01' });
  const lines = await kit.db.admin(
    `SELECT actor_kind, target_id FROM audit_log WHERE action = 'export.write' AND tenant_id = $1 AND target_id = 'ledger'`,
    [tenantId],
  );
  expect(lines).toEqual([{ actor_kind: 'SYSTEM', target_id: 'ledger' }]);
});
