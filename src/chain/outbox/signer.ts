import { Transaction, type Wallet } from 'ethers';
import type { UnsignedCall } from '../call.ts';
import type { Fees } from './types.ts';

/** All of a transaction but its signature. */
export interface UnsignedTransaction {
  readonly chainId: bigint;
  readonly nonce: number;
  readonly call: UnsignedCall;
  readonly value: bigint;
  readonly gas: bigint;
  readonly fees: Fees;
}

/** A signed transaction. */
export interface SignedBytes {
  readonly hash: string;
  /** In hexadecimal. */
  readonly raw: string;
}

/** Signs for one account, wherever its key is. */
export interface TransactionSigner {
  readonly address: string;
  sign(transaction: UnsignedTransaction): Promise<SignedBytes>;
}

/** Signs with a key in this process. */
export function walletTransactionSigner(wallet: Wallet): TransactionSigner {
  return {
    address: wallet.address,
    sign: async (transaction) => {
      const raw = await wallet.signTransaction(requestOf(transaction));
      const { hash } = Transaction.from(raw);
      if (hash === null) throw new Error('A signed transaction has a hash.');
      return { hash, raw };
    },
  };
}

function requestOf({ chainId, nonce, call, value, gas, fees }: UnsignedTransaction) {
  const { maxFee, priorityFee } = fees;
  const price =
    priorityFee === null
      ? { type: 0, gasPrice: maxFee }
      : { type: 2, maxFeePerGas: maxFee, maxPriorityFeePerGas: priorityFee };
  return { chainId, nonce, to: call.to, data: call.data, value, gasLimit: gas, ...price };
}
