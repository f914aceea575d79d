/** One row of the error registry. */
interface CodeEntry {
  /** HTTP status for transports that have one. */
  readonly status: number;
  /** What the code means, one sentence; feeds docs/reference/errors.md. */
  readonly meaning: string;
  /** The default fix, one sentence in the imperative. */
  readonly fix: string;
}

/**
 * The one registry of error codes: GraphQL, HTTP, the command line and the reference documentation all read it.
 * A code, once released, keeps its meaning.
 */
export const ERROR_CODES = {
  // General
  INTERNAL: {
    status: 500,
    meaning: 'Something unforeseen failed; the details are in the server log.',
    fix: 'Retry; if it persists, give the request id to the operator.',
  },
  BAD_INPUT: { status: 400, meaning: 'An argument is malformed.', fix: 'Correct the named field.' },
  NOT_FOUND: {
    status: 404,
    meaning: 'No such thing is visible to the caller.',
    fix: 'Check the id; the thing may belong to another tenant or be deleted.',
  },
  CONFIG_INVALID: {
    status: 500,
    meaning: 'The configuration is invalid.',
    fix: 'Correct the variables that are listed.',
  },
  IDEMPOTENCY_CONFLICT: {
    status: 409,
    meaning: 'The idempotency key was used before with other arguments.',
    fix: 'Use a new key for a new operation, or repeat the first arguments.',
  },
  IDEMPOTENCY_IN_PROGRESS: {
    status: 409,
    meaning: 'An operation with this idempotency key is still running.',
    fix: 'Wait for it, then retry with the same key.',
  },
  SHUTTING_DOWN: { status: 503, meaning: 'The server is draining.', fix: 'Retry in a moment.' },
  // Access
  UNAUTHENTICATED: {
    status: 401,
    meaning: 'No valid API key was given.',
    fix: 'Send a valid key as `Authorization: Bearer <key>`.',
  },
  FORBIDDEN: { status: 403, meaning: 'The key may not do this.', fix: 'Use a key with the needed scope.' },
  NAME_TAKEN: {
    status: 409,
    meaning: 'The name or handle is in use.',
    fix: 'Choose another name.',
  },
  KEY_STATE: {
    status: 409,
    meaning: 'The API key is revoked, expired or already rotated.',
    fix: 'Use the key that replaced it, or create a new one.',
  },
  QUOTA_EXCEEDED: {
    status: 429,
    meaning: 'A quota of the tenant is used up; the error says which, its limit and when to retry.',
    fix: 'Retry after `retryAfterMs`, or ask the operator to raise the quota.',
  },
  MEMBER_STATE: {
    status: 409,
    meaning: 'The member was removed, or is the last owner of the tenant.',
    fix: 'Read the members first; make somebody else an owner before the last one goes.',
  },
  TENANT_STATE: {
    status: 409,
    meaning: 'The tenant is closed, which is for good.',
    fix: 'Create another tenant; what the closed one had stays as it was.',
  },
  QUERY_TOO_COMPLEX: {
    status: 400,
    meaning: 'The operation exceeds a depth, alias, token or cost limit.',
    fix: 'Ask for less in one operation.',
  },
  GRAPHQL_SYNTAX: {
    status: 400,
    meaning: 'The GraphQL document cannot be parsed.',
    fix: 'Correct the document at the given location.',
  },
  GRAPHQL_INVALID: {
    status: 400,
    meaning: 'The GraphQL document does not fit the schema, or the named operation is not in it.',
    fix: 'Correct the document; the schema is in the `schema/` folder.',
  },
  REQUEST_TOO_LARGE: {
    status: 413,
    meaning: 'The request body exceeds the size limit.',
    fix: 'Send less in one request; files go to an upload URL.',
  },
  TOO_MANY_OPERATIONS: {
    status: 429,
    meaning: 'The socket already runs as many operations as it may.',
    fix: 'Wait for an operation to end, or open another socket.',
  },
  // Backbones
  BACKBONE_UNSUPPORTED: {
    status: 400,
    meaning: 'The checkpoint uses something that cannot be served exactly.',
    fix: 'Use a checkpoint of a supported family without the named feature.',
  },
  BACKBONE_INVALID: {
    status: 400,
    meaning: 'The checkpoint is damaged or incomplete.',
    fix: 'Download the checkpoint again and compare the named file or tensor.',
  },
  BACKBONE_NOT_LOADED: {
    status: 503,
    meaning: 'The named backbone is not served here.',
    fix: 'Name a backbone from the `backbones` query.',
  },
  // Files
  FILE_MISSING: { status: 400, meaning: 'A needed file is missing.', fix: 'Provide the named file.' },
  FILE_TOO_LARGE: {
    status: 413,
    meaning: 'A file exceeds its size limit.',
    fix: 'Upload a smaller file, or ask the operator to raise the limit.',
  },
  SAFETENSORS_HEADER: {
    status: 400,
    meaning: 'The safetensors header is malformed.',
    fix: 'Write the file again with the safetensors library.',
  },
  SAFETENSORS_LAYOUT: {
    status: 400,
    meaning: 'Tensor offsets overlap, leave gaps or run past the end.',
    fix: 'Write the file again with the safetensors library.',
  },
  SAFETENSORS_DTYPE: {
    status: 400,
    meaning: 'A tensor has a data type that is not supported.',
    fix: 'Convert the tensors to F32, F16 or BF16.',
  },
  // Adapters
  ADAPTER_CONFIG_INVALID: {
    status: 400,
    meaning: 'adapter_config.json is malformed.',
    fix: 'Save the adapter again with PEFT.',
  },
  ADAPTER_UNSUPPORTED: {
    status: 400,
    meaning: 'The adapter uses a feature that cannot be served exactly.',
    fix: 'Retrain without the named feature.',
  },
  ADAPTER_TENSOR_UNKNOWN: {
    status: 400,
    meaning: 'A tensor belongs to no module of the backbone that can carry LoRA.',
    fix: 'Remove the tensor, or upload against the backbone that the adapter was trained on.',
  },
  ADAPTER_TENSOR_DUPLICATE: {
    status: 400,
    meaning: 'Two tensors name the same matrix.',
    fix: 'Keep one of them.',
  },
  ADAPTER_TENSOR_UNPAIRED: {
    status: 400,
    meaning: 'A module has A without B, or B without A.',
    fix: 'Save both matrices of every module.',
  },
  ADAPTER_SHAPE: {
    status: 400,
    meaning: 'A tensor does not fit the backbone or its rank.',
    fix: 'Upload against the backbone that the adapter was trained on.',
  },
  ADAPTER_RANK: {
    status: 400,
    meaning: 'The rank is out of range or contradicts the configuration.',
    fix: 'Use a rank within the configured maximum.',
  },
  ADAPTER_NOT_FINITE: {
    status: 400,
    meaning: 'A tensor contains NaN or Inf.',
    fix: 'Train again with a stable learning rate; do not export diverged weights.',
  },
  ADAPTER_NO_EFFECT: {
    status: 400,
    meaning: 'The adapter changes nothing.',
    fix: 'Upload a trained adapter: all of its B matrices are zero, or it does not change the logits.',
  },
  ADAPTER_BREAKS_OUTPUT: {
    status: 400,
    meaning: 'With this adapter the backbone gives logits that are not finite.',
    fix: 'Lower lora_alpha or retrain: the update overflows.',
  },
  ADAPTER_DUPLICATE: {
    status: 409,
    meaning: 'The adapter has a version with these weights already.',
    fix: 'Use the version that is named.',
  },
  ADAPTER_NOT_READY: {
    status: 409,
    meaning: 'The adapter version is not ready to serve.',
    fix: 'Wait until its state is READY, or read its rejection.',
  },
  ADAPTER_NOT_FOUND: {
    status: 404,
    meaning: 'No such adapter is visible to the caller.',
    fix: 'Check the name or id.',
  },
  ADAPTER_LOAD_FAILED: {
    status: 500,
    meaning: 'The stored adapter could not be loaded or no longer matches its digest.',
    fix: 'Upload it again; tell the operator.',
  },
  BLEND_INVALID: {
    status: 400,
    meaning: 'The blend is malformed.',
    fix: 'Use finite, non-zero weights within the bounds, and each adapter once.',
  },
  // Uploads
  UPLOAD_NOT_FOUND: {
    status: 404,
    meaning: 'No such upload, or its token is wrong or expired.',
    fix: 'Open a new upload.',
  },
  UPLOAD_STATE: {
    status: 409,
    meaning: 'The upload is not in a state that allows this.',
    fix: 'Read the upload state first.',
  },
  UPLOAD_INCOMPLETE: {
    status: 409,
    meaning: 'A file of the upload is not complete.',
    fix: 'Resume the file at its tus URL, then finalise again.',
  },
  UPLOAD_CHECKSUM: {
    status: 400,
    meaning: 'The bytes received do not match the checksum.',
    fix: 'Upload the file again.',
  },
  UPLOAD_LIMIT: {
    status: 429,
    meaning: 'The tenant has as many uploads open, or as many bytes declared in them, as it may.',
    fix: 'Finalise the uploads that are open and wait for their validation, or wait until they expire.',
  },
  // Inference
  PROMPT_EMPTY: { status: 400, meaning: 'The prompt has no tokens.', fix: 'Send a prompt or messages.' },
  PROMPT_TOO_LONG: {
    status: 400,
    meaning: 'Prompt plus max tokens exceed the context window.',
    fix: 'Shorten the prompt or lower maxTokens.',
  },
  SAMPLING_INVALID: {
    status: 400,
    meaning: 'A sampling parameter is out of range.',
    fix: 'Use a value within the documented range.',
  },
  TOKEN_OUT_OF_RANGE: {
    status: 400,
    meaning: 'A prompt token id is not in the vocabulary.',
    fix: 'Use ids from 0 to vocab_size - 1.',
  },
  CHAT_TEMPLATE: {
    status: 400,
    meaning: 'The messages could not be rendered by the chat template.',
    fix: 'Check roles and content, or send a raw prompt.',
  },
  ENGINE_FULL: {
    status: 429,
    meaning: 'The engine has no room for the request now.',
    fix: 'Retry after the given time.',
  },
  ENGINE_TOO_LARGE: {
    status: 400,
    meaning: 'The request can never fit in this engine.',
    fix: 'Shorten the prompt, lower maxTokens or use fewer adapters.',
  },
  ENGINE_FAILED: {
    status: 500,
    meaning: 'The engine failed while it ran the request.',
    fix: 'Retry: with the same idempotency key when nothing was metered, otherwise with a new one. Tell the operator if it persists.',
  },
  SLOW_CONSUMER: {
    status: 408,
    meaning: 'The client read too slowly and its buffer filled.',
    fix: 'Read faster; tokens delivered until then are metered.',
  },
  LEASE_LOST: {
    status: 503,
    meaning: 'This process lost the lease of the request; another one settled it.',
    fix: 'Query the request by its id for its outcome.',
  },
  SERVER_LOST: {
    status: 503,
    meaning:
      'The server that ran the request was lost; the request was settled from what may have been delivered.',
    fix: 'Retry: with the same idempotency key when nothing was metered, otherwise with a new one.',
  },
  // Events
  EVENTS_EXPIRED: {
    status: 410,
    meaning: 'Events behind the cursor may have been removed, because it is older than what is kept.',
    fix: 'Read the present state, then follow the events without a cursor.',
  },
  // Money
  BUDGET_EXCEEDED: {
    status: 402,
    meaning: 'The amount does not fit into what the account has available.',
    fix: 'Add funds, wait for running requests to end, or ask for less.',
  },
  LEDGER_CONFLICT: {
    status: 409,
    meaning: 'The key stands for another transfer, or the hold was resolved otherwise before.',
    fix: 'Repeat the first amounts to learn of them, or use a new key for a new transfer.',
  },
  LEDGER_INVALID: {
    status: 400,
    meaning: 'The ledger refuses the transfer: it is out of balance, out of range, or does not fit its hold.',
    fix: 'Let the lines sum to zero, name accounts of one asset, and capture no more than is held.',
  },
  PRICE_MISSING: {
    status: 409,
    meaning: 'No price is in effect for the request, and what has no price is refused rather than free.',
    fix: 'Ask the operator to set a price for the backbone; a price of zero is one.',
  },
  PRICE_CONFLICT: {
    status: 409,
    meaning: 'Another version of the price or royalty begins at the same time.',
    fix: 'Choose another time; versions are added and never replaced.',
  },
  SPLIT_STATE: {
    status: 409,
    meaning: 'The split cannot be proposed or decided like this now.',
    fix: 'Read the proposals and splits of the adapter, and propose again.',
  },
  PERIOD_OPEN: {
    status: 409,
    meaning: 'The period is not over, or requests of it are not settled.',
    fix: 'Wait, and close it again.',
  },
  RECONCILIATION_FAILED: {
    status: 409,
    meaning:
      'What the engine counted, usage records, charges, the ledger, invoices and payouts of the period do not agree.',
    fix: 'Run `patchbay reconcile` for the period, and find out of each difference which side is wrong; nothing was closed or approved.',
  },
  INVOICE_STATE: {
    status: 409,
    meaning: 'The invoice does not stand where this needs it, or the period has one already.',
    fix: 'Read the invoice. A final one never changes; correct it by a credit note, or take it back and close the month again.',
  },
  CREDIT_EXCEEDED: {
    status: 409,
    meaning: 'Credit notes would give back more than was charged.',
    fix: 'Give back no more than what is left.',
  },
  TERMS_CONFLICT: {
    status: 409,
    meaning: 'Terms of billing begin at that time already, or would change a closed period.',
    fix: 'Let them begin later. Where a bill is wrong, take it back first; then the terms of its month can be set anew.',
  },
  PAYOUT_STATE: {
    status: 409,
    meaning:
      'The payout or batch is not in a state that allows this, or a result contradicts what is known of it.',
    fix: 'Read the payout or batch first.',
  },
  PAYOUT_NOTHING_DUE: {
    status: 409,
    meaning:
      'No beneficiary has enough past the holdback window, free of other payouts, and a destination in effect.',
    fix: 'Wait for the holdback window, or ask the beneficiaries for their destinations.',
  },
  PAYOUT_FILE: {
    status: 400,
    meaning:
      'The file of results is malformed, its control totals are wrong, or it names payments or amounts that are not ours.',
    fix: 'Correct the line that is named, or ask the bank for another file, and import the whole file again.',
  },
  PAYOUT_SECOND_PERSON: {
    status: 409,
    meaning:
      'That a payment of a large batch was not made, or came back, is said by two people. The first has said it now, and nothing has changed yet.',
    fix: 'Let another operator import the same file, or say the same of the payout.',
  },
  PAYOUT_RAIL: {
    status: 502,
    meaning: 'The rail did not say that it has taken the batch; it may have.',
    fix: 'Submit the batch again: a batch that was taken before is recognised and not paid twice.',
  },
  PAYOUT_FUNDED: {
    status: 409,
    meaning: 'The distributor on the chain holds everything that its last tree owes; nothing is missing.',
    fix: 'Nothing needs to be done. Name an amount to pay in more.',
  },
  PAYOUT_FUNDING_OPEN: {
    status: 409,
    meaning: 'An amount is being paid in on the chain, and is not final.',
    fix: 'Wait for it: the same call with its key says how far it has come.',
  },
  PAYOUT_TOKENS_MISSING: {
    status: 402,
    meaning: 'The publishing account holds fewer tokens than are to be paid in.',
    fix: 'Send tokens to the account that is named, or pay in from another wallet, by `fund` or by a plain transfer.',
  },
  CLAIM_NOTHING: {
    status: 409,
    meaning: 'The account was paid everything that the claim says.',
    fix: 'Wait for the next payout, and fetch a new claim then.',
  },
  CLAIM_OUT_OF_DATE: {
    status: 409,
    meaning: 'The claim belongs to a tree that another has replaced, or that is not published yet.',
    fix: 'Fetch the claim again. Nothing is lost: what was not claimed is in every later tree.',
  },
  CLAIM_PAUSED: {
    status: 409,
    meaning: 'Claims on the distributor are paused.',
    fix: 'Try again when they go on; ask the operator why they are paused.',
  },
  CLAIM_UNDERFUNDED: {
    status: 409,
    meaning: 'The distributor holds less than the claim pays. A claim is paid whole or not at all.',
    fix: 'Try again later; ask the operator to pay in.',
  },
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
    meaning: 'A block that counted as final was replaced, or the node is on another chain than before.',
    fix: 'Check the node. If the chain itself went back, raise the depth that counts as final, and reconcile by hand.',
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
    fix: 'Wait for the other program that uses the account, or let it send the missing transaction again.',
  },
  CHAIN_FEES_HIGH: {
    status: 503,
    meaning: 'Gas costs more than the ceiling that was set.',
    fix: 'Wait, or raise PATCHBAY_CHAIN_MAX_FEE_GWEI.',
  },
  CHAIN_NODE_BEHIND: {
    status: 503,
    meaning: 'The node has fewer blocks than were seen before.',
    fix: 'Wait until it has caught up, or use another node.',
  },
  CHAIN_ANCHOR_DIFFERS: {
    status: 409,
    meaning:
      'An epoch is anchored on the chain with other values than the database has: the log was forked, the database was restored and has gone on in another way, or two deployments share a contract. Nothing more is anchored there.',
    fix: 'Find out which of the two is right; what is anchored cannot be changed. To go on with this log, deploy another AttributionAnchor and set PATCHBAY_CHAIN_ANCHOR.',
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
  // Exports
  EXPORT_LIMIT: {
    status: 429,
    meaning: 'As many exports of the tenant run or are kept as may be.',
    fix: 'Wait until one is ready, or delete one that is loaded already.',
  },
  EXPORT_NOT_FOUND: {
    status: 404,
    meaning: 'No such file of an export, or its address is wrong or has run out.',
    fix: 'Query the export again for a new address; when it has expired, create it again.',
  },
  EXPORT_UNSETTLED: {
    status: 503,
    meaning: 'Rows were added to the range of an export while it was read.',
    fix: 'Try again; end the range earlier if it persists, and tell the operator.',
  },
  // Proofs
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
    meaning:
      'The epoch that is to be audited is not among the documents, or is not signed by a key that counts.',
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
  // Database and processes
  DATABASE_UNAVAILABLE: {
    status: 503,
    meaning: 'The database does not answer.',
    fix: 'Check DATABASE_URL and that Postgres runs.',
  },
  DATABASE_MIGRATION: {
    status: 500,
    meaning: 'The database schema does not match the program.',
    fix: 'Run the version of the program that matches, or restore the migration that is named.',
  },
  DATA_FOLDER_LOCKED: {
    status: 500,
    meaning: 'Another process runs an embedded database on this data folder.',
    fix: 'Stop the other process, choose another PATCHBAY_DATA_DIR, or share one DATABASE_URL.',
  },
  SERVER_UNREACHABLE: {
    status: 503,
    meaning: 'No Patchbay server answers at the URL.',
    fix: 'Start the server (`npm start`), or name another with --url or PATCHBAY_URL.',
  },
  PORT_IN_USE: { status: 500, meaning: 'The port is taken.', fix: 'Set PATCHBAY_PORT to a free port.' },
} as const satisfies Record<string, CodeEntry>;

/** A code of the registry. */
export type ErrorCode = keyof typeof ERROR_CODES;

/** Whether something that came from elsewhere is a code of the registry. */
export function isErrorCode(value: unknown): value is ErrorCode {
  return typeof value === 'string' && Object.hasOwn(ERROR_CODES, value);
}
