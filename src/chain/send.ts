import {
  formatEther,
  type Interface,
  isError,
  Transaction,
  type TransactionReceipt,
  type TransactionRequest,
} from 'ethers';
import { PatchbayError } from '../kernel/errors.ts';
import type { Account } from './account.ts';
import { chainFailure } from './failure.ts';
import { type Patience, waitForReceipt } from './receipt.ts';

/** A transaction that a command signs and sends by itself; a server has its outbox for that. */
export interface SignedTransaction {
  readonly raw: string;
  readonly hash: string;
  readonly from: string;
  readonly nonce: number;
}

/**
 * Adds nonce, gas and fees, and signs. The estimate runs it, so that what would be refused is refused here, and nothing is sent.
 * @throws PatchbayError CHAIN_GAS_EMPTY or RevertError.
 */
export async function signTransaction(
  account: Account,
  wanted: TransactionRequest,
  abi: Interface,
): Promise<SignedTransaction> {
  const request = await populate(account, wanted, abi);
  await requireGas(account, request);
  const raw = await account.wallet.signTransaction(request);
  const { hash, from, nonce } = Transaction.from(raw);
  if (hash === null || from === null) throw new Error('A signed transaction has a hash and a sender.');
  return { raw, hash, from, nonce };
}

/** Sends the signed bytes and waits. A failure from here on says nothing of whether the transaction is on its way. */
export async function sendSigned(
  { provider }: Account,
  { raw, hash }: SignedTransaction,
  patience: Patience,
): Promise<TransactionReceipt> {
  await provider.broadcastTransaction(raw);
  return waitForReceipt(provider, hash, patience);
}

async function populate(
  account: Account,
  wanted: TransactionRequest,
  abi: Interface,
): Promise<TransactionRequest> {
  try {
    return await account.wallet.populateTransaction({ ...wanted, from: account.wallet.address });
  } catch (error) {
    throw await failureOf(account, error, abi);
  }
}

/** As {@link chainFailure}, but an account that cannot pay is told how much it has. */
async function failureOf(account: Account, thrown: unknown, abi: Interface): Promise<unknown> {
  if (!isError(thrown, 'INSUFFICIENT_FUNDS')) return chainFailure(thrown, abi);
  return gasEmpty(account, await balanceOf(account), null);
}

async function requireGas(account: Account, request: TransactionRequest): Promise<void> {
  const balance = await balanceOf(account);
  const price = request.maxFeePerGas ?? request.gasPrice ?? 0n;
  const needed = BigInt(request.gasLimit ?? 0n) * BigInt(price);
  if (balance < needed || balance === 0n) throw gasEmpty(account, balance, needed);
}

async function balanceOf({ wallet, provider }: Account): Promise<bigint> {
  return provider.getBalance(wallet.address).catch((error: unknown) => {
    throw chainFailure(error);
  });
}

function gasEmpty({ wallet }: Account, balance: bigint, needed: bigint | null): PatchbayError {
  const upTo = needed === null ? '' : `, and up to ${formatEther(needed)} are needed`;
  return new PatchbayError(
    'CHAIN_GAS_EMPTY',
    `${wallet.address} has ${formatEther(balance)} of the chain's own coin${upTo}.`,
    {
      meta: {
        account: wallet.address,
        balance: String(balance),
        needed: needed === null ? null : String(needed),
      },
    },
  );
}
