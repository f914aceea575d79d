// Who is there: two owners with adapters, wallets and prices, and two tenants with money.
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Wallet } from 'ethers';
import { Client, until } from './api.mjs';
import { succeed } from './process.mjs';

const STARTER = fileURLToPath(new URL('../../starter/adapters', import.meta.url));

/** Prices in nano-units for a million tokens: dear, so that a few requests are worth a payout. */
const TERMS = {
  currency: 'USD',
  inputPerMillion: '2000000000000',
  cachedInputPerMillion: '500000000000',
  outputPerMillion: '8000000000000',
  rankPerMillion: '1000000000',
  platformFeePpm: 100_000,
};

export const OWNERS = [
  { slug: 'ada', name: 'Ada', adapters: ['reverse', 'sort'], sharePpm: 250_000 },
  { slug: 'bo', name: 'Bo', adapters: ['date', 'sql'], sharePpm: 400_000 },
];
/** What their keys may do. */
const SCOPES = [
  'infer',
  'adapters:read',
  'adapters:write',
  'usage:read',
  'billing:read',
  'billing:write',
  'payouts:write',
];

const TENANTS = [
  { slug: 'cleo', name: 'Cleo' },
  { slug: 'dev', name: 'Dev' },
];

/** Makes a tenant with a key of its own. */
async function enrol(operator, url, { slug, name }) {
  const { tenant } = await operator.mutate(
    'createTenant',
    'CreateTenantInput',
    { slug, name },
    'tenant { id uuid }',
  );
  const { secret } = await operator.mutate(
    'createApiKey',
    'CreateApiKeyInput',
    { tenant: tenant.id, name: 'demonstration', scopes: SCOPES },
    'secret',
  );
  return { slug, name, id: tenant.id, uuid: tenant.uuid, client: new Client(url, secret) };
}

/**
 * Sets everything up; prices are in force when it ends.
 * @param {Client} operator
 * @param {string} url
 */
export async function openWorld(operator, url) {
  const { backbones } = await operator.query('{ backbones(first: 1) { edges { node { id } } } }');
  const [backbone] = backbones.edges.map(({ node }) => node.id);
  const price = await operator.mutate(
    'setPrice',
    'SetPriceInput',
    { backbone, terms: TERMS },
    'price { effectiveFrom }',
  );
  const owners = [];
  for (const { adapters, sharePpm, ...who } of OWNERS) {
    const owner = await enrol(operator, url, who);
    const wallet = Wallet.createRandom();
    await owner.client.mutate(
      'setPayoutDestination',
      'SetPayoutDestinationInput',
      { kind: 'CHAIN', accountName: who.name, accountReference: wallet.address },
      'destination { uuid }',
    );
    const owned = [];
    for (const adapter of adapters) owned.push(await publish(owner, url, adapter, sharePpm));
    owners.push({ ...owner, wallet, adapters: owned });
  }
  const tenants = [];
  for (const who of TENANTS) {
    const tenant = await enrol(operator, url, who);
    await operator.mutate(
      'topUp',
      'TopUpInput',
      { tenant: tenant.id, amount: '500000000000' },
      'balance { currency }',
    );
    tenants.push(tenant);
  }
  const inForce = new Date(price.price.effectiveFrom).getTime();
  await until('the prices', () => Date.now() > inForce + 2_500);
  return { owners, tenants };
}

/** Uploads an adapter, lets everybody invoke it and asks for a share of the price. */
async function publish(owner, url, name, sharePpm) {
  const flags = ['--url', url, '--key', owner.client.key, '--name', name, '--wait', '--json'];
  const { out } = await succeed(['adapter', 'push', join(STARTER, name), ...flags]);
  const pushed = JSON.parse(out);
  const { adapters } = await owner.client.query('{ adapters(first: 20) { edges { node { id name } } } }');
  const adapter = adapters.edges.map(({ node }) => node).find((node) => node.name === name);
  await owner.client.mutate(
    'setAdapterVisibility',
    'SetAdapterVisibilityInput',
    { adapter: adapter.id, visibility: 'PUBLIC' },
    'adapter { id }',
    { repeatable: true },
  );
  await owner.client.mutate(
    'setRoyalty',
    'SetRoyaltyInput',
    { adapter: adapter.id, sharePpm },
    'royalty { sharePpm }',
  );
  return { name, id: adapter.id, versionId: pushed.versionId };
}
