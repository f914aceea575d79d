import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { sqlState } from '../../../src/db/errors.ts';
import { actorOf, OPERATOR, ofBackbone, openPricing, type PricingKit, type SampleAdapter } from './kit.ts';

const TABLES = [
  'price_version',
  'royalty_version',
  'split_proposal',
  'split_consent',
  'split_version',
] as const;
const page = { first: 10, after: null };

let kit: PricingKit;
let owner: string;
let partner: string;
let stranger: string;
let backbone: string;
let open: SampleAdapter;
let hidden: SampleAdapter;

beforeAll(async () => {
  kit = await openPricing();
  [owner = '', partner = '', stranger = ''] = await Promise.all([1, 2, 3].map(() => kit.tenant()));
  backbone = await kit.backbone();
  await kit.setPrice(ofBackbone(backbone), { inputPerMillion: 1n });
  open = await kit.adapter(owner, backbone, 'PUBLIC');
  hidden = await kit.adapter(owner, backbone, 'PRIVATE');
  for (const { adapterId, subject } of [open, hidden]) {
    await kit.setPrice(subject, { inputPerMillion: 2n });
    await kit.pricing.setRoyalty(actorOf(owner), {
      idempotencyKey: randomUUID(),
      adapterId,
      terms: { kind: 'SHARE', sharePpm: 1n },
      effectiveFrom: null,
    });
    const propose = (tenantId: string) =>
      kit.splits.propose(actorOf(owner), {
        idempotencyKey: randomUUID(),
        adapterId,
        adapterVersionId: null,
        terms: { beneficiaries: [{ tenantId, parts: 1n }] },
        effectiveFrom: null,
      });
    const first = await propose(partner);
    await kit.splits.decide(actorOf(partner), { proposalId: first.id, agrees: true });
    kit.clock.advance(5_000);
    const { id } = await propose(owner);
    await kit.splits.decide(actorOf(partner), { proposalId: id, agrees: true });
    kit.clock.advance(5_000);
  }
});
afterAll(() => kit.db.dispose());

/** How many rows of each table the tenant can count. */
async function counts(tenant: string): Promise<readonly number[]> {
  return kit.db.database.withTenantPg(tenant, async (client) => {
    const found: number[] = [];
    for (const table of TABLES) {
      const { rows } = await client.query<{ n: number }>(`SELECT count(*)::int AS n FROM ${table}`);
      found.push(rows[0]?.n ?? -1);
    }
    return found;
  });
}

/** The SQLSTATE that the work fails with; null when it does not fail. */
async function stateOf(work: Promise<unknown>): Promise<string | null> {
  try {
    await work;
    return null;
  } catch (error) {
    return sqlState(error) ?? `not a database error: ${error}`;
  }
}

describe('what each can count', () => {
  test('the owner everything, a party its splits, anybody the prices of what it may run', async () => {
    expect(await counts(owner)).toEqual([3, 2, 4, 4, 4]);
    // A beneficiary and a former one sees the splits that it is a party of, of the hidden adapter too.
    expect(await counts(partner)).toEqual([2, 1, 4, 4, 4]);
    expect(await counts(stranger)).toEqual([2, 1, 0, 0, 0]);
  });

  test('without a tenant nothing at all', async () => {
    for (const table of TABLES) {
      const [row] = await kit.db.database.queryApp<{ n: number }>(
        `SELECT count(*)::int AS n FROM ${table}`,
        [],
      );
      expect(row?.n, table).toBe(0);
    }
    const { id } = (await kit.splits.proposals(actorOf(owner), null, page)).items[0] ?? { id: '' };
    const query = (sql: string, values: readonly unknown[]) => kit.db.database.queryApp(sql, values);
    expect(await query('SELECT * FROM patchbay.split_states($1::uuid[])', [[id]])).toEqual([]);
    const now = new Date();
    const said = await query('SELECT patchbay.decide_split($1, true, $2, $3, $3) AS said', [
      id,
      randomUUID(),
      now,
    ]);
    expect(said).toEqual([{ said: null }]);
    const proposed = await query(
      `SELECT patchbay.propose_split($1, $2, $3, NULL, $4, '{1}', $5, $5, $5) AS said`,
      [randomUUID(), randomUUID(), open.adapterId, [stranger], now],
    );
    expect(proposed).toEqual([{ said: 'UNKNOWN_ADAPTER' }]);
  });

  test('operators read every price and royalty', async () => {
    expect((await kit.pricing.prices(OPERATOR, hidden.subject, page)).items).toHaveLength(1);
    expect((await kit.pricing.royalties(OPERATOR, hidden.adapterId, page)).items).toHaveLength(1);
  });
});

describe('a hidden adapter', () => {
  test('looks to a stranger like one that does not exist', async () => {
    const none = randomUUID();
    const asked = async (adapterId: string, versionId: string) => {
      const actor = actorOf(stranger);
      const refused = (work: Promise<unknown>) =>
        work.then(
          () => null,
          ({ code, message }) => ({ code, message }),
        );
      return {
        prices: await kit.pricing.prices(actor, { kind: 'ADAPTER', adapterId }, page),
        royalties: await kit.pricing.royalties(actor, adapterId, page),
        splits: await kit.splits.list(actor, { adapterId, adapterVersionId: null }, page),
        proposals: await kit.splits.proposals(actor, adapterId, page),
        pin: await refused(kit.pin(stranger, backbone, [versionId])),
        royalty: await refused(
          kit.pricing.setRoyalty(actor, {
            idempotencyKey: randomUUID(),
            adapterId,
            terms: { kind: 'SHARE', sharePpm: 1n },
            effectiveFrom: null,
          }),
        ),
        propose: await refused(
          kit.splits.propose(actor, {
            idempotencyKey: randomUUID(),
            adapterId,
            adapterVersionId: null,
            terms: { beneficiaries: [{ tenantId: stranger, parts: 1n }] },
            effectiveFrom: null,
          }),
        ),
      };
    };
    const answer = await asked(hidden.adapterId, hidden.versionId);
    expect(answer).toEqual(await asked(none, none));
    expect(answer.pin).toMatchObject({ code: 'ADAPTER_NOT_FOUND' });
    expect(answer.prices.items).toEqual([]);
  });

  test('is priced for its owner, and a public one for anybody', async () => {
    const mine = await kit.pin(owner, backbone, [hidden.versionId, open.versionId]);
    expect(mine.parts.map(({ price }) => price.inputPerMillion)).toEqual([2n, 2n]);
    expect((await kit.pin(stranger, backbone, [open.versionId])).parts[0]).toMatchObject({
      adapter: { ownerTenantId: owner },
      royalty: { sharePpm: 1n },
    });
    await expect(kit.pin(stranger, backbone, [open.versionId, hidden.versionId])).rejects.toMatchObject({
      code: 'ADAPTER_NOT_FOUND',
    });
  });

  test('cannot be priced as its owner while another tenant is set, or none', async () => {
    const text = 'SELECT * FROM patchbay.resolve_prices($1, $2, $3, now())';
    const values = [owner, backbone, [hidden.versionId]];
    for (const ask of [
      () => kit.db.database.withTenantPg(stranger, (client) => client.query(text, values)),
      () => kit.db.database.queryApp(text, values),
    ]) {
      expect(await stateOf(ask())).toBe('42501');
    }
  });
});

describe('nobody writes past the rules', () => {
  test('no role of the program changes or removes a version, nor does the superuser', async () => {
    for (const table of TABLES) {
      const column = table === 'split_consent' ? 'decided_at' : 'created_at';
      for (const sql of [`UPDATE ${table} SET ${column} = now()`, `DELETE FROM ${table}`]) {
        expect(await stateOf(kit.db.database.withTenantPg(owner, (client) => client.query(sql))), sql).toBe(
          '42501',
        );
        expect(await stateOf(kit.db.database.querySystem(sql, [])), sql).toBe('42501');
        expect(await stateOf(kit.db.admin(sql)), sql).toBe('42501');
      }
      expect(await stateOf(kit.db.admin(`TRUNCATE ${table} CASCADE`)), table).toBe('42501');
    }
  });

  test('a tenant writes neither prices, nor splits past their functions, nor another’s royalty', async () => {
    const insert = (sql: string, values: readonly unknown[]) =>
      stateOf(kit.db.database.withTenantPg(stranger, (client) => client.query(sql, [...values])));
    const copies = `INSERT INTO %t SELECT * FROM %t`;
    for (const table of ['price_version', 'split_proposal', 'split_consent', 'split_version']) {
      expect(await insert(copies.replaceAll('%t', table), []), table).toBe('42501');
    }
    const royalty = `INSERT INTO royalty_version (id, tenant_id, adapter_id, kind, share_ppm, effective_from, created_at)
      VALUES (gen_random_uuid(), $1, $2, 'SHARE', 1, now(), now())`;
    expect(await insert(royalty, [owner, open.adapterId])).toBe('42501');
    // Under the stranger's own name the reference to the owner's adapter fails, as to one that does not exist.
    expect(await insert(royalty, [stranger, open.adapterId])).toBe('23503');
    expect(await insert(royalty, [stranger, randomUUID()])).toBe('23503');
  });

  test('the parts of a split are its whole, whoever writes it', async () => {
    const copy = (changes: string) =>
      kit.db.admin(
        `INSERT INTO split_version SELECT (s.x).* FROM (
           SELECT jsonb_populate_record(v, jsonb_build_object('id', gen_random_uuid(), 'effective_from', now() + interval '9 years',
             'proposal_id', gen_random_uuid()) || $1::jsonb) AS x FROM split_version v LIMIT 1) s`,
        [changes],
      );
    await expect(copy('{"whole": 2}')).rejects.toThrow(/parts_equal_whole/);
    await expect(copy('{"parts": [0]}')).rejects.toThrow(/positive|parts_equal_whole/);
    await expect(copy('{"parts": [1, 1], "whole": 2}')).rejects.toThrow(/one_part_each/);
    const twice = JSON.stringify({ beneficiaries: [owner, owner], parts: [1, 1], whole: 2 });
    await expect(copy(twice)).rejects.toThrow(/distinct/);
  });

  test('two currencies cannot meet, and a price is complete or says that it inherits', async () => {
    const copy = (changes: string) =>
      kit.db.admin(
        `INSERT INTO price_version SELECT (s.x).* FROM (
           SELECT jsonb_populate_record(v, jsonb_build_object('id', gen_random_uuid(), 'effective_from', now() + interval '9 years')
             || $1::jsonb) AS x FROM price_version v WHERE backbone_digest IS NOT NULL LIMIT 1) s`,
        [changes],
      );
    await expect(copy('{"currency": "EUR"}')).rejects.toThrow(/currency of this installation is USD/);
    await expect(copy('{"input_nano_per_million": null}')).rejects.toThrow(/complete/);
    await expect(copy('{"inherits": true}')).rejects.toThrow(/inherit|complete/);
    await expect(copy('{"platform_fee_ppm": 1000001}')).rejects.toThrow(/fee_range/);
  });
});
