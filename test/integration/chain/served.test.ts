import { randomBytes } from 'node:crypto';
import type { Wallet } from 'ethers';
import pino from 'pino';
import { beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { startChain } from '../../../src/app/chain.ts';
import { Lifecycle } from '../../../src/app/lifecycle.ts';
import type { AttributionAnchor } from '../../../src/chain/attribution-anchor.ts';
import { type Chain, openChain } from '../../../src/chain/open.ts';
import { registerChainRoute } from '../../../src/chain/site-route.ts';
import { type Config, loadConfig } from '../../../src/config/index.ts';
import { PatchbayError } from '../../../src/kernel/errors.ts';
import { silentProgress } from '../../../src/observability/progress.ts';
import type { PublishedEpoch } from '../../../src/proofs/epochs/types.ts';
import { mockTokenArtifact } from '../../kit/anvil.ts';
import { atFileEnd } from '../../kit/file-end.ts';
import { waitFor } from '../../kit/wait.ts';
import { OPERATOR_TOKEN, TOKEN } from '../../unit/graphql/fakes.ts';
import { startServer } from '../../unit/graphql/server.ts';
import { testLog } from '../proofs/kit.ts';
import { BUMP_MS, FEE_CEILING, OutboxKit } from './kit.ts';
import { FaultyRpc } from './proxy.ts';

const LOG = 'ab'.repeat(32);
const logger = pino({ level: 'silent' });
const deps = { logger, progress: silentProgress, onFatal: () => {} };
const missing = () => Promise.reject(new Error('not asked'));

let kit: OutboxKit;
let rpc: FaultyRpc;
let wallet: Wallet;
let token: string;
let anchor: AttributionAnchor;
let epoch: PublishedEpoch;

beforeAll(async () => {
  kit = await OutboxKit.open();
  rpc = await FaultyRpc.before(kit.chain.url);
  wallet = await kit.account();
  const artifact = await mockTokenArtifact();
  token = await kit.atOnce(() => kit.chain.deploy(kit.chain.account(0), artifact, [6]));
  anchor = await kit.anchorContract(1n, wallet.address);
  const [digest, root] = [randomBytes(32), randomBytes(32)];
  const previous = Buffer.alloc(32);
  await kit.db.admin(
    `INSERT INTO epoch (number, first_size, size, root, digest, previous, closed_at, document)
     VALUES (1, 0, 9, $1, $2, $3, now(), '{}')`,
    [root, digest, previous],
  );
  epoch = {
    ...{ number: 1n, firstSize: 0, size: 9, root, digest, previous, closedAt: new Date(0) },
    ...{ receipts: 9n, quarantined: 0, released: 0 },
  };
});
beforeEach(() => {
  rpc.fate = () => 'ANSWERED';
  rpc.methods.length = 0;
});

async function open(): Promise<Chain> {
  const { chainId } = kit.chain;
  const chain = await openChain(
    {
      connection: { rpcUrl: rpc.url, chainId, timeoutMs: 60_000, pollingMs: 50 },
      site: { chainId, anchor: anchor.address.toLowerCase(), distributor: null, token },
      ...{ key: { kind: 'key', key: wallet.privateKey }, anchors: true, finality: 2 },
      ...{ bumpMs: BUMP_MS, feeCeiling: FEE_CEILING },
    },
    { database: kit.db.database, clock: kit.clock },
  );
  atFileEnd(() => chain.close());
  return chain;
}

/** What a server is told that anchors there. */
function configOf(rpcUrl: string): Config {
  return loadConfig({
    ...{ PATCHBAY_CHAIN_RPC_URL: rpcUrl, PATCHBAY_CHAIN_ID: String(kit.chain.chainId) },
    ...{ PATCHBAY_CHAIN_ANCHOR: anchor.address, PATCHBAY_CHAIN_KEY: wallet.privateKey },
    ...{ PATCHBAY_CHAIN_POLL_MS: '100', PATCHBAY_PROOFS: 'true' },
  }).config;
}

async function serve(chain: Chain | null) {
  const epochs = {
    find: async () => epoch,
    document: missing,
    list: missing,
    statement: missing,
    quarantine: missing,
  };
  const nothing = { receipts: { find: missing, numbered: missing }, keys: { list: missing } };
  const log = testLog(kit.db).service;
  return startServer({
    services: { chain, proofs: { ...nothing, log, epochs, erasure: { erase: missing } } },
    deps: { routes: [(app) => registerChainRoute(app, { logId: () => LOG, site: chain?.site ?? null })] },
  });
}

const ANCHOR = `{ epoch { anchor { state chainId contract transaction blockNumber blockHash problem { code fix } } } }`;
const STATUS = `{ chainStatus { chainId anchor distributor token account balance blockNumber seenAt queued sent included
  lastAnchored notAnchored problem { code message fix since } } }`;

test('an epoch tells everybody of its anchor, and operators see how things stand', async () => {
  const chain = await open();
  const { query } = await serve(chain);
  const status = async () => (await query({ query: STATUS }, { authorization: OPERATOR_TOKEN })).body;
  const anchorOf = async (headers = {}) => (await query({ query: ANCHOR }, headers)).body.data?.['epoch'];
  const place = { chainId: String(kit.chain.chainId), contract: anchor.address };
  const nowhere = { transaction: null, blockNumber: null, blockHash: null, problem: null };

  expect(await anchorOf()).toEqual({ anchor: { ...place, ...nowhere, state: 'WAITING' } });
  expect((await status()).data).toMatchObject({
    chainStatus: { balance: null, seenAt: null, notAnchored: 1 },
  });
  await chain.anchorer?.run();
  await kit.fund(wallet.address, 0n);
  await chain.sender?.run();
  const problem = { code: 'CHAIN_GAS_EMPTY', fix: expect.stringContaining('account') };
  // Everybody learns how far it is, and operators alone what is in its way.
  expect(await anchorOf()).toEqual({ anchor: { ...place, ...nowhere, state: 'QUEUED' } });
  const queued = { ...place, ...nowhere, state: 'QUEUED', problem };
  expect(await anchorOf({ authorization: OPERATOR_TOKEN })).toEqual({ anchor: queued });
  expect(await anchorOf({ authorization: TOKEN })).toEqual({ anchor: { ...queued, problem: null } });
  expect((await status()).data).toMatchObject({
    chainStatus: { ...{ balance: '0', queued: 1, problem }, account: wallet.address },
  });
  await kit.fund(wallet.address, 10n ** 18n);
  await chain.sender?.run();
  await kit.mine(2);
  await chain.sender?.run();
  await chain.anchorer?.run();
  const [anchored] = await anchor.anchored({ fromBlock: 0, toBlock: 'latest' });
  expect(await anchorOf()).toEqual({
    anchor: {
      ...place,
      ...{ state: 'ANCHORED', problem: null, transaction: anchored?.transactionHash },
      ...{ blockNumber: String(anchored?.blockNumber), blockHash: anchored?.blockHash },
    },
  });
  expect((await status()).data).toEqual({
    chainStatus: {
      ...{
        chainId: place.chainId,
        anchor: anchor.address,
        distributor: null,
        token,
        account: wallet.address,
      },
      ...{ balance: expect.stringMatching(/^9\d{17}$/), blockNumber: expect.any(String) },
      ...{ seenAt: new Date(kit.clock.nowMs()).toISOString(), problem: null },
      ...{ queued: 0, sent: 0, included: 0, lastAnchored: '1', notAnchored: 0 },
    },
  });
});

test('how things stand is for operators, and nobody else learns whether there is a chain', async () => {
  for (const chain of [await open(), null]) {
    const { query } = await serve(chain);
    const { body } = await query({ query: STATUS });
    expect(body.errors?.map(({ extensions }) => extensions['code'])).toEqual(['FORBIDDEN']);
    const { body: operators } = await query({ query: STATUS }, { authorization: OPERATOR_TOKEN });
    expect(operators.data?.['chainStatus'] === null).toBe(chain === null);
  }
  const { query } = await serve(null);
  expect((await query({ query: ANCHOR })).body.data).toEqual({ epoch: { anchor: null } });
});

describe('where things are', () => {
  async function get(chain: Chain | null, path = '') {
    const { url } = await serve(chain);
    const response = await fetch(`${url}/log/v1/chain${path}`);
    return { status: response.status, body: JSON.parse(await response.text()) };
  }

  test('is told to everybody, and what the chain knows of it is asked once', async () => {
    const chain = await open();
    const document = {
      ...{ format: 'patchbay-chain/1', log: LOG, chainId: String(kit.chain.chainId) },
      ...{ anchor: anchor.address, distributor: null, token, decimals: '6' },
    };
    expect(await get(chain)).toEqual({ status: 200, body: document });
    rpc.fate = () => 'BROKEN';
    expect(await get(chain)).toEqual({ status: 200, body: document });
    expect(rpc.methods).toEqual(['eth_call']);
    const refused = await get(chain, '?x=1');
    expect([refused.status, refused.body.error.code]).toEqual([400, 'BAD_INPUT']);
  });

  test('is nowhere where no chain is used', async () => {
    const { status, body } = await get(null);
    expect([status, body.error.code]).toEqual([404, 'CHAIN_DISABLED']);
  });
});

test('what is ordered is sent also while anchoring fails', async () => {
  const payee = await kit.pay();
  const lifecycle = new Lifecycle(logger);
  await kit.db.admin('ALTER TABLE anchor_contract RENAME TO anchor_contract_away');
  try {
    await startChain(
      { config: configOf(rpc.url), database: kit.db.database },
      { ...deps, clock: kit.clock },
      lifecycle,
    );
    const isSigned = async () => (await kit.state(payee.purpose)).state === 'SIGNED';
    await waitFor(isSigned, { what: 'the payment to be signed' });
  } finally {
    await lifecycle.close();
    await kit.db.admin('ALTER TABLE anchor_contract_away RENAME TO anchor_contract');
  }
});

describe('a node that never answers', () => {
  test('holds no transaction and no lock of the database, and is let go of when the server stops', async () => {
    const chain = await open();
    await kit.pay();
    rpc.fate = (method) => (method === 'eth_sendRawTransaction' ? 'SILENCE' : 'ANSWERED');
    const run = chain.sender?.run() ?? missing();
    const ended = run.then(
      () => null,
      (error: unknown) => (error instanceof PatchbayError ? error.code : String(error)),
    );
    await waitFor(() => rpc.methods.includes('eth_sendRawTransaction'), {
      what: 'the transaction to be sent',
    });
    const transactions = await kit.db.admin(
      `SELECT query FROM pg_stat_activity
       WHERE datname = current_database() AND pid <> pg_backend_pid() AND xact_start IS NOT NULL`,
    );
    expect(transactions).toEqual([]);
    await kit.db.admin('SELECT FROM chain_writer FOR UPDATE NOWAIT');
    chain.close();
    expect(await ended).toBe('SHUTTING_DOWN');
    // The next process need not wait for the lease of this one.
    rpc.fate = () => 'ANSWERED';
    expect(await kit.sender(wallet).run()).toBe('DONE');
  });

  test('keeps a server neither from starting nor from stopping', async () => {
    rpc.fate = () => 'SILENCE';
    const lifecycle = new Lifecycle(logger);
    const chain = await startChain(
      { config: configOf(rpc.url), database: kit.db.database },
      { ...deps, clock: kit.clock },
      lifecycle,
    );
    expect(chain?.anchorer).not.toBeNull();
    await waitFor(() => rpc.methods.length > 0, { what: 'the first question' });
    await lifecycle.close();
    expect(await kit.outbox.counts()).toBeInstanceOf(Map);
  });

  test.each([
    ['an RPC', {}],
    ['an id', { PATCHBAY_CHAIN_RPC_URL: 'http://127.0.0.1:1' }],
    ['a contract', { PATCHBAY_CHAIN_RPC_URL: 'http://127.0.0.1:1', PATCHBAY_CHAIN_ID: '1' }],
  ])('is not asked without %s', async (_name, environment) => {
    const { config } = loadConfig(environment);
    const lifecycle = new Lifecycle(logger);
    expect(
      await startChain({ config, database: kit.db.database }, { ...deps, clock: kit.clock }, lifecycle),
    ).toBeNull();
    await lifecycle.close();
  });
});
