import type { Section } from '../../verifier/bundle/sections.ts';
import { verifyFiles } from '../../verifier/files.ts';
import { audit } from '../../verifier/findings/audit.ts';
import { readAddress } from '../../verifier/input/read.ts';
import { auditDocument, auditText, isVerified } from '../../verifier/report.ts';
import { EXIT } from '../exit-codes.ts';
import type { CliIo } from '../io.ts';
import { type EvidenceFlags, filesOf, usable } from '../verifier-input.ts';

/** What the command line says. */
export interface AuditFlags extends EvidenceFlags {
  readonly epoch: bigint;
  readonly account?: string;
  readonly json: boolean;
}

/** Looks for what an operator may have left out, changed, counted twice or paid wrongly, with nothing but what its caller holds. */
export async function auditCommand(io: CliIo, path: string, flags: AuditFlags): Promise<number> {
  const files = filesOf(path, flags);
  const found = await usable(async () => {
    const account = flags.account === undefined ? null : readAddress(flags.account);
    const wrong: Section[] = [];
    const examination = await verifyFiles(files, (section) => {
      if (!isVerified(section.steps)) wrong.push(section);
    });
    return audit(examination, wrong, { epoch: flags.epoch, account });
  });
  io.out(
    flags.json ? `${JSON.stringify(auditDocument(flags.epoch, found))}\n` : auditText(flags.epoch, found),
  );
  return found.findings.length === 0 ? EXIT.ok : EXIT.failed;
}
