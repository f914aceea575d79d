import type { JsonRpcProvider } from 'ethers';
import { PatchbayError } from '../kernel/errors.ts';
import { type KeySource, openAccount } from './account.ts';
import { readOwnArtifact } from './artifact.ts';
import { type ChainConnection, connectChain } from './connect.ts';
import { verifyDeployedCode } from './deploy.ts';
import type { Patience } from './receipt.ts';
import { type Claim, DISTRIBUTOR_ABI, RoyaltyDistributor } from './royalty-distributor.ts';
import { sendSigned, signTransaction } from './send.ts';
import { Token } from './token.ts';

/** A claim as somebody holds it. */
export interface ClaimOrder extends Claim {
  readonly distributor: string;
  readonly token: string;
  /** The tree's, `0x` and 64 digits. */
  readonly root: string;
}

/** How a claim is sent. */
export interface ClaimPlan extends Omit<Patience, 'pollingMs'> {
  /** To the chain of the claim. */
  readonly connection: ChainConnection;
  readonly claim: ClaimOrder;
  /** Of the wallet that pays for the transaction: any will do. */
  readonly key: KeySource;
  /** Told of the transaction before it is sent. */
  readonly onSigned: (signed: { readonly hash: string; readonly from: string }) => void;
}

/** What was paid. */
export interface ClaimReport {
  readonly transaction: string;
  readonly block: number;
  readonly gasUsed: string;
  readonly account: string;
  /** In the token's smallest unit, as is what it was paid in all. */
  readonly paid: bigint;
  readonly cumulative: bigint;
}

/**
 * Sends a claim: the account is paid what it was not paid yet. What the contract would refuse is refused here, before anything
 * is sent, and said in words.
 * @throws PatchbayError CHAIN_OUTCOME_UNKNOWN when it was sent and not seen in time.
 */
export async function sendClaim(plan: ClaimPlan): Promise<ClaimReport> {
  const provider = await connectChain(plan.connection);
  try {
    await requireClaimable(provider, plan.claim);
    return await send(provider, plan);
  } finally {
    provider.destroy();
  }
}

async function requireClaimable(provider: JsonRpcProvider, claim: ClaimOrder): Promise<void> {
  const { distributor: address, token, account, cumulative } = claim;
  // A claim that names another contract could at worst cost the gas of calling it.
  await verifyDeployedCode(provider, {
    address,
    artifact: await readOwnArtifact('RoyaltyDistributor'),
    immutables: { token: ['address', token] },
  });
  const distributor = new RoyaltyDistributor(provider, address);
  if (await distributor.paused()) {
    throw new PatchbayError('CLAIM_PAUSED', 'Claims on the distributor are paused.', {
      meta: { distributor: address },
    });
  }
  const claimed = await distributor.claimed(account);
  if (claimed >= cumulative) {
    throw new PatchbayError(
      'CLAIM_NOTHING',
      `${account} was paid ${claimed} already, and the claim is of ${cumulative}.`,
      {
        meta: { account, claimed: String(claimed), cumulative: String(cumulative) },
      },
    );
  }
  const root = await distributor.root();
  if (root !== claim.root) {
    throw new PatchbayError(
      'CLAIM_OUT_OF_DATE',
      'The distributor has another tree in force than the claim’s.',
      {
        meta: { claim: claim.root, inForce: root, sequence: String(await distributor.sequence()) },
      },
    );
  }
  const held = await new Token(provider, token).balanceOf(address);
  if (held >= cumulative - claimed) return;
  throw new PatchbayError(
    'CLAIM_UNDERFUNDED',
    `The claim pays ${cumulative - claimed}, and the distributor holds ${held}.`,
    { meta: { held: String(held), needed: String(cumulative - claimed) } },
  );
}

async function send(provider: JsonRpcProvider, plan: ClaimPlan): Promise<ClaimReport> {
  const account = await openAccount(plan.key, provider);
  const distributor = new RoyaltyDistributor(provider, plan.claim.distributor);
  const signed = await signTransaction(account, distributor.claim(plan.claim), DISTRIBUTOR_ABI);
  const { hash, from } = signed;
  plan.onSigned({ hash, from });
  const patience = { ...plan, pollingMs: plan.connection.pollingMs };
  const receipt = await sendSigned(account, signed, patience).catch((cause: unknown) => {
    throw new PatchbayError(
      'CHAIN_OUTCOME_UNKNOWN',
      `The transaction ${hash} was signed and given to the node, and is not known to be in a block.`,
      {
        fix: 'Look the transaction up; a claim that is sent again is never paid twice.',
        meta: { transaction: hash },
        cause,
      },
    );
  });
  const paid = distributor.eventsIn(receipt).claimed.find((one) => one.account === plan.claim.account);
  if (receipt.status !== 1 || paid === undefined) {
    throw new PatchbayError('CHAIN_REVERTED', `The claim ${hash} was included and failed.`, {
      fix: 'Send it again: it says why, if it would still fail.',
      meta: { transaction: hash },
    });
  }
  return {
    transaction: hash,
    block: receipt.blockNumber,
    gasUsed: String(receipt.gasUsed),
    account: paid.account,
    paid: paid.amount,
    cumulative: paid.cumulative,
  };
}
