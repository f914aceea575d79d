import type { CodeEntry } from './entry.ts';

/** Events, money, and exports. */
export const MONEY_CODES = {
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
} as const satisfies Readonly<Record<string, CodeEntry>>;
