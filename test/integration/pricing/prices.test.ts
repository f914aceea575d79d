import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest';
import { Database } from '../../../src/db/client.ts';
import { PLATFORM_TENANT_ID } from '../../../src/db/platform.ts';
import { ensureDefaultPrice, ZERO_PRICE } from '../../../src/pricing/default-price.ts';
import { priceRequest } from '../../../src/pricing/price.ts';
import { PriceResolver } from '../../../src/pricing/resolver.ts';
import { PricingService } from '../../../src/pricing/service.ts';
import { tokens } from '../../unit/pricing/sample.ts';
import { actorOf, ManualClock, OPERATOR, ofBackbone, openPricing, type PricingKit } from './kit.ts';

let kit: PricingKit;
let tenant: string;
let backbone: string;

beforeAll(async () => {
  kit = await openPricing();
  tenant = await kit.tenant();
});
afterAll(() => kit.db.dispose());
beforeEach(async () => {
  backbone = await kit.backbone();
});

const SECOND = 1_000;
const page = { first: 10, after: null };
const input = async () => (await kit.pin(tenant, backbone)).parts[0]?.price.inputPerMillion;

describe('a request', () => {
  test('without any price is refused and never free; an explicit zero is a price', async () => {
    await expect(kit.pin(tenant, backbone)).rejects.toMatchObject({ code: 'PRICE_MISSING' });
    await kit.setPrice(ofBackbone(backbone), {});
    expect(priceRequest(await kit.pin(tenant, backbone), tokens(10, 10)).total).toBe(0n);
  });

  test('is refused before the first price begins', async () => {
    await kit.setPrice(ofBackbone(backbone), {}, new Date(kit.clock.nowMs() + 5 * SECOND));
    await expect(kit.pin(tenant, backbone)).rejects.toMatchObject({ code: 'PRICE_MISSING' });
    kit.clock.advance(5 * SECOND);
    await kit.pin(tenant, backbone);
  });

  test('of a backbone that is not in the registry has no price either', async () => {
    await expect(kit.pin(tenant, 'ff'.repeat(32))).rejects.toMatchObject({ code: 'PRICE_MISSING' });
  });

  test('gets the adapter’s prices, and the backbone’s again when those are withdrawn', async () => {
    await kit.setPrice(ofBackbone(backbone), { inputPerMillion: 5n });
    const { versionId, subject } = await kit.adapter(await kit.tenant(), backbone);
    const priced = async () => (await kit.pin(tenant, backbone, [versionId])).parts[0];
    expect(await priced()).toMatchObject({ price: { inputPerMillion: 5n }, adapter: { rank: 16 } });
    await kit.setPrice(subject, { inputPerMillion: 9n });
    kit.clock.advance(2 * SECOND);
    expect((await priced())?.price.inputPerMillion).toBe(9n);
    await kit.setPrice(subject, null);
    kit.clock.advance(2 * SECOND);
    expect((await priced())?.price.inputPerMillion).toBe(5n);
    const history = await kit.pricing.prices(OPERATOR, subject, page);
    expect(history.items.map(({ terms }) => terms?.inputPerMillion ?? null)).toEqual([null, 9n]);
  });
});

describe('effective dates', () => {
  test('hold to the millisecond over month ends and a leap day, whatever offset they were written in', async () => {
    kit.clock.set(Date.parse('2028-02-01T00:00:00Z'));
    // The second one is midnight in Kathmandu, 5 hours and 45 minutes before it is midnight in UTC.
    const starts = [
      '2028-02-29T00:00:00.000Z',
      '2028-03-01T00:00:00.000+05:45',
      '2028-03-01T00:00:00.000Z',
      '2028-12-31T23:59:59.999Z',
      '2029-01-01T00:00:00.000Z',
    ];
    await kit.setPrice(ofBackbone(backbone), { inputPerMillion: 100n });
    for (const [index, start] of starts.entries()) {
      await kit.setPrice(ofBackbone(backbone), { inputPerMillion: BigInt(index) }, new Date(start));
    }
    const at = async (time: string): Promise<bigint | undefined> => {
      kit.clock.set(Date.parse(time));
      return input();
    };
    expect(await at('2028-02-28T23:59:59.999Z')).toBe(100n);
    expect(await at('2028-02-29T00:00:00.000Z')).toBe(0n);
    expect(await at('2028-02-29T18:14:59.999Z')).toBe(0n);
    expect(await at('2028-02-29T18:15:00.000Z')).toBe(1n);
    expect(await at('2028-02-29T23:59:59.999Z')).toBe(1n);
    expect(await at('2028-03-01T00:00:00.000Z')).toBe(2n);
    expect(await at('2028-12-31T23:59:59.998Z')).toBe(2n);
    expect(await at('2028-12-31T23:59:59.999Z')).toBe(3n);
    expect(await at('2029-01-01T00:00:00.000Z')).toBe(4n);
  });

  test('do not depend on the time zone of the session', async () => {
    const now = kit.clock.nowMs();
    await kit.setPrice(ofBackbone(backbone), { inputPerMillion: 1n });
    const start = new Date(now + 60 * SECOND);
    await kit.setPrice(ofBackbone(backbone), { inputPerMillion: 2n }, start);
    for (const zone of ['Pacific/Kiritimati', 'Pacific/Pago_Pago']) {
      const rows = await kit.db.database.withTenantPg(tenant, async (client) => {
        await client.query(`SELECT set_config('timezone', $1, true)`, [zone]);
        const sql = `SELECT input_nano, valid_until FROM patchbay.resolve_prices($1, $2, '{}', $3)`;
        return [
          ...(await client.query(sql, [tenant, backbone, new Date(start.getTime() - 1)])).rows,
          ...(await client.query(sql, [tenant, backbone, start])).rows,
        ];
      });
      expect(rows).toEqual([
        { input_nano: '1', valid_until: start },
        { input_nano: '2', valid_until: null },
      ]);
    }
  });

  test('are those times on a server that lives in another zone, too', async () => {
    const { db, clock } = kit;
    const name = new URL(db.adminUrl).pathname.slice(1);
    await db.admin(`ALTER DATABASE ${name} SET timezone = 'Pacific/Kiritimati'`);
    const database = new Database({ appUrl: db.appUrl, systemUrl: db.systemUrl, applicationName: 'far' });
    try {
      const start = new Date(clock.nowMs() + 3_600 * SECOND);
      const far = new PricingService({ database, clock });
      const made = await far.setPrice(OPERATOR, {
        idempotencyKey: randomUUID(),
        subject: ofBackbone(backbone),
        terms: ZERO_PRICE,
        effectiveFrom: start,
      });
      expect(made.effectiveFrom).toEqual(start);
      const [row] = await db.admin<{ ms: string }>(
        'SELECT (extract(epoch FROM effective_from) * 1000)::bigint AS ms FROM price_version WHERE id = $1',
        [made.id],
      );
      expect(Number(row?.ms)).toBe(start.getTime());
    } finally {
      await database.close();
      await db.admin(`ALTER DATABASE ${name} RESET timezone`);
    }
  });

  test('may lie between others, and the history says how long each was in effect', async () => {
    const now = kit.clock.nowMs();
    const subject = ofBackbone(backbone);
    const times = [0, 30, 10].map((seconds) => new Date(now + seconds * SECOND));
    for (const [index, time] of times.entries()) {
      await kit.setPrice(subject, { inputPerMillion: BigInt(index) }, time);
    }
    const history = await kit.pricing.prices(actorOf(tenant), subject, page);
    const shown = history.items.map((item) => [
      item.terms?.inputPerMillion,
      (item.effectiveFrom.getTime() - now) / SECOND,
      item.effectiveUntil && (item.effectiveUntil.getTime() - now) / SECOND,
    ]);
    expect(shown).toEqual([
      [1n, 30, null],
      [2n, 10, 30],
      [0n, 0, 10],
    ]);
    const first = await kit.pricing.prices(actorOf(tenant), subject, { first: 2, after: null });
    expect(first.hasNextPage).toBe(true);
    const after = first.items[1]?.id ?? '';
    const rest = await kit.pricing.prices(actorOf(tenant), subject, { first: 2, after });
    expect(rest).toEqual({ items: [history.items[2]], hasNextPage: false });
    await expect(
      kit.pricing.prices(actorOf(tenant), subject, { first: 2, after: randomUUID() }),
    ).rejects.toMatchObject({ code: 'BAD_INPUT', field: 'after' });
  });

  test('cannot lie in the past, not even for who writes behind the program’s back', async () => {
    await kit.setPrice(ofBackbone(backbone), {});
    const early = new Date(kit.clock.nowMs() + SECOND);
    await expect(kit.setPrice(ofBackbone(backbone), {}, early)).rejects.toMatchObject({
      code: 'BAD_INPUT',
      field: 'effectiveFrom',
    });
    await expect(
      kit.db.admin(`INSERT INTO price_version SELECT gen_random_uuid(), tenant_id, backbone_digest, adapter_id, inherits,
        currency, input_nano_per_million, cached_input_nano_per_million, output_nano_per_million, rank_nano_per_million,
        interactive_ppm, standard_ppm, batch_ppm, platform_fee_ppm, created_at - interval '1 ms', created_at
        FROM price_version LIMIT 1`),
    ).rejects.toThrow(/not_backdated/);
  });
});

describe('setting a price', () => {
  test('twenty operators at once for one time: one is done, the others are told', async () => {
    await kit.setPrice(ofBackbone(backbone), {});
    const start = new Date(kit.clock.nowMs() + 10 * SECOND);
    const attempts = Array.from({ length: 20 }, (_, index) =>
      kit.setPrice(ofBackbone(backbone), { inputPerMillion: BigInt(index + 1) }, start),
    );
    const outcomes = await Promise.allSettled(attempts);
    const done = outcomes.flatMap((each) => (each.status === 'fulfilled' ? [each.value] : []));
    const codes = outcomes.flatMap((each) => (each.status === 'rejected' ? [each.reason.code] : []));
    expect(done).toHaveLength(1);
    expect(new Set(codes)).toEqual(new Set(['PRICE_CONFLICT']));
    kit.clock.advance(10 * SECOND);
    expect(await input()).toBe(done[0]?.terms?.inputPerMillion);
  });

  test('may begin at once, on a clock that goes on while it is set', async () => {
    let ms = kit.clock.nowMs();
    const ticking = { nowMs: () => ms++, monotonicMs: () => 0 };
    const pricing = new PricingService({ database: kit.db.database, clock: ticking });
    const request = { subject: ofBackbone(backbone), terms: ZERO_PRICE, effectiveFrom: null };
    const { effectiveFrom, createdAt } = await pricing.setPrice(OPERATOR, {
      idempotencyKey: randomUUID(),
      ...request,
    });
    expect(effectiveFrom).toEqual(createdAt);
  });

  test('is done once for an idempotency key, and audited', async () => {
    const terms = { ...ZERO_PRICE, inputPerMillion: 3n };
    const request = {
      idempotencyKey: randomUUID(),
      subject: ofBackbone(backbone),
      terms,
      effectiveFrom: null,
    };
    const first = await kit.pricing.setPrice(OPERATOR, request);
    kit.clock.advance(SECOND);
    expect(await kit.pricing.setPrice(OPERATOR, request)).toEqual(first);
    await expect(
      kit.pricing.setPrice(OPERATOR, { ...request, terms: { ...terms, inputPerMillion: 4n } }),
    ).rejects.toMatchObject({ code: 'IDEMPOTENCY_CONFLICT' });
    const audit = async () =>
      kit.db.admin(
        `SELECT outcome::text, before ->> 'versionId' AS replaced, before->'terms'->>'inputPerMillion' AS was,
                after->'terms'->>'inputPerMillion' AS input
         FROM audit_log WHERE action = 'price.set' AND target_id = $1 ORDER BY at, id`,
        [backbone],
      );
    const line = { outcome: 'DONE', replaced: null, was: null, input: '3' };
    expect(await audit()).toEqual([line]);
    await kit.pricing.setPrice(OPERATOR, {
      ...request,
      idempotencyKey: randomUUID(),
      terms: { ...terms, inputPerMillion: 5n },
    });
    expect(await audit()).toEqual([line, { outcome: 'DONE', replaced: first.id, was: '3', input: '5' }]);
  });

  test('of a royalty is audited with the one that it follows', async () => {
    const owner = await kit.tenant();
    const { adapterId } = await kit.adapter(owner, backbone);
    const set = (sharePpm: bigint) =>
      kit.pricing.setRoyalty(actorOf(owner), {
        ...{ idempotencyKey: randomUUID(), adapterId, effectiveFrom: null },
        terms: { kind: 'SHARE', sharePpm },
      });
    const first = await set(1n);
    kit.clock.advance(SECOND);
    await set(2n);
    const audit = await kit.db.admin(
      `SELECT before ->> 'versionId' AS replaced, before->'terms'->>'sharePpm' AS was, after->'terms'->>'sharePpm' AS share
       FROM audit_log WHERE action = 'royalty.set' AND target_id = $1 ORDER BY at, id`,
      [adapterId],
    );
    expect(audit).toEqual([
      { replaced: null, was: null, share: '1' },
      { replaced: first.id, was: '1', share: '2' },
    ]);
  });

  test('is for operators, and a denied attempt is audited', async () => {
    const actor = actorOf(tenant);
    await expect(
      kit.pricing.setPrice(actor, {
        idempotencyKey: randomUUID(),
        subject: ofBackbone(backbone),
        terms: ZERO_PRICE,
        effectiveFrom: null,
      }),
    ).rejects.toMatchObject({ code: 'FORBIDDEN' });
    const rows = await kit.db.admin('SELECT outcome::text FROM audit_log WHERE actor_key_id = $1', [
      actor.keyId,
    ]);
    expect(rows).toEqual([{ outcome: 'DENIED' }]);
  });

  test('keeps to one currency and to the bounds', async () => {
    await kit.setPrice(ofBackbone(backbone), {});
    await expect(kit.setPrice(ofBackbone(backbone), { currency: 'EUR' })).rejects.toMatchObject({
      code: 'BAD_INPUT',
      field: 'terms.currency',
    });
    for (const [more, field] of [
      [{ inputPerMillion: -1n }, 'terms.inputPerMillion'],
      [{ outputPerMillion: 10n ** 15n + 1n }, 'terms.outputPerMillion'],
      [{ platformFeePpm: 1_000_001n }, 'terms.platformFeePpm'],
      [{ currency: 'usd' }, 'terms.currency'],
    ] as const) {
      await expect(kit.setPrice(ofBackbone(backbone), more)).rejects.toMatchObject({ field });
    }
    await expect(kit.setPrice(ofBackbone(backbone), null)).rejects.toMatchObject({ field: 'terms' });
    await expect(kit.setPrice(ofBackbone('ee'.repeat(32)), {})).rejects.toMatchObject({ code: 'NOT_FOUND' });
    await expect(kit.setPrice({ kind: 'ADAPTER', adapterId: randomUUID() }, {})).rejects.toMatchObject({
      code: 'ADAPTER_NOT_FOUND',
    });
  });
});

describe('a royalty', () => {
  const perToken = { kind: 'PER_TOKEN', inputPerMillion: 1n, outputPerMillion: 2n } as const;

  test('is set by the owner in versions, and none is none', async () => {
    await kit.setPrice(ofBackbone(backbone), {});
    const owner = await kit.tenant();
    const { adapterId, versionId } = await kit.adapter(owner, backbone);
    const royalty = async () => (await kit.pin(tenant, backbone, [versionId])).parts[0]?.royalty;
    const set = (actor: string, terms: Parameters<typeof kit.pricing.setRoyalty>[1]['terms']) =>
      kit.pricing.setRoyalty(actorOf(actor), {
        idempotencyKey: randomUUID(),
        adapterId,
        terms,
        effectiveFrom: null,
      });
    expect(await royalty()).toBeNull();
    const first = await set(owner, perToken);
    expect(await royalty()).toBeNull();
    kit.clock.advance(2 * SECOND);
    expect(await royalty()).toEqual({ versionId: first.id, ...perToken });
    await set(owner, { kind: 'SHARE', sharePpm: 200_000n });
    kit.clock.advance(2 * SECOND);
    expect(await royalty()).toMatchObject({ kind: 'SHARE', sharePpm: 200_000n });
    const history = await kit.pricing.royalties(actorOf(tenant), adapterId, page);
    expect(history.items.map(({ terms }) => terms.kind)).toEqual(['SHARE', 'PER_TOKEN']);

    await expect(set(tenant, perToken)).rejects.toMatchObject({ code: 'ADAPTER_NOT_FOUND' });
    await expect(set(owner, { kind: 'SHARE', sharePpm: 10_000_001n })).rejects.toMatchObject({
      field: 'terms.sharePpm',
    });
    await expect(
      kit.pricing.setRoyalty(actorOf(owner, ['infer']), {
        idempotencyKey: randomUUID(),
        adapterId,
        terms: perToken,
        effectiveFrom: null,
      }),
    ).rejects.toMatchObject({ code: 'FORBIDDEN' });
  });
});

describe('the resolver', () => {
  test('asks once a second for the same request, and in time for what begins', async () => {
    await kit.setPrice(ofBackbone(backbone), { inputPerMillion: 1n });
    const asked = vi.spyOn(kit.db.database, 'queryApp');
    const resolver = new PriceResolver({ database: kit.db.database, clock: kit.clock });
    const ask = () =>
      resolver.pin({ tenantId: tenant, backboneDigest: backbone, adapters: [], priority: 'BATCH' });
    await ask();
    await kit.setPrice(ofBackbone(backbone), { inputPerMillion: 2n });
    kit.clock.advance(500);
    const second = await ask();
    expect(asked).toHaveBeenCalledTimes(1);
    expect(second.at.getTime()).toBe(kit.clock.nowMs());
    // It asks again at 1000 ms, learns that its answer ends at 2000 ms, and believes it no longer than that.
    kit.clock.advance(500);
    await ask();
    expect(asked).toHaveBeenCalledTimes(2);
    kit.clock.advance(999);
    expect((await ask()).parts[0]?.price.inputPerMillion).toBe(1n);
    kit.clock.advance(1);
    expect((await ask()).parts[0]?.price.inputPerMillion).toBe(2n);
    expect(asked).toHaveBeenCalledTimes(3);
    asked.mockRestore();
  });

  test('does not remember a refusal', async () => {
    const resolver = new PriceResolver({ database: kit.db.database, clock: new ManualClock() });
    const request = { tenantId: tenant, backboneDigest: backbone, adapters: [], priority: 'BATCH' } as const;
    await expect(resolver.pin(request)).rejects.toMatchObject({ code: 'PRICE_MISSING' });
    await kit.db.admin(
      `INSERT INTO price_version VALUES (gen_random_uuid(), $2, $1, NULL, false, 'USD', 1, 1, 1, 1, 1, 1, 1, 1,
         '2000-01-01Z', '2000-01-01Z')`,
      [backbone, PLATFORM_TENANT_ID],
    );
    await resolver.pin(request);
  });
});

describe('the price of a backbone that never had one', () => {
  let fresh: PricingKit;
  beforeAll(async () => {
    fresh = await openPricing();
  });
  afterAll(() => fresh.db.dispose());
  const ensure = (backboneDigest: string) =>
    ensureDefaultPrice(
      { database: fresh.db.database, clock: fresh.clock },
      { backboneDigest, currency: 'EUR' },
    );

  test('is one explicit zero in the chosen currency, however many processes start', async () => {
    const digest = await fresh.backbone();
    const made = await Promise.all([1, 2, 3, 4].map(() => ensure(digest)));
    expect(made.sort()).toEqual(['PRICED', 'PRICED', 'PRICED', 'ZERO']);
    const actor = actorOf(await fresh.tenant());
    expect((await fresh.pricing.prices(actor, ofBackbone(digest), page)).items).toMatchObject([
      { terms: { ...ZERO_PRICE, currency: 'EUR' }, effectiveUntil: null },
    ]);
    expect(await ensure(await fresh.backbone())).toBe('ZERO');
  });

  test('is missing once anything costs something, and its requests are refused', async () => {
    await fresh.setPrice(ofBackbone(await fresh.backbone()), { currency: 'EUR', rankPerMillion: 1n });
    const digest = await fresh.backbone();
    expect(await ensure(digest)).toBe('MISSING');
    await expect(fresh.pin(await fresh.tenant(), digest)).rejects.toMatchObject({ code: 'PRICE_MISSING' });
  });
});
