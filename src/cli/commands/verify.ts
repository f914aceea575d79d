import { PatchbayError } from '../../kernel/errors.ts';
import { InputError } from '../../verifier/input/errors.ts';
import { readAddress, readFileBytes, readHead, readKeyList, readReceipt } from '../../verifier/input/read.ts';
import { isVerified, reportDocument, reportText } from '../../verifier/report.ts';
import type { Step } from '../../verifier/step.ts';
import { type Evidence, verify } from '../../verifier/verify.ts';
import { EXIT } from '../exit-codes.ts';
import type { CliIo } from '../io.ts';

/** What the command line says. */
export interface VerifyFlags {
  readonly keys?: string;
  readonly trust: readonly string[];
  readonly head: readonly string[];
  readonly json: boolean;
}

/** Verifies a receipt with nothing but files: no database, no configuration, no server. */
export async function verifyCommand(io: CliIo, path: string, flags: VerifyFlags): Promise<number> {
  const steps = await usable(async () => verify(await readEvidence(path, flags)));
  return report(io, steps, flags.json);
}

/** Prints the steps; the exit code says whether anything is false. */
export function report(io: CliIo, steps: readonly Step[], json: boolean): number {
  io.out(json ? `${JSON.stringify(reportDocument(steps))}\n` : reportText(steps));
  return isVerified(steps) ? EXIT.ok : EXIT.failed;
}

export async function readEvidence(path: string, flags: VerifyFlags): Promise<Evidence> {
  const pinned = flags.trust.map(readAddress);
  const receipt = readReceipt(await readFileBytes(path));
  const keys = flags.keys === undefined ? null : readKeyList(await readFileBytes(flags.keys));
  const heads: Evidence['heads'][number][] = [];
  for (const head of flags.head) heads.push(readHead(await readFileBytes(head)));
  return { receipt, keys, pinned, heads };
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
