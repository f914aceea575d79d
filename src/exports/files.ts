import { join } from 'node:path';
import type { Uuid } from '../kernel/ids.ts';
import { FORMAT_NAMES, type FormatName } from './format.ts';

/** Which writing of which export a file is. Each has files of its own, so that a writer who lost it harms no other. */
export interface ExportFile {
  readonly exportId: Uuid;
  /** Number of the claim under which it was written. */
  readonly claim: number;
  /** `part` while it is written. */
  readonly ending: FormatName | 'part';
}

const NAME = new RegExp(`^([0-9a-f-]{36})\\.(\\d{1,9})\\.(${[...FORMAT_NAMES, 'part'].join('|')})$`);

/** The path of a file in the folder of exports. */
export function exportPath(folder: string, { exportId, claim, ending }: ExportFile): string {
  return join(folder, `${exportId}.${claim}.${ending}`);
}

/** Takes a file's name apart; null for a file of somebody else. */
export function parseExportFile(name: string): ExportFile | null {
  const [, exportId, claim, ending] = NAME.exec(name) ?? [];
  const known = [...FORMAT_NAMES, 'part' as const].find((one) => one === ending);
  if (exportId === undefined || claim === undefined || known === undefined) return null;
  return { exportId, claim: Number(claim), ending: known };
}
