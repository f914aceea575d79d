import type { Section } from '../../verifier/bundle/sections.ts';
import { type Files, singleReceipt, verifyFiles } from '../../verifier/files.ts';
import {
  count,
  emptyTally,
  isVerified,
  reportDocument,
  reportText,
  sectionText,
  verdictText,
} from '../../verifier/report.ts';
import type { Step } from '../../verifier/step.ts';
import { type Evidence, verify } from '../../verifier/verify.ts';
import { EXIT } from '../exit-codes.ts';
import type { CliIo } from '../io.ts';
import { type EvidenceFlags, filesOf, usable } from '../verifier-input.ts';

/** What the command line says. */
export interface VerifyFlags extends EvidenceFlags {
  readonly verbose: boolean;
  readonly json: boolean;
}

/** Verifies a receipt or a bundle with nothing but files and, if one is named, a chain: no database, no configuration, no server. */
export async function verifyCommand(io: CliIo, path: string, flags: VerifyFlags): Promise<number> {
  const files = filesOf(path, flags);
  return usable(async () => {
    const evidence = await singleReceipt(files);
    return evidence === null ? verifyBundle(io, files, flags) : verifySingle(io, evidence, flags);
  });
}

function verifySingle(io: CliIo, evidence: Evidence, { json }: VerifyFlags): number {
  return report(io, verify(evidence), json);
}

/** Prints the steps of a receipt; the exit code says whether anything is false. */
export function report(io: CliIo, steps: readonly Step[], json: boolean): number {
  io.out(json ? `${JSON.stringify(reportDocument(steps))}\n` : reportText(steps));
  return isVerified(steps) ? EXIT.ok : EXIT.failed;
}

async function verifyBundle(io: CliIo, files: Files, { json, verbose }: VerifyFlags): Promise<number> {
  const tally = emptyTally();
  const steps: (Step & Pick<Section, 'document'>)[] = [];
  await verifyFiles(files, (section) => {
    count(tally, section);
    if (!json) io.out(sectionText(section, verbose));
    else for (const step of section.steps) steps.push({ document: section.document, ...step });
  });
  io.out(json ? `${JSON.stringify(reportDocument(steps))}\n` : verdictText(tally));
  return tally.false === 0 ? EXIT.ok : EXIT.failed;
}
