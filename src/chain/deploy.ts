import {
  AbiCoder,
  ContractFactory,
  getBytes,
  getCreateAddress,
  hexlify,
  Interface,
  keccak256,
  type Provider,
} from 'ethers';
import { PatchbayError } from '../kernel/errors.ts';
import type { Account } from './account.ts';
import type { Artifact } from './artifact.ts';
import { chainFailure } from './failure.ts';
import type { Patience } from './receipt.ts';
import { sendSigned, signTransaction } from './send.ts';

/** What a deployment needs. */
export interface DeployOptions extends Patience {
  readonly artifact: Artifact;
  /** Arguments of the constructor, in order. */
  readonly args: readonly unknown[];
  /** What immutables of the contract must be afterwards. */
  readonly immutables: Immutables;
  /** Told of the transaction before it is sent: if everything is lost now, this is how to look for it. */
  readonly onSigned: (signed: { readonly hash: string; readonly address: string }) => void;
}

/** Immutables by name, as Solidity types and values. */
export type Immutables = Readonly<Record<string, readonly [type: string, value: unknown]>>;

/** A contract that is on the chain and is what it should be. */
export interface Deployment {
  readonly address: string;
  readonly transactionHash: string;
  readonly blockNumber: number;
  readonly gasUsed: bigint;
}

/**
 * Deploys a contract, waits for it, and reads the code back.
 * @throws PatchbayError CHAIN_GAS_EMPTY or RevertError, before anything was sent; CHAIN_OUTCOME_UNKNOWN when it was sent and
 * not seen in time; CHAIN_CODE_DIFFERS when something else is there.
 */
export async function deployContract(account: Account, options: DeployOptions): Promise<Deployment> {
  const abi = new Interface(options.artifact.abi);
  const factory = new ContractFactory(abi, options.artifact.bytecode);
  const request = await factory.getDeployTransaction(...options.args);
  const signed = await signTransaction(account, request, abi);
  const { hash } = signed;
  const address = getCreateAddress(signed);
  options.onSigned({ hash, address });
  const receipt = await sendSigned(account, signed, options).catch((error: unknown) => {
    throw unknownOutcome(hash, address, error);
  });
  if (receipt.status !== 1) {
    throw new PatchbayError('CHAIN_REVERTED', `The deployment ${hash} was included and failed.`, {
      meta: { transaction: hash },
    });
  }
  await verifyDeployedCode(account.provider, { ...options, address });
  return {
    address,
    transactionHash: hash,
    blockNumber: receipt.blockNumber,
    gasUsed: receipt.gasUsed,
  };
}

/**
 * Compares the code at an address with the artifact: the same code, but for immutables, and those are what is expected.
 * @throws PatchbayError CHAIN_CODE_DIFFERS
 */
export async function verifyDeployedCode(
  provider: Provider,
  {
    address,
    artifact,
    immutables,
  }: { readonly address: string; readonly artifact: Artifact; readonly immutables: Immutables },
): Promise<void> {
  const deployed = await provider.getCode(address).catch((error: unknown) => {
    throw chainFailure(error);
  });
  if (deployed === '0x') {
    throw new PatchbayError('CHAIN_CODE_DIFFERS', `There is no contract at ${address}.`, {
      meta: { address },
    });
  }
  const code = getBytes(deployed);
  for (const { name, offsets } of artifact.immutables) {
    const expected = word(immutables, name);
    for (const offset of offsets) {
      const found = hexlify(code.subarray(offset, offset + 32));
      if (found !== expected) {
        throw new PatchbayError(
          'CHAIN_CODE_DIFFERS',
          `${artifact.name} at ${address} has another ${name} than is expected, or is another contract.`,
          { meta: { address, immutable: name, expected, found } },
        );
      }
      code.fill(0, offset, offset + 32);
    }
  }
  const found = keccak256(code);
  if (found === artifact.deployedBytecodeHash) return;
  throw new PatchbayError(
    'CHAIN_CODE_DIFFERS',
    `What is at ${address} is not the ${artifact.name} of this version of the program.`,
    { meta: { address, expected: artifact.deployedBytecodeHash, found } },
  );
}

function word(immutables: Immutables, name: string): string {
  const immutable = immutables[name];
  if (immutable === undefined) throw new Error(`Nothing is expected of the immutable ${name}.`);
  const [type, value] = immutable;
  return AbiCoder.defaultAbiCoder().encode([type], [value]);
}

function unknownOutcome(hash: string, address: string, cause: unknown): PatchbayError {
  return new PatchbayError(
    'CHAIN_OUTCOME_UNKNOWN',
    `The transaction ${hash} was signed and given to the node, and is not known to be in a block. If it succeeds, the contract is at ${address}.`,
    { meta: { transaction: hash, address }, cause },
  );
}
