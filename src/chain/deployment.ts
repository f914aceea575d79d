import { getAddress, isAddress, type JsonRpcProvider, ZeroAddress } from 'ethers';
import { PatchbayError } from '../kernel/errors.ts';
import { type Account, type KeySource, openAccount } from './account.ts';
import { readOwnArtifact } from './artifact.ts';
import { type ChainConnection, connectChain } from './connect.ts';
import { deployContract, type Immutables, verifyDeployedCode } from './deploy.ts';
import type { Patience } from './receipt.ts';
import { Token } from './token.ts';

/** What an installation wants to have on a chain. */
export interface DeploymentPlan extends Omit<Patience, 'pollingMs'> {
  readonly connection: ChainConnection;
  /** Asked for only when something is to be deployed. */
  readonly key: () => Promise<KeySource>;
  /** Roles of what is deployed; null: the deployer's. */
  readonly owner: string | null;
  readonly publisher: string | null;
  readonly pauser: string | null;
  readonly ownerDelaySeconds: number;
  readonly firstEpoch: bigint;
  /** A contract that is there already is verified in place of being deployed again. */
  readonly anchor: string | null;
  readonly distributor: string | null;
  /** What royalties are paid in; null: nothing is paid on the chain. */
  readonly token: string | null;
  readonly onSigned: (signed: {
    readonly contract: ContractName;
    readonly hash: string;
    readonly address: string;
  }) => void;
}

export type ContractName = 'AttributionAnchor' | 'RoyaltyDistributor';

/** What is on the chain now. */
export interface DeploymentReport {
  readonly chainId: string;
  readonly contracts: readonly ContractReport[];
  readonly token: { readonly address: string; readonly decimals: number } | null;
}

export interface ContractReport {
  readonly name: ContractName;
  readonly address: string;
  /** Null for a contract that was there before. */
  readonly deployed: {
    readonly transaction: string;
    readonly block: number;
    readonly gasUsed: string;
    readonly owner: string;
    readonly publisher: string;
  } | null;
}

/**
 * Brings the contracts to the chain: what is there is verified, what is missing is deployed and then verified. Repeated with
 * the addresses that it returned, it changes nothing.
 */
export async function deployToChain(plan: DeploymentPlan): Promise<DeploymentReport> {
  const checked = checkAddresses(plan);
  const provider = await connectChain(plan.connection);
  try {
    return await deployThrough(provider, checked);
  } finally {
    provider.destroy();
  }
}

async function deployThrough(provider: JsonRpcProvider, plan: DeploymentPlan): Promise<DeploymentReport> {
  // Read first, so that a token that is none is found out before anything is paid for.
  const token =
    plan.token === null
      ? null
      : { address: plan.token, decimals: await new Token(provider, plan.token).decimals() };
  const account = once(async () => openAccount(await plan.key(), provider));
  const bring = (contract: Wanted) => bringContract({ provider, account, plan }, contract);
  const anchor = await bring({
    name: 'AttributionAnchor',
    address: plan.anchor,
    immutables: { firstEpoch: ['uint64', plan.firstEpoch] },
    args: ({ owner, publisher }) => [plan.firstEpoch, plan.ownerDelaySeconds, owner, publisher],
  });
  const contracts = [anchor];
  if (token !== null) {
    const distributor = await bring({
      name: 'RoyaltyDistributor',
      address: plan.distributor,
      immutables: { token: ['address', token.address] },
      args: ({ owner, publisher, pauser }) => [
        token.address,
        plan.ownerDelaySeconds,
        owner,
        publisher,
        pauser,
      ],
    }).catch((error: unknown) => {
      throw withoutDistributor(error, anchor);
    });
    contracts.push(distributor);
  }
  return { chainId: String(plan.connection.chainId), contracts, token };
}

/** The same failure, which does not let the anchor be forgotten: it is paid for, and whoever repeats must name it. */
function withoutDistributor(thrown: unknown, { deployed, address }: ContractReport): unknown {
  if (deployed === null || !(thrown instanceof PatchbayError)) return thrown;
  const { code, message, fix, meta } = thrown;
  return new PatchbayError(code, message, {
    fix: `The AttributionAnchor is deployed: set PATCHBAY_CHAIN_ANCHOR to ${address} before you repeat. ${fix}`,
    meta: { ...meta, anchor: address },
    cause: thrown,
  });
}

interface Roles {
  readonly owner: string;
  readonly publisher: string;
  readonly pauser: string;
}

interface Wanted {
  readonly name: ContractName;
  readonly address: string | null;
  readonly immutables: Immutables;
  readonly args: (roles: Roles) => readonly unknown[];
}

interface Site {
  readonly provider: JsonRpcProvider;
  readonly account: () => Promise<Account>;
  readonly plan: DeploymentPlan;
}

async function bringContract({ provider, account, plan }: Site, wanted: Wanted): Promise<ContractReport> {
  const { name, address, immutables } = wanted;
  const artifact = await readOwnArtifact(name);
  if (address !== null) {
    await verifyDeployedCode(provider, { address, artifact, immutables });
    return { name, address, deployed: null };
  }
  const deployer = await account();
  const roles = rolesOf(plan, deployer.wallet.address);
  const deployment = await deployContract(deployer, {
    artifact,
    args: wanted.args(roles),
    immutables,
    confirmations: plan.confirmations,
    waitMs: plan.waitMs,
    pollingMs: plan.connection.pollingMs,
    onSigned: (signed) => plan.onSigned({ contract: name, ...signed }),
  });
  return {
    name,
    address: deployment.address,
    deployed: {
      transaction: deployment.transactionHash,
      block: deployment.blockNumber,
      gasUsed: String(deployment.gasUsed),
      owner: roles.owner,
      publisher: roles.publisher,
    },
  };
}

function rolesOf({ owner, publisher, pauser }: DeploymentPlan, deployer: string): Roles {
  return { owner: owner ?? deployer, publisher: publisher ?? deployer, pauser: pauser ?? owner ?? deployer };
}

/** Addresses in the form with the checksum in their letters; a slip of the finger is refused. */
function checkAddresses(plan: DeploymentPlan): DeploymentPlan {
  const check = (field: string, address: string | null): string | null => {
    if (address === null) return null;
    if (isAddress(address) && getAddress(address) !== ZeroAddress) return getAddress(address);
    throw new PatchbayError('BAD_INPUT', `${JSON.stringify(address)} is not an address.`, {
      field,
      fix: 'Give 0x and 40 hexadecimal digits; where letters are of both cases, they are a checksum.',
    });
  };
  return {
    ...plan,
    owner: check('owner', plan.owner),
    publisher: check('publisher', plan.publisher),
    pauser: check('pauser', plan.pauser),
    anchor: check('anchor', plan.anchor),
    distributor: check('distributor', plan.distributor),
    token: check('token', plan.token),
  };
}

function once<T>(make: () => Promise<T>): () => Promise<T> {
  let made: Promise<T> | null = null;
  return () => {
    made ??= make();
    return made;
  };
}
