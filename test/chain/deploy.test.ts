import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  encryptKeystoreJson,
  getBytes,
  hexlify,
  JsonRpcProvider,
  makeError,
  type TransactionReceipt,
  Wallet,
} from 'ethers';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { z } from 'zod';
import { readOwnArtifact } from '../../src/chain/artifact.ts';
import { AttributionAnchor } from '../../src/chain/attribution-anchor.ts';
import { verifyDeployedCode } from '../../src/chain/deploy.ts';
import { waitForReceipt } from '../../src/chain/receipt.ts';
import { PAUSER_ROLE, PUBLISHER_ROLE } from '../../src/chain/roles.ts';
import { RoyaltyDistributor } from '../../src/chain/royalty-distributor.ts';
import { ANVIL_CHAIN, ANVIL_KEY, Anvil, mockTokenArtifact } from '../kit/anvil.ts';
import { cli } from '../unit/cli/fake-io.ts';

let chain: Anvil;
let token: string;
let folder: string;

beforeAll(async () => {
  chain = await Anvil.start();
  token = await chain.deploy(chain.account(9), await mockTokenArtifact(), [6]);
  folder = mkdtempSync(join(tmpdir(), 'patchbay-test-chain-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function environment(extra: Readonly<Record<string, string>> = {}) {
  return {
    PATCHBAY_CHAIN_RPC_URL: chain.url,
    PATCHBAY_CHAIN_ID: String(ANVIL_CHAIN),
    PATCHBAY_CHAIN_DEPLOYER_KEY: ANVIL_KEY,
    ...extra,
  };
}

function deploy(flags: readonly string[] = [], extra: Readonly<Record<string, string>> = {}) {
  return cli(['chain', 'deploy', '--json', ...flags], { environment: environment(extra) });
}

const reportSchema = z.object({
  chainId: z.string(),
  contracts: z.array(
    z.object({
      name: z.string(),
      address: z.string(),
      deployed: z
        .object({ transaction: z.string(), block: z.number(), gasUsed: z.string() })
        .loose()
        .nullable(),
    }),
  ),
  token: z.object({ address: z.string(), decimals: z.number() }).nullable(),
  settings: z.record(z.string(), z.string()),
});
const errorSchema = z.object({
  error: z
    .object({
      code: z.string(),
      message: z.string(),
      meta: z.record(z.string(), z.unknown()).optional(),
    })
    .loose(),
});

function refused({ err }: { readonly err: string }) {
  return errorSchema.parse(JSON.parse(err)).error;
}

function nonce(account = chain.account(0)): Promise<number> {
  return chain.provider.getTransactionCount(account);
}

test('deploys both contracts with their roles, verifies them, and repeated with what it printed changes nothing', async () => {
  const roles = ['--owner', chain.account(1), '--publisher', chain.account(2), '--pauser', chain.account(3)];
  const first = await deploy([...roles, '--token', token.toLowerCase(), '--first-epoch', '7']);
  expect(first).toMatchObject({ code: 0, err: '' });
  const { contracts, settings, ...rest } = reportSchema.parse(JSON.parse(first.out));
  expect(rest).toEqual({ chainId: '31337', token: { address: token, decimals: 6 } });
  expect(contracts.map(({ name }) => name)).toEqual(['AttributionAnchor', 'RoyaltyDistributor']);
  const [anchorAt = '', distributorAt = ''] = contracts.map(({ address }) => address);
  expect(settings).toEqual({
    PATCHBAY_CHAIN_ID: '31337',
    PATCHBAY_CHAIN_ANCHOR: anchorAt,
    PATCHBAY_CHAIN_DISTRIBUTOR: distributorAt,
    PATCHBAY_CHAIN_TOKEN: token,
  });

  const anchor = new AttributionAnchor(chain.provider, anchorAt);
  expect(await anchor.firstEpoch()).toBe(7n);
  expect(await anchor.owner()).toBe(chain.account(1));
  expect(await anchor.hasRole(PUBLISHER_ROLE, chain.account(2))).toBe(true);
  expect(await anchor.hasRole(PUBLISHER_ROLE, chain.account(0))).toBe(false);
  const distributor = new RoyaltyDistributor(chain.provider, distributorAt);
  expect(await distributor.token()).toBe(token);
  expect(await distributor.owner()).toBe(chain.account(1));
  expect(await distributor.hasRole(PUBLISHER_ROLE, chain.account(2))).toBe(true);
  expect(await distributor.hasRole(PAUSER_ROLE, chain.account(3))).toBe(true);

  const before = await nonce();
  const again = await deploy(['--first-epoch', '7'], settings);
  expect(again.code).toBe(0);
  expect(reportSchema.parse(JSON.parse(again.out)).contracts.map(({ deployed }) => deployed)).toEqual([
    null,
    null,
  ]);
  expect(await nonce()).toBe(before);

  // What is there is compared with what is meant, in each respect.
  const otherEpoch = await deploy(['--first-epoch', '8'], settings);
  expect(otherEpoch.code).toBe(3);
  expect(refused(otherEpoch)).toMatchObject({
    code: 'CHAIN_CODE_DIFFERS',
    meta: { immutable: 'firstEpoch' },
  });
  const swapped = await deploy([], { ...settings, PATCHBAY_CHAIN_ANCHOR: distributorAt });
  expect(refused(swapped).code).toBe('CHAIN_CODE_DIFFERS');
  const nothing = await deploy([], { ...settings, PATCHBAY_CHAIN_ANCHOR: chain.account(5) });
  expect(refused(nothing).message).toContain('no contract');
  expect(await nonce()).toBe(before);
});

test('without a token there is an anchor alone, with the deployer in every role, and people can read it', async () => {
  const { code, out, err } = await cli(['chain', 'deploy'], { environment: environment() });
  expect(code).toBe(0);
  expect(err).toMatch(/^AttributionAnchor: sending 0x[0-9a-f]{64}, which puts it at 0x[0-9a-fA-F]{40}\n$/);
  expect(out).not.toContain('RoyaltyDistributor');
  const address = /PATCHBAY_CHAIN_ANCHOR=(0x[0-9a-fA-F]{40})\n/.exec(out)?.[1] ?? '';
  expect(err).toContain(address);
  const anchor = new AttributionAnchor(chain.provider, address);
  expect(await anchor.owner()).toBe(chain.account(0));
  expect(await anchor.hasRole(PUBLISHER_ROLE, chain.account(0))).toBe(true);
});

test('a keystore file and its password take the place of the key', async () => {
  const file = join(folder, 'deployer.json');
  const account = { address: chain.account(0), privateKey: ANVIL_KEY };
  // Weak on purpose: what makes a real one strong is time.
  writeFileSync(file, await encryptKeystoreJson(account, 'correct', { scrypt: { N: 2, r: 1, p: 1 } }));
  const password = { PATCHBAY_CHAIN_DEPLOYER_KEY: '', PATCHBAY_CHAIN_KEYSTORE_PASSWORD: 'correct' };
  expect((await deploy(['--keystore', file], password)).code).toBe(0);

  const wrong = await deploy(['--keystore', file], { PATCHBAY_CHAIN_KEYSTORE_PASSWORD: 'incorrect' });
  expect(wrong.code).toBe(3);
  expect(refused(wrong).code).toBe('CHAIN_KEY');
  expect(refused(await deploy(['--keystore', file])).code).toBe('CHAIN_KEY');
  expect(refused(await deploy(['--keystore', join(folder, 'none')], password)).code).toBe('FILE_MISSING');
  writeFileSync(file, '{}');
  expect(refused(await deploy(['--keystore', file], password)).code).toBe('CHAIN_KEY');
  expect(refused(await deploy([], { PATCHBAY_CHAIN_DEPLOYER_KEY: '' })).code).toBe('CHAIN_KEY');
  const zero = await deploy([], { PATCHBAY_CHAIN_DEPLOYER_KEY: '0'.repeat(64) });
  expect(refused(zero).code).toBe('CHAIN_KEY');
});

test('another chain than the one that is meant gets nothing', async () => {
  const before = await nonce();
  const result = await deploy(['--chain-id', '1']);
  expect(result.code).toBe(3);
  expect(refused(result)).toMatchObject({ code: 'CHAIN_MISMATCH', meta: { expected: '1', found: '31337' } });
  expect(await nonce()).toBe(before);
});

test('an RPC that does not answer, or is none, is said to be unreachable, and one that refuses is quoted', async () => {
  const closed = await deploy(['--rpc', 'http://127.0.0.1:1']);
  expect(closed.code).toBe(4);
  expect(refused(closed).code).toBe('CHAIN_UNREACHABLE');

  const refusal = '{"jsonrpc":"2.0","id":1,"error":{"code":-32005,"message":"too many calls"}}';
  const answers: readonly (readonly [number, string, string, number])[] = [
    [200, '<html>Hello</html>', 'CHAIN_UNREACHABLE', 4],
    [200, '{"jsonrpc":"2.0","id":1,"result":"soon"}', 'CHAIN_UNREACHABLE', 4],
    [502, 'Bad gateway', 'CHAIN_UNREACHABLE', 4],
    [401, '{"error":"key"}', 'CHAIN_UNREACHABLE', 4],
    [200, refusal, 'CHAIN_NODE_ERROR', 1],
  ];
  let next = 0;
  const server = createServer((_, response) => {
    const [status, body] = answers[next] ?? [500, ''];
    response.writeHead(status).end(body);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  const port = typeof address === 'object' && address !== null ? address.port : 0;
  for (next = 0; next < answers.length; next += 1) {
    const result = await deploy(['--rpc', `http://127.0.0.1:${port}`]);
    expect([next, refused(result).code, result.code]).toEqual([next, ...(answers[next]?.slice(2) ?? [])]);
    if (answers[next]?.[1] === refusal) expect(refused(result).message).toContain('too many calls');
  }
  await new Promise((resolve) => server.close(resolve));
});

test('an account that cannot pay is told how much it has, and nothing is sent', async () => {
  const poor = Wallet.createRandom();
  for (const balance of [0n, 1_000_000_000n]) {
    await chain.ask('anvil_setBalance', poor.address, `0x${balance.toString(16)}`);
    const result = await deploy([], { PATCHBAY_CHAIN_DEPLOYER_KEY: poor.privateKey });
    expect(result.code).toBe(3);
    expect(refused(result)).toMatchObject({
      code: 'CHAIN_GAS_EMPTY',
      meta: { account: poor.address, balance: String(balance) },
    });
    expect(await nonce(poor.address)).toBe(0);
  }
});

test('an anchor that was deployed before the distributor failed is not forgotten', async () => {
  const poor = Wallet.createRandom();
  const { maxFeePerGas } = await chain.provider.getFeeData();
  // Enough for the first contract and not for the second.
  const balance = 1_800_000n * (maxFeePerGas ?? 0n);
  await chain.ask('anvil_setBalance', poor.address, `0x${balance.toString(16)}`);
  const key = { PATCHBAY_CHAIN_DEPLOYER_KEY: poor.privateKey, PATCHBAY_CHAIN_TOKEN: token };
  const half = await deploy([], key);
  const { code, meta, fix } = refused(half);
  expect([half.code, code]).toEqual([3, 'CHAIN_GAS_EMPTY']);
  const anchor = String(meta?.['anchor']);
  expect(fix).toContain(`PATCHBAY_CHAIN_ANCHOR to ${anchor}`);

  await chain.ask('anvil_setBalance', poor.address, `0x${(10n * balance).toString(16)}`);
  const rest = await deploy([], { ...key, PATCHBAY_CHAIN_ANCHOR: anchor });
  const { contracts } = reportSchema.parse(JSON.parse(rest.out));
  expect(contracts.map(({ deployed }) => deployed === null)).toEqual([true, false]);
  expect(contracts[0]?.address).toBe(anchor);
});

test('a transaction that does not get into a block in time may still, and is named', async () => {
  await chain.ask('evm_setAutomine', false);
  const result = await deploy(['--wait', '1s']);
  expect(result.code).toBe(1);
  const { code, meta } = refused(result);
  expect(code).toBe('CHAIN_OUTCOME_UNKNOWN');
  await chain.ask('evm_mine');
  await chain.ask('evm_setAutomine', true);
  const receipt = await chain.provider.getTransactionReceipt(String(meta?.['transaction']));
  expect(receipt).toMatchObject({ status: 1, contractAddress: meta?.['address'] });
});

test('a receipt counts when it is as many blocks deep as is wanted, and a node that fails meanwhile is asked again', async () => {
  const transaction = { from: chain.account(7), to: chain.account(8), value: '0x1' };
  const { transactionHash } = z
    .object({ transactionHash: z.string() })
    .parse(await chain.ask('eth_sendTransactionSync', transaction));
  const wait = (confirmations: number, waitMs: number, provider: JsonRpcProvider = chain.provider) =>
    waitForReceipt(provider, transactionHash, { confirmations, waitMs, pollingMs: 1 });
  expect((await wait(1, 0)).hash).toBe(transactionHash);
  await expect(wait(2, 0)).rejects.toThrow('2 blocks deep');
  await chain.ask('evm_mine');
  expect((await wait(2, 0)).hash).toBe(transactionHash);

  const shaky = new ShakyProvider(chain.url, undefined, { staticNetwork: true });
  await expect(wait(1, 0, shaky)).rejects.toMatchObject({ code: 'CHAIN_UNREACHABLE' });
  shaky.failures = 3;
  expect((await wait(1, 30_000, shaky)).hash).toBe(transactionHash);
  expect(shaky.failures).toBe(0);
  shaky.destroy();
});

/** Fails as often as it is told to. */
class ShakyProvider extends JsonRpcProvider {
  failures = 1;

  override async getTransactionReceipt(hash: string): Promise<TransactionReceipt | null> {
    if (this.failures === 0) return super.getTransactionReceipt(hash);
    this.failures -= 1;
    throw makeError('gone', 'NETWORK_ERROR', { event: 'test' });
  }
}

test('what the constructor refuses is not sent, and neither is anything with a wrong address', async () => {
  const before = await nonce();
  const noToken = await deploy(['--token', chain.account(5)]);
  expect([noToken.code, refused(noToken).code]).toEqual([3, 'CHAIN_CODE_DIFFERS']);
  const slip = chain.account(1).replace(/[a-f]/, (letter) => letter.toUpperCase());
  for (const owner of [slip, 'alice', `0x${'00'.repeat(20)}`]) {
    const result = await deploy(['--owner', owner]);
    expect(refused(result)).toMatchObject({ code: 'BAD_INPUT', field: 'owner' });
  }
  const { code, err } = await cli(['chain', 'deploy'], {});
  expect([code, err.includes('PATCHBAY_CHAIN_RPC_URL')]).toEqual([2, true]);
  expect(await nonce()).toBe(before);
});

test('a changed byte of the code on the chain is seen', async () => {
  const artifact = await readOwnArtifact('AttributionAnchor');
  const args = [1, 0, chain.account(0), chain.account(0)];
  const address = await chain.deploy(chain.account(9), artifact, args);
  const expected = { address, artifact, immutables: { firstEpoch: ['uint64', 1n] as const } };
  await verifyDeployedCode(chain.provider, expected);
  const code = await chain.provider.getCode(address);
  for (const place of [0, 1_000, getBytes(code).length - 1]) {
    const changed = getBytes(code);
    changed[place] = (changed[place] ?? 0) ^ 1;
    await chain.ask('anvil_setCode', address, hexlify(changed));
    await expect(verifyDeployedCode(chain.provider, expected)).rejects.toMatchObject({
      code: 'CHAIN_CODE_DIFFERS',
    });
  }
  await chain.ask('anvil_setCode', address, `${code}00`);
  await expect(verifyDeployedCode(chain.provider, expected)).rejects.toMatchObject({
    code: 'CHAIN_CODE_DIFFERS',
  });
});
