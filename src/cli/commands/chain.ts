import type { KeySource } from '../../chain/account.ts';
import type { DeploymentReport } from '../../chain/deployment.ts';
import type { Config, Environment } from '../../config/index.ts';
import { PatchbayError } from '../../kernel/errors.ts';
import { EXIT } from '../exit-codes.ts';
import { type CliIo, UsageError } from '../io.ts';

/** What the command line says. */
export interface ChainDeployFlags {
  readonly rpc?: string;
  readonly chainId?: string;
  readonly token?: string;
  readonly keystore?: string;
  readonly owner?: string;
  readonly publisher?: string;
  readonly pauser?: string;
  readonly ownerDelay: number;
  readonly firstEpoch: number;
  readonly confirmations: number;
  readonly wait: number;
  readonly json: boolean;
}

const CALL_TIMEOUT_MS = 15_000;
const POLLING_MS = 1_000;

/** Brings the contracts to a chain, and says what to set so that the installation finds them. */
export async function chainDeploy(io: CliIo, flags: ChainDeployFlags): Promise<number> {
  const { config } = io.loadConfig(overrides(flags));
  const { rpcUrl, chainId, anchor, distributor, token } = config.chain;
  if (rpcUrl === null || chainId === null) {
    throw new UsageError(
      'Neither the command line nor the environment says which chain.',
      'Give --rpc and --chain-id, or set PATCHBAY_CHAIN_RPC_URL and PATCHBAY_CHAIN_ID.',
    );
  }
  const { deployToChain } = await import('../../chain/deployment.ts');
  const report = await deployToChain({
    connection: {
      rpcUrl,
      chainId: BigInt(chainId),
      timeoutMs: CALL_TIMEOUT_MS,
      pollingMs: POLLING_MS,
    },
    key: () => keySource(config.chain, flags.keystore),
    owner: flags.owner ?? null,
    publisher: flags.publisher ?? null,
    pauser: flags.pauser ?? null,
    ownerDelaySeconds: Math.ceil(flags.ownerDelay / 1_000),
    firstEpoch: BigInt(flags.firstEpoch),
    anchor,
    distributor,
    token,
    confirmations: flags.confirmations,
    waitMs: flags.wait,
    onSigned: ({ contract, hash, address }) => {
      if (!flags.json) io.err(`${contract}: sending ${hash}, which puts it at ${address}\n`);
    },
  });
  io.out(
    flags.json
      ? `${JSON.stringify({ ...report, settings: Object.fromEntries(settingsOf(report)) })}\n`
      : describe(report),
  );
  return EXIT.ok;
}

/** Flags as the variables that they stand for, so that both are checked alike. */
function overrides({ rpc, chainId, token }: ChainDeployFlags): Environment {
  return {
    ...(rpc === undefined ? {} : { PATCHBAY_CHAIN_RPC_URL: rpc }),
    ...(chainId === undefined ? {} : { PATCHBAY_CHAIN_ID: chainId }),
    ...(token === undefined ? {} : { PATCHBAY_CHAIN_TOKEN: token }),
  };
}

async function keySource(
  { deployerKey, keystorePassword }: Config['chain'],
  keystore: string | undefined,
): Promise<KeySource> {
  if (keystore !== undefined) {
    const { keystoreFile } = await import('../../chain/keystore-file.ts');
    return keystoreFile(keystore, keystorePassword);
  }
  if (deployerKey !== null) return { kind: 'key', key: deployerKey };
  throw new PatchbayError('CHAIN_KEY', 'There is no key to deploy with.', {
    fix: 'Give --keystore, or set PATCHBAY_CHAIN_DEPLOYER_KEY.',
  });
}

/** What to put into the environment of the server. */
function settingsOf({ chainId, contracts, token }: DeploymentReport): readonly (readonly [string, string])[] {
  const names = {
    AttributionAnchor: 'PATCHBAY_CHAIN_ANCHOR',
    RoyaltyDistributor: 'PATCHBAY_CHAIN_DISTRIBUTOR',
  } as const;
  return [
    ['PATCHBAY_CHAIN_ID', chainId],
    ...contracts.map(({ name, address }): readonly [string, string] => [names[name], address]),
    ...(token === null ? [] : [['PATCHBAY_CHAIN_TOKEN', token.address] as const]),
  ];
}

function describe(report: DeploymentReport): string {
  const lines = report.contracts.map(({ name, address, deployed }) =>
    deployed === null
      ? `${name} is at ${address}: it was there, and its code is the right one.`
      : `${name} is at ${address}: deployed in block ${deployed.block} for ${deployed.gasUsed} gas, read back, and the right code.\n` +
        `  owner ${deployed.owner}, publisher ${deployed.publisher}`,
  );
  const token =
    report.token === null ? [] : [`Token ${report.token.address} with ${report.token.decimals} decimals.`];
  const settings = settingsOf(report).map(([name, value]) => `  ${name}=${value}`);
  return `${[`Chain ${report.chainId}`, ...lines, ...token, '', 'Set:', ...settings].join('\n')}\n`;
}
