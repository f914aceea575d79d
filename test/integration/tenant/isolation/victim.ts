import { randomUUID } from 'node:crypto';
import { type Principal, SCOPES, SYSTEM_ACTOR } from '../../../../src/auth/principal.ts';
import { PLATFORM_TENANT_ID } from '../../../../src/db/platform.ts';
import { toGlobalId } from '../../../../src/graphql/ids.ts';
import { systemClock } from '../../../../src/kernel/clock.ts';
import { newId } from '../../../../src/kernel/ids.ts';
import { NANO } from '../../../../src/kernel/money.ts';
import { LEDGER_DEFAULTS, LedgerService } from '../../../../src/ledger/service.ts';
import type { Payout } from '../../../../src/payouts/types.ts';
import { waitFor } from '../../../kit/wait.ts';
import { sampleFiles } from '../../adapter/kit.ts';
import { openStack, type Stack } from '../../graphql/stack.ts';
import { findDistributor, publishTrees } from '../../graphql/stack-chain.ts';
import { giveMoney, sealLedger, useYesterday } from './money.ts';
import { billVictim } from './victim-bills.ts';

/** The account that the victim is paid to. */
const SECRET_ACCOUNT = 'GB29NWBK60161331926819';
/** The same on a chain. */
export const SECRET_ADDRESS = '0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed';

/** Raw ids of one object of every kind. */
export interface Ids {
  readonly tenant: string;
  readonly slug: string;
  readonly key: string;
  readonly member: string;
  readonly adapter: string;
  readonly adapterName: string;
  readonly version: string;
  /** Of an upload that became a version. */
  readonly upload: string;
  /** Of an upload that is open. */
  readonly openUpload: string;
  readonly request: string;
  readonly runningRequest: string;
  readonly budget: string;
  /** Of a split that waits for a consent. */
  readonly proposal: string;
  /** Of a top-up. */
  readonly transfer: string;
  readonly invoice: string;
  readonly creditNote: string;
  readonly payout: string;
  readonly payoutBatch: string;
  readonly payoutDestination: string;
  readonly export: string;
}

/**
 * Ids of the same form that were never given to anything. Made from others they have the same times, so that they sort
 * alike: where an id falls among one's own is no secret.
 */
export function missingIds(like?: Ids): Ids {
  const id = (name?: keyof Ids) =>
    name === undefined || like === undefined
      ? newId(systemClock)
      : like[name].slice(0, -12) + randomUUID().slice(-12);
  return {
    tenant: id('tenant'),
    slug: `none-${randomUUID().slice(0, 8)}`,
    key: id('key'),
    member: id('member'),
    adapter: id('adapter'),
    adapterName: `none-${randomUUID().slice(0, 8)}`,
    version: id('version'),
    upload: id('upload'),
    openUpload: id('openUpload'),
    request: id('request'),
    runningRequest: id('runningRequest'),
    budget: id('budget'),
    proposal: id('proposal'),
    transfer: id('transfer'),
    invoice: id('invoice'),
    creditNote: id('creditNote'),
    payout: id('payout'),
    payoutBatch: id('payoutBatch'),
    payoutDestination: id('payoutDestination'),
    export: id('export'),
  };
}

/** Global ids of what has one. */
export function globalIds(ids: Ids) {
  return {
    tenant: toGlobalId('Tenant', ids.tenant),
    key: toGlobalId('ApiKey', ids.key),
    member: toGlobalId('Member', ids.member),
    adapter: toGlobalId('Adapter', ids.adapter),
    version: toGlobalId('AdapterVersion', ids.version),
    upload: toGlobalId('AdapterUpload', ids.upload),
    openUpload: toGlobalId('AdapterUpload', ids.openUpload),
    record: toGlobalId('UsageRecord', ids.request),
    export: toGlobalId('Export', ids.export),
  };
}

/** A stack with a victim that has something in every table, and a stranger that has a key with every scope. */
export interface Scene {
  readonly stack: Stack;
  readonly victim: Ids;
  readonly victimHeader: string;
  readonly stranger: { readonly tenantId: string; readonly header: string };
  /** Texts that no answer to anybody else may hold. */
  readonly secrets: readonly string[];
}

export async function openScene(): Promise<Scene> {
  // Without a delay, so that the victim can be paid on a chain first, and by a bank from then on.
  const stack = await openStack({ destinationDelayMs: 0 });
  const { tenancy, registry } = stack;
  const { id: tenant, slug } = await tenancy.createTenant('victim-co');
  await tenancy.quotas.set(SYSTEM_ACTOR, tenant, [{ kind: 'REQUESTS_PER_MINUTE', limit: 1_000 }]);
  const { header, principal } = await tenancy.createKey(tenant, [...SCOPES]);
  const member = await tenancy.members.add(principal, {
    idempotencyKey: randomUUID(),
    tenantId: null,
    name: 'Vera Victim',
    email: 'vera@victim.example',
    role: 'OWNER',
  });
  const version = await registry.ready(tenant, 'secret-adapter', sampleFiles(0.31));
  const [finalised] = await registry.db.admin<{ id: string }>('SELECT id FROM upload WHERE version_id = $1', [
    version.id,
  ]);
  const proposal = await giveMoney(stack, tenant, version.adapterId);
  const openUpload = await registry.open(tenant, 'secret-pending', sampleFiles(0.32));
  const input = {
    prompt: 'abc',
    adapters: [{ adapter: version.adapterId }],
    maxTokens: 5,
    idempotencyKey: randomUUID(),
  };
  const { requestId, receipt } = await stack.inference.generate(principal, input);
  await receipt?.();
  await stack.proofs.appender.run();
  await stack.proofs.closer.run();
  stack.engine.script = null;
  const running = await stack.inference.infer(principal, { ...input, idempotencyKey: randomUUID() });
  const started = await running.next();
  if (started.done === true || started.value.kind !== 'started')
    throw new Error('The request did not start.');
  const { transferId } = await stack.funds.move(SYSTEM_ACTOR, {
    idempotencyKey: randomUUID(),
    tenantId: tenant,
    kind: 'TOP_UP',
    amount: 1_000n,
    reason: 'Vera paid',
  });
  const budget = await stack.budgets.set(principal, {
    idempotencyKey: randomUUID(),
    subject: { scope: 'KEY', keyId: principal.keyId },
    period: 'DAY',
    limit: 1_000n,
    alertsPpm: null,
  });
  const bills = await billVictim(stack, tenant);
  await sealLedger(stack);
  await useYesterday(stack, tenant);

  const payout = await payVictim(stack, tenant, principal);
  const exported = await stack.exports.create(principal, {
    idempotencyKey: randomUUID(),
    source: 'usage',
    format: 'csv',
    from: new Date('2026-01-01T00:00:00Z'),
    to: new Date('2026-01-02T00:00:00Z'),
    tenantId: null,
  });
  await waitFor(async () => (await stack.exports.get(principal, exported.id))?.state === 'READY');

  const ids: Ids = {
    ...payout,
    tenant,
    slug,
    key: principal.keyId,
    member: member.id,
    adapter: version.adapterId,
    adapterName: 'secret-adapter',
    version: version.id,
    upload: finalised?.id ?? '',
    openUpload: openUpload.id,
    request: requestId,
    runningRequest: started.value.requestId,
    budget: budget.id,
    proposal,
    transfer: transferId ?? '',
    ...bills,
    export: exported.id,
  };
  const strange = await tenancy.createTenant('stranger');
  const key = await tenancy.createKey(strange.id, [...SCOPES]);
  return {
    stack,
    victim: ids,
    victimHeader: header,
    stranger: { tenantId: strange.id, header: key.header },
    secrets: [
      ...Object.values(ids),
      ...Object.values(globalIds(ids)),
      ...[member.email, member.name, 'Vera paid', 'secret-pending', 'secret-reason', SECRET_ACCOUNT],
      SECRET_ADDRESS,
      version.digest ?? '',
    ],
  };
}

/** Gives the tenant something that can be paid. */
export async function earn({ registry, payouts }: Stack, tenant: string): Promise<void> {
  const ledger = new LedgerService(LEDGER_DEFAULTS, { database: registry.db.database, clock: systemClock });
  const [earnings, adjustment] = [
    await ledger.openAccount(tenant, 'EARNINGS', 'USD'),
    await ledger.openAccount(PLATFORM_TENANT_ID, 'ADJUSTMENT', 'USD'),
  ];
  const amount = 50n * NANO;
  await ledger.post({
    ...{ id: newId(systemClock), tenantId: tenant, asset: 'USD', key: randomUUID() },
    ...{ referenceType: 'correction', referenceId: null },
    lines: [
      { accountId: earnings, amount, subjectId: null },
      { accountId: adjustment, amount: -amount, subjectId: null },
    ],
  });
  // What was posted in this millisecond is still held back.
  await waitFor(async () => {
    const balances = await payouts.earnings.balances(SYSTEM_ACTOR, tenant);
    return balances.some(({ payable }) => payable > 0n);
  });
}

/** A draft by the operator of a payout to the tenant. */
export async function draftPayout(stack: Stack, tenant: string, operator: Principal): Promise<Payout> {
  await earn(stack, tenant);
  const { batches, outcomes } = stack.payouts;
  const input = { idempotencyKey: randomUUID(), currency: 'USD', earnedBefore: null };
  const { id: batchId } = await batches.create(operator, input);
  const { items } = await outcomes.list(operator, { tenantId: tenant, batchId }, { first: 1, after: null });
  const [payout] = items;
  if (payout === undefined) throw new Error('The batch pays the tenant.');
  return payout;
}

/** A payout to the tenant that was handed over. */
export async function sendPayout(stack: Stack, tenant: string, operator: Principal): Promise<Payout> {
  const payout = await draftPayout(stack, tenant, operator);
  await stack.payouts.batches.approve(operator, payout.batchId);
  await stack.payouts.batches.submit(operator, payout.batchId);
  return payout;
}

/** Gives the victim earnings, a destination and a payout that was handed over. */
async function payVictim(
  stack: Stack,
  tenant: string,
  principal: Principal,
): Promise<Pick<Ids, 'payout' | 'payoutBatch' | 'payoutDestination'>> {
  const operator = await stack.tenancy.createOperatorKey();
  const { db } = stack.registry;
  await findDistributor(db, stack.place, systemClock);
  const { destinations, batches } = stack.payouts;
  const named = { accountName: 'Vera Victim' };
  await destinations.set(principal, {
    ...{ ...named, idempotencyKey: randomUUID(), kind: 'CHAIN', accountReference: SECRET_ADDRESS },
  });
  await earn(stack, tenant);
  const input = { idempotencyKey: randomUUID(), currency: 'USD', earnedBefore: null, rail: 'CHAIN' } as const;
  const { id: onChain } = await batches.create(operator.principal, input);
  await batches.approve(operator.principal, onChain);
  await batches.submit(operator.principal, onChain);
  await publishTrees(db);
  const destination = await destinations.set(principal, {
    ...{ ...named, idempotencyKey: randomUUID(), accountReference: SECRET_ACCOUNT },
  });
  const payout = await sendPayout(stack, tenant, operator.principal);
  return { payout: payout.id, payoutBatch: payout.batchId, payoutDestination: destination.id };
}

/** Every table of tenants that is not a partition. */
export async function tenantTables({ stack }: Pick<Scene, 'stack'>): Promise<readonly string[]> {
  const rows = await stack.registry.db.admin<{ name: string }>(`
    SELECT c.relname AS name FROM pg_class c
    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'tenant_id' AND NOT a.attisdropped
    WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relnamespace = 'public'::regnamespace
    ORDER BY 1`);
  return rows.map(({ name }) => name);
}

/** Everything that the victim has, by table: what an attack must not change. */
export async function victimRows(scene: Scene): Promise<Readonly<Record<string, readonly string[]>>> {
  const found: Record<string, readonly string[]> = {};
  for (const table of await tenantTables(scene)) {
    const rows = await scene.stack.registry.db.admin<{ row: string }>(
      // That a key was used is written some time after its use.
      `SELECT (to_jsonb(t) - 'last_used_at')::text AS row FROM ${table} t WHERE tenant_id = $1 ORDER BY 1`,
      [scene.victim.tenant],
    );
    found[table] = rows.map(({ row }) => row);
  }
  return found;
}
