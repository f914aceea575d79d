import { PatchbayError } from '../kernel/errors.ts';
import type { Files } from '../verifier/files.ts';
import { InputError } from '../verifier/input/errors.ts';
import { UsageError } from './io.ts';

/** What `verify` and `audit` both take from the command line. */
export interface EvidenceFlags {
  readonly keys?: string;
  readonly trust: readonly string[];
  readonly head: readonly string[];
  readonly rpc?: string;
  readonly confirmations?: number;
  readonly anchor?: string;
  readonly distributor?: string;
}

/** The files and the chain that flags name. */
export function filesOf(path: string, flags: EvidenceFlags): Files {
  const { rpc, confirmations, anchor, distributor } = flags;
  if (rpc === undefined && (confirmations ?? anchor ?? distributor) !== undefined) {
    throw new UsageError(
      '--confirmations, --anchor and --distributor say how a chain is asked, but none is named.',
      'Name a node with --rpc, or leave them out.',
    );
  }
  return {
    path,
    keys: flags.keys ?? null,
    trust: flags.trust,
    heads: flags.head,
    chain:
      rpc === undefined
        ? null
        : { url: rpc, confirmations: confirmations === undefined ? null : BigInt(confirmations) },
    anchor: anchor ?? null,
    distributor: distributor ?? null,
  };
}

/** The verifier knows nothing of the rest of the program, its errors included; here they become errors as elsewhere. */
export async function usable<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (!(error instanceof InputError)) throw error;
    throw new PatchbayError(error.code, error.message, { fix: error.fix });
  }
}
