import { createHash } from 'node:crypto';
import { mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parse } from 'csv-parse/sync';
import { expect, test } from 'vitest';
import { z } from 'zod';
import { parseMoney } from '../../../src/kernel/money.ts';
import { FilePayoutRail, type RailDisk, railDisk } from '../../../src/payouts/file-rail.ts';
import { renderPaymentFile } from '../../../src/payouts/payment-file.ts';
import { describePayoutRail, payment } from '../../conformance/payout-rail.ts';

const record = z.array(z.record(z.string(), z.string()));

/** Every payment of the files in a folder, as another program reads them. */
async function paymentsIn(folder: string) {
  const names = (await readdir(folder).catch(() => [])).filter((name) => name.endsWith('.csv'));
  const found: { readonly key: string; readonly amount: bigint }[] = [];
  for (const name of names) {
    const rows = record.parse(parse(await readFile(join(folder, name), 'utf8'), { columns: true }));
    for (const row of rows) {
      if (row['record'] === 'PAYMENT')
        found.push({ key: row['key'] ?? '', amount: parseMoney(row['amount'] ?? '') ?? -1n });
    }
  }
  return found;
}

async function temporary() {
  const root = await mkdtemp(join(tmpdir(), 'patchbay-rail-'));
  return { folder: join(root, 'payouts'), close: () => rm(root, { recursive: true, force: true }) };
}

describePayoutRail('payment file', async () => {
  const { folder, close } = await temporary();
  const open = () => new FilePayoutRail({ folder });
  return { rail: open(), restarted: open, payments: () => paymentsIn(folder), close };
});

const BATCH = '0192f000-0000-7000-8000-0000000000b1';
const ORDER = {
  batchId: BATCH,
  currency: 'USD',
  payments: [
    payment(12_340_000_000n, { key: 'a'.repeat(64), beneficiary: '0192f000-0000-7000-8000-0000000000aa' }),
    payment(10n ** 18n, {
      key: 'b'.repeat(64),
      beneficiary: '0192f000-0000-7000-8000-0000000000ab',
      accountName: 'Søren',
    }),
  ],
};

test('the file has a header, a line for each payment, and control totals over all bytes before them', () => {
  const text = renderPaymentFile(ORDER);
  const header = 'record,batch,key,beneficiary,account_name,account_reference,currency,amount,count\r\n';
  const body =
    `${header}PAYMENT,${BATCH},${'a'.repeat(64)},0192f000-0000-7000-8000-0000000000aa,` +
    `"Ada ""the first"", Lovelace",DE89370400440532013000,USD,12.34,\r\n` +
    `PAYMENT,${BATCH},${'b'.repeat(64)},0192f000-0000-7000-8000-0000000000ab,Søren,DE89370400440532013000,USD,1000000000,\r\n`;
  const sha = createHash('sha256').update(body).digest('hex');
  expect(text).toBe(`${body}TOTAL,${BATCH},${sha},,,,USD,1000000012.34,2\r\n`);
});

test('the receipt names the file and its hash, and only its owner may read the folder', async () => {
  const { folder, close } = await temporary();
  const receipt = await new FilePayoutRail({ folder }).submit(ORDER);
  const bytes = await readFile(join(folder, receipt.reference));
  expect(receipt.reference).toBe(`payouts-${BATCH}.csv`);
  expect(receipt.sha256).toBe(createHash('sha256').update(bytes).digest('hex'));
  expect(await readdir(folder)).toEqual([receipt.reference]);
  expect((await stat(folder)).mode & 0o077).toBe(0);
  await close();
});

/** A disk that fails at a step, before or after doing it. */
function failingAt(step: keyof RailDisk, isDone: boolean): RailDisk {
  const attempt = async <T>(name: keyof RailDisk, work: () => Promise<T>): Promise<T> => {
    if (name !== step) return work();
    if (isDone) await work();
    throw new Error('the disk is gone');
  };
  return {
    read: (path) => attempt('read', () => railDisk.read(path)),
    write: (path, content) => attempt('write', () => railDisk.write(path, content)),
    publish: (folder, from, to) => attempt('publish', () => railDisk.publish(folder, from, to)),
  };
}

test.each([
  ['read', false],
  ['write', false],
  ['write', true],
  ['publish', false],
  ['publish', true],
] as const)(
  'a disk that fails at %s (done: %s) leaves no file or the whole one, and the next attempt finishes',
  async (step, isDone) => {
    const { folder, close } = await temporary();
    const broken = new FilePayoutRail({ folder }, { disk: failingAt(step, isDone) });
    await expect(broken.submit(ORDER)).rejects.toMatchObject({ code: 'PAYOUT_RAIL' });
    expect(await paymentsIn(folder)).toHaveLength(step === 'publish' && isDone ? 2 : 0);
    const receipt = await new FilePayoutRail({ folder }).submit(ORDER);
    expect(await readFile(join(folder, receipt.reference), 'utf8')).toBe(renderPaymentFile(ORDER));
    expect(await paymentsIn(folder)).toHaveLength(2);
    await close();
  },
);

test('what a killed process left half-written is removed, and what a living one writes is not', async () => {
  const { folder, close } = await temporary();
  const rail = new FilePayoutRail({ folder });
  await rail.submit(ORDER);
  // No process has a number that large.
  await writeFile(join(folder, '.partial-99999999-x'), 'half');
  await writeFile(join(folder, `.partial-${process.pid}-y`), 'being written');
  await rail.submit(ORDER);
  expect((await readdir(folder)).sort()).toEqual([`.partial-${process.pid}-y`, `payouts-${BATCH}.csv`]);
  await close();
});
