import type { CodeEntry } from './entry.ts';

/** The chain, receipts and the log. */
export const PROOFS_CODES = {
  // Chain
  CHAIN_PAYOUTS_OFF: {
    status: 409,
    meaning: 'This installation has no distributor to pay on a chain.',
    fix: 'Use a bank account, or set the chain, its distributor and its token, and restart the server.',
  },
  CHAIN_DISTRIBUTOR_USED: {
    status: 409,
    meaning:
      'The distributor has trees that this installation does not know, so that it cannot continue them.',
    fix: 'Deploy a distributor of its own for every installation; restore the database when it was lost.',
  },
  CHAIN_FINALITY_BROKEN: {
    status: 502,
    meaning:
      'A block that counted as final was replaced, or what was in it is not there any more: the chain went back, or the node is on another chain than before.',
    fix: 'Check the node; it goes on by itself when the chain has it again. If the chain itself went back, raise the depth that counts as final, and reconcile by hand. A local chain is begun anew by removing `chain/` in the data folder.',
  },
  CHAIN_UNREACHABLE: {
    status: 503,
    meaning: 'The RPC of the chain does not answer, or not as one.',
    fix: 'Check the RPC URL, and that its node runs.',
  },
  CHAIN_NODE_ERROR: {
    status: 502,
    meaning: 'The node of the chain answered with an error of its own.',
    fix: 'Read what it says; a provider may limit calls, or not offer this one.',
  },
  CHAIN_MISMATCH: {
    status: 409,
    meaning: 'The RPC serves another chain than the one that is meant. Nothing was sent.',
    fix: 'Correct the RPC URL or the chain id.',
  },
  CHAIN_KEY: {
    status: 400,
    meaning: 'The key of the account on the chain is missing or damaged, or its password is wrong.',
    fix: 'Give a key of 64 hexadecimal digits, or a keystore file of version 3 with its password.',
  },
  CHAIN_GAS_EMPTY: {
    status: 402,
    meaning: "The account has too little of the chain's own coin to pay for the transaction.",
    fix: 'Send some to the account that is named, and repeat.',
  },
  CHAIN_REVERTED: {
    status: 409,
    meaning: 'The contract refused the call; the error says with which of its own errors.',
    fix: 'Look the error of the contract up in docs/reference/contracts.md.',
  },
  CHAIN_OUTCOME_UNKNOWN: {
    status: 504,
    meaning:
      'The transaction was signed and sent, and was not seen in a block in time. It may still be included.',
    fix: 'Look the transaction up on the chain before anything is sent again.',
  },
  CHAIN_CODE_DIFFERS: {
    status: 409,
    meaning: 'What is at the address is not the contract that is expected there.',
    fix: 'Correct the address, or use the version of the program that deployed the contract.',
  },
  CHAIN_PURPOSE_TAKEN: {
    status: 409,
    meaning: 'A transaction was ordered for this purpose before, and it is another one.',
    fix: 'Order it for a purpose of its own.',
  },
  CHAIN_NONCE_TAKEN: {
    status: 409,
    meaning:
      'Another program uses the account: a transaction that is not ours has, or may get, the nonce of one of ours.',
    fix: 'Use the key for nothing else. It goes on by itself when the other transaction is final or gone.',
  },
  CHAIN_NONCE_GAP: {
    status: 409,
    meaning: 'A transaction waits for one with a lower nonce, which nothing of ours has.',
    fix: 'Use the key for nothing else. It goes on by itself: the next order gets the missing nonce, or, after PATCHBAY_CHAIN_BUMP_MS, an empty transfer of the account to itself.',
  },
  CHAIN_FEES_HIGH: {
    status: 503,
    meaning: 'Gas costs more than the ceiling that was set.',
    fix: 'Wait, or raise PATCHBAY_CHAIN_MAX_FEE_GWEI.',
  },
  CHAIN_NODE_BEHIND: {
    status: 503,
    meaning:
      'The node has fewer blocks than were seen before, or did not tell all events of them: what the contracts say after the same block is more. Nothing of its answer was kept.',
    fix: 'It is asked again; wait until it has caught up, or use another node. If it stays, one of several nodes behind the RPC URL lags or lacks data.',
  },
  CHAIN_ANCHOR_DOUBTFUL: {
    status: 502,
    meaning:
      'The node says that an epoch is anchored with other values than the database has. It is asked once more before that counts.',
    fix: 'Wait: either CHAIN_ANCHOR_DIFFERS follows, or the node has answered wrongly.',
  },
  CHAIN_ANCHOR_DIFFERS: {
    status: 409,
    meaning:
      'An epoch is anchored on the chain with other values than the database has: the log was forked, the database was restored and has gone on in another way, or two deployments share a contract. Nothing more is anchored there.',
    fix: 'Find out which of the two is right; what is anchored cannot be changed. To go on with this log, deploy another AttributionAnchor, whose first epoch is the first that is not anchored, set PATCHBAY_CHAIN_ANCHOR to its address, and restart the server.',
  },
  CHAIN_DISABLED: {
    status: 404,
    meaning: 'The deployment uses no chain.',
    fix: 'Ask the operator to set up a chain; docs/concepts/chain.md says how.',
  },
  CHAIN_LOCAL_MISSING: {
    status: 503,
    meaning: 'A local chain was asked for, and anvil, which runs it, is not installed.',
    fix: 'Install it with `npm install --no-save @foundry-rs/anvil@1.7.1`, or set PATCHBAY_CHAIN_RPC_URL to a chain that runs elsewhere.',
  },
  CHAIN_LOCAL_FAILED: {
    status: 503,
    meaning: 'The local chain did not start.',
    fix: 'Read what it says: its port may be in use, or the state in the data folder may be damaged.',
  },
  // Proofs
  EPOCH_CLOSING: {
    status: 503,
    meaning:
      'An epoch is being closed that may still have accounts of the tenant. Its receipts are erased, its accounts are not yet.',
    fix: 'Send the same again in some minutes: it goes on where it was.',
  },
  PROOFS_DISABLED: {
    status: 404,
    meaning: 'The deployment issues no receipts and keeps no log, because proofs are switched off.',
    fix: 'Ask the operator to switch proofs on; what was settled before has no receipts.',
  },
  PROOF_KEY_UNKNOWN: {
    status: 409,
    meaning: 'The key that is to sign receipts is not the one that the deployment has in use.',
    fix: 'Give every server the same key, or replace it by `patchbay proof-key rotate`, by which the present one endorses the next.',
  },
  PROOF_UNREADABLE: {
    status: 400,
    meaning: 'A file of a proof cannot be read, is too large, or is not strict JSON.',
    fix: 'Give the file as it was handed out.',
  },
  PROOF_FORMAT: {
    status: 400,
    meaning: 'A file of a proof is of an unknown format, or not what its format says.',
    fix: 'Give the file as it was handed out; docs/reference/proofs.md says what it must look like.',
  },
  PROOF_EPOCH_MISSING: {
    status: 400,
    meaning: 'The epoch that is to be audited is not among the documents.',
    fix: 'Put the epoch into the bundle: `patchbay bundle` does, and /log/v1/epoch?number=… has it.',
  },
  PROOF_KEYS_MISSING: {
    status: 400,
    meaning: 'Nothing says whose signatures count.',
    fix: 'Give --keys with the key list of the deployment, or --trust with the address of its key.',
  },
  REPLAY_NOT_GREEDY: {
    status: 400,
    meaning: 'A request that drew its tokens cannot be run again with the same result.',
    fix: 'Verify the receipt without --replay; only requests of temperature 0 can be replayed.',
  },
} as const satisfies Readonly<Record<string, CodeEntry>>;
