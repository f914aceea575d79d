import { spawn } from 'node:child_process';
import { copyFile, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { pathToFileURL } from 'node:url';
import { parseEther, Wallet } from 'ethers';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { z } from 'zod';
import { openAccount } from '../../src/chain/account.ts';
import { connectChain } from '../../src/chain/connect.ts';
import { type LocalChain, openLocalChain } from '../../src/chain/local/open.ts';
import { Token } from '../../src/chain/token.ts';
import { localSettings, startLocalChain } from '../../src/cli/local-chain.ts';
import { loadConfig } from '../../src/config/index.ts';
import { silentProgress } from '../../src/observability/progress.ts';
import { bundle } from '../kit/bundle.ts';
import { waitFor } from '../kit/wait.ts';

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'local-chain-'));
});
afterAll(() => rm(folder, { recursive: true }));

const connect = ({ rpcUrl, chainId }: Pick<LocalChain, 'rpcUrl' | 'chainId'>) =>
  connectChain({ rpcUrl, chainId: BigInt(chainId), timeoutMs: 5_000, pollingMs: 20 });

/** What a chain is, whenever it runs and wherever it listens. */
const identity = ({ chainId, anchor, distributor, token }: LocalChain) => ({
  ...{ chainId, anchor, distributor, token },
});

async function isGone(url: string): Promise<boolean> {
  return fetch(url).then(
    () => false,
    () => true,
  );
}

test('a chain is the same each time, with what happened on it', async () => {
  const own = join(folder, 'same');
  const payee = Wallet.createRandom().address;
  const first = await openLocalChain(own, 0);
  expect(first.isNew).toBe(true);
  const provider = await connect(first);
  const { wallet } = await openAccount({ kind: 'key', key: first.key }, provider);
  expect(await new Token(provider, first.token).balanceOf(wallet.address)).toBe(10n ** 15n);
  await wallet.sendTransaction({ to: payee, value: parseEther('1') });
  const block = await provider.getBlock('latest');
  provider.destroy();
  await first.stop();
  expect(await isGone(first.rpcUrl)).toBe(true);

  const second = await openLocalChain(own, 0);
  expect(second.isNew).toBe(false);
  expect(identity(second)).toEqual(identity(first));
  const again = await connect(second);
  expect(await again.getBalance(payee)).toBe(parseEther('1'));
  expect((await again.getBlock('latest'))?.hash).toBe(block?.hash);
  again.destroy();
  await second.stop();

  // Without its state it cannot go on, and a new one is another.
  await rm(join(own, 'state.json'));
  const third = await openLocalChain(own, 0);
  expect(third.isNew).toBe(true);
  expect(third.chainId).not.toBe(first.chainId);
  await third.stop();
  await writeFile(join(own, 'contracts.json'), '{}');
  await expect(openLocalChain(own, 0)).rejects.toMatchObject({ code: 'CHAIN_LOCAL_FAILED' });
});

test('a process that is killed leaves no chain behind, and the next one goes on with it', async () => {
  const own = join(folder, 'killed');
  const program = await bundle('test/chain/local-process.ts');
  const child = spawn(process.execPath, [program.path, own], { stdio: ['ignore', 'pipe', 'inherit'] });
  const line = await new Promise<string>((resolve) =>
    createInterface({ input: child.stdout }).once('line', resolve),
  );
  const told = z.object({ rpcUrl: z.string(), chainId: z.int() }).parse(JSON.parse(line));
  child.kill('SIGKILL');
  await waitFor(() => isGone(told.rpcUrl), { what: 'the chain to end' });
  const next = await openLocalChain(own, 0);
  expect(next).toMatchObject({ isNew: false, chainId: told.chainId });
  await next.stop();
  await program.remove();
});

test('a chain that did not end in order is begun anew, as it may lack what was final', async () => {
  const own = join(folder, 'broken');
  const first = await openLocalChain(own, 0);
  const pid = Number(await readFile(join(own, 'anvil.pid'), 'utf8'));
  // The node itself and at once, as a machine that has no memory left would; its group has nothing else but who watches it.
  process.kill(-pid, 'SIGKILL');
  await waitFor(() => isGone(first.rpcUrl), { what: 'the chain to end' });
  await first.stop();
  const next = await openLocalChain(own, 0);
  expect(next.isNew).toBe(true);
  expect(next.chainId).not.toBe(first.chainId);
  // Told to end with everything around it, it ends in order.
  process.kill(-Number(await readFile(join(own, 'anvil.pid'), 'utf8')), 'SIGTERM');
  await waitFor(() => isGone(next.rpcUrl), { what: 'the chain to end' });
  await next.stop();
  const last = await openLocalChain(own, 0);
  expect(identity(last)).toEqual(identity(next));
  await last.stop();
});

test('where anvil is not installed, it says what to do', async () => {
  const program = await bundle('src/chain/local/anvil.ts');
  const elsewhere = join(folder, 'anvil.mjs');
  await copyFile(program.path, elsewhere);
  await program.remove();
  const { startAnvil } = await import(pathToFileURL(elsewhere).href);
  await expect(startAnvil({ chainId: 1n, port: 0 })).rejects.toMatchObject({
    code: 'CHAIN_LOCAL_MISSING',
    fix: expect.stringContaining('npm install'),
  });
});

test('a server that has a chain starts none, and one that starts one is told of it', async () => {
  const { config } = loadConfig({ PATCHBAY_CHAIN_RPC_URL: 'http://127.0.0.1:1' });
  await expect(startLocalChain(config, 0, silentProgress)).rejects.toMatchObject({ code: 'BAD_INPUT' });
  const address = `0x${'ab'.repeat(20)}`;
  const local = {
    ...{ rpcUrl: 'http://127.0.0.1:8545', chainId: 1_500_000_000, key: '1'.repeat(64), isNew: true },
    ...{ anchor: address, distributor: address, token: address, stop: async () => {} },
  };
  const { chain, proofs } = loadConfig(localSettings(local)).config;
  expect(proofs.enabled).toBe(true);
  expect(chain).toMatchObject({ chainId: 1_500_000_000, anchor: address, finality: 1, pollMs: 500 });
});
