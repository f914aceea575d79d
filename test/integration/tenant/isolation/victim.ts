import { randomUUID } from 'node:crypto';
import { SCOPES, SYSTEM_ACTOR } from '../../../../src/auth/principal.ts';
import { toGlobalId } from '../../../../src/graphql/ids.ts';
import { systemClock } from '../../../../src/kernel/clock.ts';
import { newId } from '../../../../src/kernel/ids.ts';
import { sampleFiles } from '../../adapter/kit.ts';
import { openStack, type Stack } from '../../graphql/stack.ts';
import { giveMoney, sealLedger } from './money.ts';
import { billVictim } from './victim-bills.ts';

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
  readonly invoice: string;
  readonly creditNote: string;
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
    invoice: id('invoice'),
    creditNote: id('creditNote'),
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
  const stack = await openStack();
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
  await giveMoney(stack, tenant, version.adapterId);
  const openUpload = await registry.open(tenant, 'secret-pending', sampleFiles(0.32));
  const input = {
    prompt: 'abc',
    adapters: [{ adapter: version.adapterId }],
    maxTokens: 5,
    idempotencyKey: randomUUID(),
  };
  const { requestId } = await stack.inference.generate(principal, input);
  stack.engine.script = null;
  const running = await stack.inference.infer(principal, { ...input, idempotencyKey: randomUUID() });
  const started = await running.next();
  if (started.done === true || started.value.kind !== 'started')
    throw new Error('The request did not start.');
  const bills = await billVictim(stack, tenant);
  await sealLedger(stack);

  const ids: Ids = {
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
    ...bills,
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
      ...[member.email, member.name, 'secret-pending', 'secret-reason', version.digest ?? ''],
    ],
  };
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
      `SELECT t::text AS row FROM ${table} t WHERE tenant_id = $1 ORDER BY 1`,
      [scene.victim.tenant],
    );
    found[table] = rows.map(({ row }) => row);
  }
  return found;
}
