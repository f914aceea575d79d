import pg from 'pg';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { verifyInvoices } from '../../../src/invoicing/verify.ts';
import { cli } from '../../unit/cli/fake-io.ts';
import { OPERATOR, ofBackbone } from '../pricing/kit.ts';
import { AFTER_FEBRUARY, type InvoicingKit, openInvoicing } from './kit.ts';

let kit: InvoicingKit;
let superuser: pg.Client;
let chargeId: string;
const ids = { billed: '', open: '', gone: '', draft: '' };

beforeAll(async () => {
  kit = await openInvoicing();
  superuser = new pg.Client({ connectionString: kit.db.adminUrl });
  await superuser.connect();
  // What a superuser can do who also disables the triggers.
  await superuser.query('SET session_replication_role = replica');
  kit.clock.set(Date.UTC(2024, 0, 2));
  await kit.setTerms(null, {
    freeNano: 100n,
    tiers: [{ fromNano: 0n, discountPpm: 333_333n }],
    minimumNano: 5n,
  });
  const [billed, waiting, gone, idle] = [
    await kit.customer(10n ** 17n),
    await kit.customer(),
    await kit.customer(1_000n),
    await kit.customer(5n),
  ];
  const endedAt = '2024-02-29T23:59:59.999999Z';
  const adapter = await kit.pricing.adapter(billed.tenantId, kit.backbone);
  chargeId = await kit.charge(billed, { endedAt, inputNano: 9_007_199_254_740_993n });
  for (let i = 0n; i < 5n; i += 1n) {
    const priority = i % 2n === 0n ? 'BATCH' : 'INTERACTIVE';
    await kit.charge(billed, { endedAt, adapter, inputNano: 1_000n + i, royaltyNano: i, priority });
  }
  await kit.charge(gone, { endedAt, outputNano: 777n });
  kit.clock.set(AFTER_FEBRUARY);
  ids.billed = (await kit.finalise((await kit.close(billed.tenantId)).id)).id;
  ids.open = (await kit.finalise((await kit.close(waiting.tenantId)).id)).id;
  ids.gone = (await kit.finalise((await kit.close(gone.tenantId)).id)).id;
  ids.draft = (await kit.close(idle.tenantId)).id;
  await kit.credit(ids.billed, 50n);
  await kit.credit(ids.gone, 7n);
  await kit.invoicing.invoices.void(OPERATOR, { idempotencyKey: 'void', invoiceId: ids.gone });
});
afterAll(async () => {
  await superuser.end();
  await kit.db.dispose();
});

const verify = () => verifyInvoices(kit.db.database);

test('every invoice is what the usage records and terms give, byte by byte, also when prices and terms have changed', async () => {
  expect(await verify()).toEqual({ invoices: 4, creditNotes: 2, problems: [] });
  kit.clock.advance(1_000);
  await kit.pricing.setPrice(ofBackbone(kit.backbone), { inputPerMillion: 99n });
  await kit.setTerms(null, { freeNano: 1n });
  const [row] = await kit.db.admin<{ tenant_id: string }>('SELECT tenant_id FROM invoice WHERE id = $1', [
    ids.billed,
  ]);
  await kit.setTerms(row?.tenant_id ?? '', { freeNano: 2n });
  await kit.db.admin(`UPDATE tenant SET name = 'Renamed' WHERE id = $1`, [row?.tenant_id]);
  expect(await verify()).toEqual({ invoices: 4, creditNotes: 2, problems: [] });
  const seen: number[][] = [];
  await verifyInvoices(kit.db.database, { onInvoice: (...progress) => seen.push(progress) });
  expect(seen).toEqual([
    [1, 4],
    [2, 4],
    [3, 4],
    [4, 4],
  ]);
});

/** Changes something with all triggers disabled, and takes it back afterwards. */
async function tampered(change: string, undo: string) {
  await superuser.query(change);
  try {
    return await verify();
  } finally {
    await superuser.query(undo);
  }
}

describe('a change is found', () => {
  test('of every single byte of a document, even when the hash is changed with it', async () => {
    const [row] = await kit.db.admin<{ content: string }>('SELECT content FROM invoice WHERE id = $1', [
      ids.draft,
    ]);
    const content = row?.content ?? '';
    expect(content.length).toBeGreaterThan(300);
    const write = (text: string) =>
      superuser.query(
        `UPDATE invoice SET content = $2, content_sha256 = sha256(convert_to($2, 'UTF8')) WHERE id = $1`,
        [ids.draft, text],
      );
    // A step that does not divide the length of any repeated part.
    for (let i = 0; i < content.length; i += 7) {
      const other = content[i] === 'x' ? 'y' : 'x';
      await write(content.slice(0, i) + other + content.slice(i + 1));
      const { problems } = await verify();
      expect(problems, `byte ${i}`).toHaveLength(1);
      expect(problems[0]).toMatchObject({ invoiceId: ids.draft });
      expect(problems[0]?.message).toContain(`at byte ${i}.`);
    }
    await write(`${content} `);
    expect((await verify()).problems).toHaveLength(1);
    await write(content);
    expect((await verify()).problems).toEqual([]);
    // Without its hash the database refuses it, triggers or not.
    await expect(
      superuser.query(`UPDATE invoice SET content = content || ' ' WHERE id = $1`, [ids.draft]),
    ).rejects.toMatchObject({ code: '23514', constraint: 'invoice_content_hash' });
  });

  test('of a usage record', async () => {
    const where = `WHERE request_id = '${chargeId}'`;
    for (const [column, by] of [
      ['output_tokens', 1],
      ['input_nano', 1],
    ] as const) {
      const also = column === 'input_nano' ? ', total_nano = total_nano' : '';
      const set = (sign: string) =>
        `UPDATE usage_charge SET ${column} = ${column} ${sign} ${by}${also.replace('= total_nano', `= total_nano ${sign} ${by}`)} ${where}`;
      const { problems } = await tampered(set('+'), set('-'));
      expect(
        problems.map(({ invoiceId }) => invoiceId),
        column,
      ).toContain(ids.billed);
    }
    const moved = await tampered(
      `UPDATE usage_charge SET ended_at = ended_at + interval '1 microsecond' ${where}`,
      `UPDATE usage_charge SET ended_at = ended_at - interval '1 microsecond' ${where}`,
    );
    expect(moved.problems[0]?.message).toMatch(/not what the usage records and terms give/);
  });

  test('of terms, totals, states and postings', async () => {
    const found = async (change: string, undo: string) =>
      (await tampered(change, undo)).problems.map(({ message }) => message).join('\n');
    expect(
      await found(
        `UPDATE billing_terms SET free_nano = 101 WHERE free_nano = 100`,
        `UPDATE billing_terms SET free_nano = 100 WHERE free_nano = 101`,
      ),
    ).toMatch(/not what the usage records and terms give/);
    const total = (sign: string) =>
      `UPDATE invoice SET total_nano = total_nano ${sign} 1, minimum_nano = minimum_nano ${sign} 1
       WHERE id = '${ids.billed}'`;
    const parts = (sign: string) =>
      `UPDATE invoice SET reduction_nano = reduction_nano ${sign} 1, minimum_nano = minimum_nano ${sign} 1
       WHERE id = '${ids.billed}'`;
    expect(await found(parts('+'), parts('-'))).toMatch(/Reductions and minimum differ/);
    expect(await found(total('+'), total('-'))).toMatch(/The total differs/);
    const open = (to: number) => `UPDATE invoice_open_charge SET amount_nano = ${to}`;
    expect(await found(open(4), open(5))).toMatch(/Minimum charge: the ledger has 0, and it should be 1/);
    const note = (sign: string) =>
      `UPDATE credit_note SET amount_nano = amount_nano ${sign} 1 WHERE invoice_id = '${ids.billed}'`;
    expect(await found(note('+'), note('-'))).toMatch(/Credit notes: the ledger has 50, and it should be 51/);
    const state = (to: string) => `UPDATE invoice SET state = ${to} WHERE id = '${ids.gone}'`;
    expect(
      await found(state(`'PAID', voided_at = NULL`), state(`'VOID', voided_at = '2024-03-02T00:00:00Z'`)),
    ).toMatch(/What the void invoice takes back/);
    const posting = (sign: string) =>
      `UPDATE ledger_posting SET amount = amount ${sign} 1 WHERE transfer_id =
         (SELECT id FROM ledger_transfer WHERE business_key = 'invoice.reductions:2024-02'
          AND reference_id = '${ids.billed}')`;
    expect(await found(posting('+'), posting('-'))).toMatch(/Allowance and discounts/);
    expect((await verify()).problems).toEqual([]);
  });

  test('of numbers: one that is missing, one that was never given', async () => {
    const move = (from: number, to: number) =>
      `UPDATE invoice SET number_serial = ${to} WHERE number_serial = ${from} AND number_year = 2024`;
    const { problems } = await tampered(move(2, 9), move(9, 2));
    expect(problems).toEqual([
      { invoiceId: null, bill: 'INVOICE 2024', message: 'Numbers are missing: 2, 4, 5, 6, 7, 8.' },
    ]);
    const last = (to: number) => `UPDATE number_series SET last = ${to} WHERE kind = 'CREDIT_NOTE'`;
    const gap = await tampered(last(3), last(2));
    expect(gap.problems).toMatchObject([{ bill: 'CREDIT_NOTE 2024', message: 'Numbers are missing: 3.' }]);
  });
});

describe('patchbay invoices verify', () => {
  const run = (...flags: string[]) => {
    const environment = { DATABASE_URL: kit.db.adminUrl, PATCHBAY_SECRET: kit.db.secret };
    return cli(['invoices', 'verify', ...flags], { environment });
  };

  test('says that all is well, and ends with 0', async () => {
    const { code, out } = await run();
    expect(out).toBe('The invoices are what the usage records give: 4 invoices and 2 credit notes.\n');
    expect(code).toBe(0);
    expect(JSON.parse((await run('--json')).out)).toEqual({ invoices: 4, creditNotes: 2, problems: [] });
  });

  test('names the bill that was changed, for people and for programs, and ends with 1', async () => {
    const rename = (from: string, to: string) =>
      superuser.query(
        `UPDATE invoice SET content = replace(content, $2, $3), content_sha256 = sha256(convert_to(replace(content, $2, $3), 'UTF8'))
         WHERE id = $1`,
        [ids.billed, from, to],
      );
    await rename('"USD"', '"USE"');
    const people = await run();
    const programs = await run('--json');
    await rename('"USE"', '"USD"');
    expect(people.code).toBe(1);
    expect(people.out).toMatch(
      /^INV-2024-000001 +The document is not what the usage records and terms give/m,
    );
    expect(programs.code).toBe(1);
    expect(JSON.parse(programs.out)).toMatchObject({
      problems: [{ invoiceId: ids.billed, bill: 'INV-2024-000001' }],
    });
    expect((await run()).code).toBe(0);
  });
});
