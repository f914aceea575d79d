// The whole way of a proof: traffic of several tenants on several adapters, two epochs that are anchored on a local chain,
// owners who are paid there, everything verified by the independent tool, and frauds that it finds.
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { JsonRpcProvider, toQuantity, Wallet } from 'ethers';
import { Client, until } from './api.mjs';
import { plantFrauds } from './frauds.mjs';
import { patchbay, startServer, succeed } from './process.mjs';
import { serve } from './traffic.mjs';
import { openWorld } from './world.mjs';

const EPOCHS = `{ epochs(first: 100) { edges { node { number size receipts quarantined anchor { state transaction } } } } }`;

/**
 * Runs the demonstration in an empty folder.
 * @param {{ folder: string, say: (line: string) => void }} options
 */
export async function prove({ folder, say }) {
  // Whoever runs the demonstration plays the operator too, and forges with the operator's key later.
  const proofKey = Wallet.createRandom().privateKey;
  say('Starting a server with Postgres, the starter backbone and a local chain');
  const server = await startServer(join(folder, 'data'), {
    PATCHBAY_PROOF_KEY: proofKey,
    PATCHBAY_EPOCH_INTERVAL: '2s',
    PATCHBAY_PAYOUT_HOLDBACK: '0',
    PATCHBAY_PAYOUT_MINIMUM: '0',
  });
  try {
    return await show(server, { folder, say, proofKey });
  } finally {
    await server.stop();
  }
}

async function show(server, { folder, say, proofKey }) {
  const { url } = server;
  const operator = new Client(url, server.operatorKey);
  const chain = await (await fetch(new URL('/log/v1/chain', url))).json();
  say(
    `Chain ${chain.chainId} at ${server.report.chain.rpcUrl}: anchors ${chain.anchor}, payouts ${chain.distributor}`,
  );
  const world = await openWorld(operator, url);
  const { owners, tenants } = world;

  let answers = 0;
  for (const turn of [1, 2]) {
    const served = await serve(world, 2);
    answers += served.length;
    if (served.some(({ receipt }) => receipt === null)) throw new Error('A request has no receipt.');
    const epochs = await until('the epoch', async () => {
      const list = (await operator.query(EPOCHS)).epochs.edges.map(({ node }) => node);
      return Math.max(0, ...list.map(({ size }) => Number(size))) >= answers && list;
    });
    say(
      `${served.length} requests served, ${answers} in all; epoch ${epochs.length} has closed (turn ${turn})`,
    );
  }
  const anchored = await until('all anchors to be final', async () => {
    const list = (await operator.query(EPOCHS)).epochs.edges.map(({ node }) => node);
    return list.every(({ anchor }) => anchor?.state === 'ANCHORED') && list;
  });
  for (const { number, receipts, anchor } of anchored)
    say(`Epoch ${number} of ${receipts} receipts is anchored by ${anchor.transaction}`);

  const paid = await pay(server, { operator, owners, say, folder });
  const bundles = await collect(server, { folder, parties: [...tenants, ...owners] });
  // A local chain makes blocks when there is something for them, so that none is ever finalized there.
  const flags = [
    '--rpc',
    server.report.chain.rpcUrl,
    '--confirmations',
    '0',
    '--anchor',
    chain.anchor,
    '--distributor',
    chain.distributor,
  ];
  let verified = 0;
  for (const { slug, file } of bundles) {
    const { out } = await succeed(['verify', file, ...flags]);
    const receipts = out.split('\n').filter((line) => /^✓ .* receipt of request /.test(line)).length;
    for (const { number } of anchored) await succeed(['audit', file, '--epoch', number, ...flags]);
    verified += receipts;
    say(`${slug}: ${receipts} receipts, ${anchored.length} epochs and what was paid hold`);
  }
  const frauds = await plantFrauds({ bundles, owners, folder, flags, proofKey, patchbay });
  for (const { fraud, found } of frauds) say(`Fraud: ${fraud}\n  found: ${found}`);
  return { answers, epochs: anchored.length, paid, verified, frauds };
}

/** Pays what the owners have earned, on the chain, and lets them claim it. */
async function pay(server, { operator, owners, say, folder }) {
  const { batch } = await operator.mutate(
    'createPayoutBatch',
    'CreatePayoutBatchInput',
    { currency: 'USD', rail: 'CHAIN' },
    'batch { uuid payoutCount }',
  );
  const step = (name) =>
    operator.mutate(name, 'PayoutBatchInput', { batch: batch.uuid }, 'batch { state }', { repeatable: true });
  await step('approvePayoutBatch');
  await step('submitPayoutBatch');
  await operator.mutate('fundPayouts', 'FundPayoutsInput', {}, 'funding { units }');
  await until('the payouts to be final', async () => {
    const { payoutBatch } = await operator.query(`query ($id: UUID!) { payoutBatch(id: $id) { state } }`, {
      id: batch.uuid,
    });
    return payoutBatch.state === 'SETTLED';
  });
  const { rpcUrl } = server.report.chain;
  const provider = new JsonRpcProvider(rpcUrl);
  const paid = [];
  for (const { slug, client, wallet } of owners) {
    // What a claim costs in coins is the claimant's; here the local chain gives them.
    await provider.send('anvil_setBalance', [wallet.address, toQuantity(10n ** 18n)]);
    const { payoutClaim } = await client.query('{ payoutClaim { document } }');
    const file = join(folder, `${slug}-claim.json`);
    await writeFile(file, payoutClaim.document);
    const { out } = await succeed(['claim', file, '--rpc', rpcUrl, '--json'], {
      PATCHBAY_CHAIN_CLAIM_KEY: wallet.privateKey,
    });
    const claimed = JSON.parse(out);
    paid.push({ slug, units: claimed.paid });
    say(`${slug} claimed ${claimed.paid} units of the token, by ${claimed.transaction}`);
  }
  provider.destroy();
  return paid;
}

/** What each party keeps: all that the server gives to it, in one file. */
async function collect(server, { folder, parties }) {
  const bundles = [];
  await mkdir(join(folder, 'bundles'), { recursive: true });
  for (const { slug, client, adapters = [] } of parties) {
    const file = join(folder, 'bundles', `${slug}.zip`);
    const versions = adapters.flatMap(({ versionId }) => ['--adapter-version', versionId]);
    await succeed(['bundle', '--out', file, '--url', server.url, '--key', client.key, ...versions]);
    bundles.push({ slug, file });
  }
  return bundles;
}
