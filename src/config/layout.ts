import type { Read } from './read.ts';
import { chainTable } from './table-chain.ts';
import { economicsTable } from './table-economics.ts';
import { exportTable } from './table-exports.ts';
import { invoiceTable } from './table-invoice.ts';
import { payoutTable } from './table-payout.ts';
import { processTable } from './table-process.ts';
import { proofsTable } from './table-proofs.ts';
import { quotaTable } from './table-quota.ts';
import { serviceTable } from './table-service.ts';

/**
 * The one table of the configuration: names, rules, defaults and documentation. The type `Config` follows from it,
 * and so do `patchbay config` and docs/reference/configuration.md.
 */
export function layout(read: Read) {
  return {
    ...processTable(read),
    ...serviceTable(read),
    ...quotaTable(read),
    ...invoiceTable(read),
    ...payoutTable(read),
    ...chainTable(read),
    ...economicsTable(read),
    ...exportTable(read),
    ...proofsTable(read),
  };
}
