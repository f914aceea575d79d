import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { PLATFORM_TENANT_ID } from '../../../src/db/platform.ts';
import type { SplitProposal } from '../../../src/pricing/splits.ts';
import { actorOf, ofBackbone, openPricing, type PricingKit, type SampleAdapter } from './kit.ts';

let kit: PricingKit;
let backbone: string;
let owner: string;
let ann: string;
let bob: string;
let eve: string;
let adapter: SampleAdapter;

beforeAll(async () => {
  kit = await openPricing();
  backbone = await kit.backbone();
  await kit.setPrice(ofBackbone(backbone), {});
  [owner = '', ann = '', bob = '', eve = ''] = await Promise.all([1, 2, 3, 4].map(() => kit.tenant()));
});
afterAll(() => kit.db.dispose());
beforeEach(async () => {
  kit.clock.advance(60_000);
  adapter = await kit.adapter(owner, backbone);
});

const page = { first: 10, after: null };
type Parts = readonly (readonly [string, bigint])[];

const propose = (parts: Parts, more: { version?: string; from?: Date; actor?: string; key?: string } = {}) =>
  kit.splits.propose(actorOf(more.actor ?? owner), {
    idempotencyKey: more.key ?? randomUUID(),
    adapterId: adapter.adapterId,
    adapterVersionId: more.version ?? null,
    terms: { beneficiaries: parts.map(([tenantId, share]) => ({ tenantId, parts: share })) },
    effectiveFrom: more.from ?? null,
  });
const decide = (tenant: string, proposalId: string, agrees = true) =>
  kit.splits.decide(actorOf(tenant), { proposalId, agrees });
/** A proposal that everybody who is asked has agreed to. */
async function agreed(parts: Parts, more: { version?: string; from?: Date } = {}): Promise<SplitProposal> {
  let proposal = await propose(parts, more);
  for (const { tenantId } of proposal.decisions) proposal = await decide(tenantId, proposal.id);
  expect(proposal.state).toBe('ACTIVE');
  return proposal;
}
/** Who earns from the version now, as `tenant parts`; null while the owner earns all. */
async function inEffect(
  versionId = adapter.versionId,
): Promise<readonly (readonly [string, bigint])[] | null> {
  const pinned = await kit.pin(eve, backbone, [versionId]);
  const id = pinned.parts[0]?.splitVersionId ?? null;
  if (id === null) return null;
  const terms = (await kit.resolver.splits(pinned)).get(id);
  return terms?.beneficiaries.map(({ tenantId, parts }) => [tenantId, parts] as const) ?? null;
}
const soon = () => kit.clock.advance(2_000);

describe('a split', () => {
  test('is joined by who agrees, and needs no other consent while nobody’s share but the owner’s falls', async () => {
    expect(await inEffect()).toBeNull();
    const first = await propose([
      [owner, 3n],
      [ann, 1n],
    ]);
    expect(first).toMatchObject({ state: 'PENDING', decisions: [{ tenantId: ann, agrees: null }] });
    soon();
    expect(await inEffect()).toBeNull();
    expect(await decide(ann, first.id)).toMatchObject({ state: 'ACTIVE' });
    expect(await inEffect()).toBeNull();
    soon();
    expect(await inEffect()).toEqual([
      [owner, 3n],
      [ann, 1n],
    ]);
    // The same quarter in other parts, and the owner gives up the rest.
    expect(
      await propose([
        [ann, 25n],
        [bob, 75n],
      ]),
    ).toMatchObject({ state: 'PENDING', decisions: [{ tenantId: bob }] });
    expect(await propose([[ann, 1n]])).toMatchObject({ state: 'ACTIVE', decisions: [] });
  });

  test('waits for everyone whose share falls, and for nobody else', async () => {
    await agreed([
      [owner, 1n],
      [ann, 1n],
      [bob, 1n],
    ]);
    soon();
    const proposal = await propose([
      [owner, 4n],
      [ann, 3n],
      [bob, 3n],
    ]);
    expect(proposal.state).toBe('PENDING');
    expect(new Set(proposal.decisions.map(({ tenantId }) => tenantId))).toEqual(new Set([ann, bob]));
    soon();
    expect(await inEffect()).toEqual([
      [owner, 1n],
      [ann, 1n],
      [bob, 1n],
    ]);
    expect(await decide(ann, proposal.id)).toMatchObject({ state: 'PENDING' });
    expect(await decide(ann, proposal.id)).toMatchObject({ state: 'PENDING' });
    await expect(decide(owner, proposal.id)).rejects.toMatchObject({ code: 'SPLIT_STATE' });
    await expect(decide(eve, proposal.id)).rejects.toMatchObject({ code: 'NOT_FOUND' });
    const done = await decide(bob, proposal.id);
    expect(done).toMatchObject({ state: 'ACTIVE', split: { adapterId: adapter.adapterId } });
    soon();
    expect(await inEffect()).toEqual([
      [owner, 4n],
      [ann, 3n],
      [bob, 3n],
    ]);
    await expect(decide(bob, proposal.id, false)).rejects.toMatchObject({ code: 'SPLIT_STATE' });
    // Ann's decision is in the log once.
    const audit = await kit.db.admin(
      `SELECT tenant_id, before, after FROM audit_log
       WHERE action = 'split.decide' AND target_id = $1 AND outcome = 'DONE' ORDER BY at, id`,
      [proposal.id],
    );
    const before = { agrees: null, state: 'PENDING' };
    expect(audit).toHaveLength(2);
    expect(audit).toEqual(
      expect.arrayContaining([
        { tenant_id: ann, before, after: { agrees: true, state: 'PENDING' } },
        { tenant_id: bob, before, after: { agrees: true, state: 'ACTIVE' } },
      ]),
    );
    // The proposal says what it would replace.
    const [proposed] = await kit.db.admin<{ before: object; after: object }>(
      `SELECT before, after FROM audit_log WHERE action = 'split.propose' AND after ->> 'proposalId' = $1`,
      [proposal.id],
    );
    const shares = (parts: readonly [string, bigint][]) => ({
      beneficiaries: parts.map(([id, part]) => ({ tenant: id, parts: part.toString() })),
    });
    expect(proposed).toMatchObject({
      before: shares([
        [owner, 1n],
        [ann, 1n],
        [bob, 1n],
      ]),
      after: shares([
        [owner, 4n],
        [ann, 3n],
        [bob, 3n],
      ]),
    });
  });

  test('is compared as exact fractions, past what a double can tell apart', async () => {
    const large = 10n ** 15n;
    await agreed([
      [owner, large - 1n],
      [ann, large],
    ]);
    soon();
    // (10^15 − 1) / (2 × 10^15 − 2) is a half: less than 10^15 / (2 × 10^15 − 1) by one part in 10^30.
    expect(
      await propose([
        [owner, large - 1n],
        [ann, large - 1n],
      ]),
    ).toMatchObject({ state: 'PENDING', decisions: [{ tenantId: ann }] });
  });

  test('is refused by one, or withdrawn by the owner, for good', async () => {
    await agreed([[ann, 1n]]);
    soon();
    const refused = await propose([[owner, 1n]]);
    expect(await decide(ann, refused.id, false)).toMatchObject({ state: 'REFUSED' });
    await expect(decide(ann, refused.id, true)).rejects.toMatchObject({ code: 'SPLIT_STATE' });
    const withdrawn = await propose([[owner, 1n]]);
    expect(await decide(owner, withdrawn.id, false)).toMatchObject({ state: 'REFUSED' });
    await expect(decide(ann, withdrawn.id, true)).rejects.toMatchObject({ code: 'SPLIT_STATE' });
    soon();
    expect(await inEffect()).toEqual([[ann, 1n]]);
  });

  test('becomes stale when another follows first, so that no consent counts for more than was read', async () => {
    await agreed([
      [owner, 1n],
      [ann, 1n],
    ]);
    soon();
    const slow = await propose([
      [owner, 3n],
      [ann, 1n],
    ]);
    kit.clock.advance(10);
    const fast = await propose([[ann, 1n]]);
    expect(fast.state).toBe('ACTIVE');
    await expect(decide(ann, slow.id)).rejects.toMatchObject({
      code: 'SPLIT_STATE',
      meta: { state: 'STALE' },
    });
    const { items } = await kit.splits.proposals(actorOf(ann), adapter.adapterId, page);
    expect(items.map(({ state }) => state)).toEqual(['ACTIVE', 'STALE', 'ACTIVE']);
  });

  test('begins when it was to begin, or when the last consent came if that was later', async () => {
    await agreed([[ann, 1n]]);
    soon();
    const from = new Date(kit.clock.nowMs() + 10_000);
    const early = await propose([[bob, 1n]], { from });
    await decide(bob, early.id);
    expect((await decide(ann, early.id)).split?.effectiveFrom).toEqual(from);
    const later = new Date(from.getTime() + 1);
    const late = await propose([[ann, 1n]], { from: later });
    await decide(ann, late.id);
    kit.clock.set(later.getTime() + 60_000);
    expect((await decide(bob, late.id)).split?.effectiveFrom).toEqual(new Date(kit.clock.nowMs() + 2_000));
  });

  test('cannot begin before the newest one does', async () => {
    const from = new Date(kit.clock.nowMs() + 10_000);
    await agreed([[ann, 1n]], { from });
    await expect(propose([[owner, 1n]])).rejects.toMatchObject({
      code: 'SPLIT_STATE',
      field: 'effectiveFrom',
    });
    await expect(propose([[owner, 1n]], { from })).rejects.toMatchObject({ code: 'SPLIT_STATE' });
  });

  test('of a version stands before that of its adapter, and its first one needs consent against that', async () => {
    await agreed([
      [owner, 1n],
      [ann, 1n],
    ]);
    soon();
    const second = await kit.version(owner, adapter.adapterId, backbone, 2);
    const own = await propose([[bob, 1n]], { version: second });
    expect(own.state).toBe('PENDING');
    expect(new Set(own.decisions.map(({ tenantId }) => tenantId))).toEqual(new Set([ann, bob]));
    await decide(ann, own.id);
    await decide(bob, own.id);
    soon();
    expect(await inEffect(second)).toEqual([[bob, 1n]]);
    expect(await inEffect()).toEqual([
      [owner, 1n],
      [ann, 1n],
    ]);
    const scope = { adapterId: adapter.adapterId, adapterVersionId: second };
    expect((await kit.splits.list(actorOf(owner), scope, page)).items).toHaveLength(1);
  });

  test('is for the owner, of tenants, each once, with positive parts', async () => {
    await expect(propose([[eve, 1n]], { actor: eve })).rejects.toMatchObject({ code: 'ADAPTER_NOT_FOUND' });
    await expect(propose([[PLATFORM_TENANT_ID, 1n]])).rejects.toMatchObject({
      code: 'BAD_INPUT',
      field: 'beneficiaries',
    });
    await expect(propose([[ann, 0n]])).rejects.toMatchObject({ field: 'beneficiaries.0.parts' });
    await expect(propose([])).rejects.toMatchObject({ field: 'beneficiaries' });
    await expect(
      propose([
        [ann, 1n],
        [ann, 1n],
      ]),
    ).rejects.toMatchObject({ field: 'beneficiaries' });
    const foreign = await kit.adapter(eve, backbone);
    await expect(propose([[ann, 1n]], { version: foreign.versionId })).rejects.toMatchObject({
      code: 'ADAPTER_NOT_FOUND',
    });
    const usual = actorOf(owner, ['adapters:write', 'billing:read']);
    await expect(kit.splits.decide(usual, { proposalId: randomUUID(), agrees: true })).rejects.toMatchObject({
      code: 'FORBIDDEN',
    });
  });

  test('is answered alike whoever it names, and waits for ever for an id that nobody has', async () => {
    const [suspended, closed, nobody] = [await kit.tenant(), await kit.tenant(), randomUUID()];
    await agreed([
      [owner, 1n],
      [suspended, 1n],
    ]);
    for (const [id, state] of [
      [suspended, 'SUSPENDED'],
      [closed, 'CLOSED'],
    ]) {
      await kit.db.admin(
        `UPDATE tenant SET state = $2::tenant_state, closed_at = CASE $2 WHEN 'CLOSED' THEN now() END WHERE id = $1`,
        [id, state],
      );
    }
    const other = await kit.adapter(owner, backbone);
    const accounts = () => kit.db.admin('SELECT id FROM ledger_account ORDER BY id');
    const before = await accounts();
    const answers: unknown[] = [];
    for (const tenantId of [ann, suspended, closed, nobody]) {
      const proposal = await kit.splits.propose(actorOf(owner), {
        ...{ idempotencyKey: randomUUID(), adapterId: other.adapterId, adapterVersionId: null },
        terms: {
          beneficiaries: [
            { tenantId: owner, parts: 1n },
            { tenantId, parts: 1n },
          ],
        },
        effectiveFrom: null,
      });
      expect(proposal).toMatchObject({ state: 'PENDING', decisions: [{ tenantId, agrees: null }] });
      const said = JSON.stringify(proposal, (_, value) =>
        typeof value === 'bigint' ? String(value) : value,
      );
      answers.push(said.replaceAll(tenantId, 'them').replaceAll(proposal.id, 'it'));
    }
    expect(new Set(answers).size).toBe(1);
    kit.clock.advance(60_000);
    expect(await inEffect(other.versionId)).toBeNull();
    expect(await accounts()).toEqual(before);
    // Who shares already may stay.
    expect(
      await propose([
        [owner, 1n],
        [suspended, 1n],
        [ann, 1n],
      ]),
    ).toMatchObject({ state: 'PENDING' });
    expect(
      await propose([
        [owner, 2n],
        [suspended, 2n],
      ]),
    ).toMatchObject({ state: 'ACTIVE', decisions: [] });
  });

  test('is proposed once for an idempotency key', async () => {
    const key = randomUUID();
    const first = await propose([[ann, 1n]], { key });
    expect(await propose([[ann, 1n]], { key })).toEqual(first);
    await expect(propose([[ann, 2n]], { key })).rejects.toMatchObject({ code: 'IDEMPOTENCY_CONFLICT' });
  });
});

test('consents that arrive at once make one split; proposals that race for one base make one', async () => {
  const crowd = await Promise.all(Array.from({ length: 8 }, () => kit.tenant()));
  await agreed(crowd.map((tenant) => [tenant, 1n]));
  soon();
  const proposals = await Promise.all([1, 2, 3].map(() => propose([[owner, 1n]])));
  const said = await Promise.allSettled(
    crowd.flatMap((tenant) => proposals.map(({ id }) => decide(tenant, id))),
  );
  const codes = said.flatMap((each) => (each.status === 'rejected' ? [each.reason.code] : []));
  expect(new Set(codes).size === 0 || new Set(codes).has('SPLIT_STATE')).toBe(true);
  expect(codes.every((code) => code === 'SPLIT_STATE')).toBe(true);
  const { items } = await kit.splits.proposals(actorOf(owner), adapter.adapterId, page);
  expect(items.map(({ state }) => state).sort()).toEqual(['ACTIVE', 'ACTIVE', 'STALE', 'STALE']);
});
