import { randomInt } from 'node:crypto';
import { access, mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { z } from 'zod';
import { PatchbayError } from '../../kernel/errors.ts';
import { openAccount } from '../account.ts';
import { readOwnArtifact } from '../artifact.ts';
import { connectChain } from '../connect.ts';
import { deployContract } from '../deploy.ts';
import { deployToChain } from '../deployment.ts';
import { startAnvil } from './anvil.ts';

/** A chain for trying things out, with our contracts and a token on it. */
export interface LocalChain extends Contracts {
  readonly rpcUrl: string;
  /** Key of the account that owns everything there; everybody knows it. */
  readonly key: string;
  /** Whether it was made just now. */
  readonly isNew: boolean;
  /** Ends it; what is on it is kept. */
  stop(): Promise<void>;
}

/** Where things are. */
export interface Contracts {
  readonly chainId: number;
  readonly anchor: string;
  readonly distributor: string;
  readonly token: string;
}

/** Key of the first account that anvil gives coins to. */
const OWNER_KEY = '0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80';
const OWNER_DELAY_S = 0;
const FIRST_EPOCH = 1n;
/** How often anvil writes its state, in seconds; it does so when it ends, too. */
const STATE_S = 10;
const PATIENCE = { confirmations: 1, waitMs: 30_000, pollingMs: 50 };
const CALL_TIMEOUT_MS = 15_000;
/** How long a chain may take to end. */
const END_MS = 10_000;

const address = z.string().regex(/^0x[0-9a-fA-F]{40}$/);
const contractsFile = z.object({
  format: z.literal('patchbay-local-chain/1'),
  chainId: z.int().positive(),
  anchor: address,
  distributor: address,
  token: address,
});

/**
 * Starts the local chain of a folder, the same one each time. A new one has an id that none had before, as the database may know
 * of the one that was here, whose contracts would be at the same addresses. One that did not end in order is begun anew: it may
 * lack its last seconds, in which something may have become final that the database remembers.
 */
export async function openLocalChain(folder: string, port: number): Promise<LocalChain> {
  await mkdir(folder, { recursive: true });
  const files = {
    state: join(folder, 'state.json'),
    contracts: join(folder, 'contracts.json'),
    pid: join(folder, 'anvil.pid'),
  };
  await waitForEnd(files.pid);
  const kept = (await isThere(files.pid)) ? null : await readContracts(files);
  // What was left behind by a start that did not come to its end.
  if (kept === null) await rm(files.state, { force: true });
  const chainId = kept?.chainId ?? randomInt(1_000_000_000, 2_000_000_000);
  const flags = ['--state', files.state, '--state-interval', String(STATE_S)];
  // Written before there is anything to lose.
  await writeFile(files.pid, '', { flush: true });
  const node = await startAnvil({ chainId: BigInt(chainId), port, flags, runningFile: files.pid });
  try {
    await writeFile(files.pid, String(node.pid), { flush: true });
    const contracts = await bringContracts({ rpcUrl: node.url, chainId, kept });
    if (kept === null) await writeContracts(files.contracts, contracts);
    return { rpcUrl: node.url, ...contracts, key: OWNER_KEY, isNew: kept === null, stop: node.stop };
  } catch (error) {
    await node.stop();
    throw kept === null ? error : notTheSame(error, folder);
  }
}

/** Deploys what is missing, and verifies what is there. */
async function bringContracts({
  rpcUrl,
  chainId,
  kept,
}: {
  readonly rpcUrl: string;
  readonly chainId: number;
  readonly kept: Contracts | null;
}): Promise<Contracts> {
  const connection = {
    ...{ rpcUrl, chainId: BigInt(chainId), timeoutMs: CALL_TIMEOUT_MS, pollingMs: PATIENCE.pollingMs },
  };
  const token = kept?.token ?? (await deployToken(connection));
  const { contracts } = await deployToChain({
    connection,
    key: async () => ({ kind: 'key', key: OWNER_KEY }),
    ...{ owner: null, publisher: null, pauser: null, ownerDelaySeconds: OWNER_DELAY_S },
    ...{ firstEpoch: FIRST_EPOCH, token, confirmations: PATIENCE.confirmations, waitMs: PATIENCE.waitMs },
    anchor: kept?.anchor ?? null,
    distributor: kept?.distributor ?? null,
    onSigned: () => {},
  });
  const at = (name: string): string => {
    const found = contracts.find((contract) => contract.name === name);
    if (found === undefined) throw new Error(`There is no ${name}.`);
    return found.address;
  };
  return { chainId, anchor: at('AttributionAnchor'), distributor: at('RoyaltyDistributor'), token };
}

async function deployToken(connection: Parameters<typeof connectChain>[0]): Promise<string> {
  const provider = await connectChain(connection);
  try {
    const account = await openAccount({ kind: 'key', key: OWNER_KEY }, provider);
    const { address: token } = await deployContract(account, {
      artifact: await readOwnArtifact('LocalToken'),
      args: [account.wallet.address],
      immutables: {},
      ...PATIENCE,
      onSigned: () => {},
    });
    return token;
  } finally {
    provider.destroy();
  }
}

/** Waits for the chain of a server that ended just now to write its state down. */
async function waitForEnd(pidFile: string): Promise<void> {
  const pid = Number(await readFile(pidFile, 'utf8').catch(() => '0'));
  const deadline = performance.now() + END_MS;
  while (isRunning(pid)) {
    if (performance.now() > deadline) {
      throw new PatchbayError('CHAIN_LOCAL_FAILED', `The local chain runs already, in process ${pid}.`, {
        fix: `Stop the server that uses it. If process ${pid} is something else, remove ${pidFile}.`,
      });
    }
    await delay(PATIENCE.pollingMs);
  }
}

function isRunning(pid: number): boolean {
  if (!(pid > 0)) return false;
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
}

/** What was deployed in this folder's chain; null when there is none, or nothing of it is left. */
async function readContracts(files: {
  readonly state: string;
  readonly contracts: string;
}): Promise<Contracts | null> {
  if (!(await isThere(files.state)) || !(await isThere(files.contracts))) return null;
  const { success, data } = contractsFile.safeParse(parseJson(await readFile(files.contracts, 'utf8')));
  if (!success) {
    throw new PatchbayError('CHAIN_LOCAL_FAILED', `${files.contracts} is damaged.`, {
      fix: 'Remove the folder that it is in to begin with a new chain.',
    });
  }
  const { chainId, anchor, distributor, token } = data;
  return { chainId, anchor, distributor, token };
}

function isThere(file: string): Promise<boolean> {
  return access(file).then(
    () => true,
    () => false,
  );
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

/** Whole or not at all. */
async function writeContracts(file: string, contracts: Contracts): Promise<void> {
  const written = `${file}.new`;
  await writeFile(
    written,
    `${JSON.stringify({ format: 'patchbay-local-chain/1', ...contracts }, null, 2)}\n`,
  );
  await rename(written, file);
}

function notTheSame(thrown: unknown, folder: string): unknown {
  if (!(thrown instanceof PatchbayError) || thrown.code !== 'CHAIN_CODE_DIFFERS') return thrown;
  return new PatchbayError('CHAIN_LOCAL_FAILED', `The local chain lacks its contracts: ${thrown.message}`, {
    fix: `It was made by another version of the program, or its last seconds were lost. Remove ${folder} to begin with a new chain.`,
    cause: thrown,
  });
}
