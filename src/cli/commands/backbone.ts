import { join } from 'node:path';
import { withProgress } from '../../observability/progress.ts';
import { EXIT } from '../exit-codes.ts';
import { type CliIo, progressFor } from '../io.ts';
import { byteProgress } from '../ports.ts';
import { shellWord } from '../shell.ts';
import { table } from '../table.ts';

/** Where a data folder keeps its imported backbones. */
function backboneRoot(dataDir: string): string {
  return join(dataDir, 'backbones');
}

/** Imports a checkpoint folder, unless it is imported already. */
export async function backboneImport(
  io: CliIo,
  dir: string,
  flags: { readonly bits: 32 | 8 | 4; readonly json: boolean },
): Promise<number> {
  const { config } = io.loadConfig();
  const { importOnce } = await import('../../backbone/imported.ts');
  const imported = await withProgress(progressFor(io, flags.json), `Importing ${dir}`, (step) =>
    importOnce({
      dir,
      root: backboneRoot(config.data.dir),
      bits: flags.bits,
      onProgress: byteProgress(step),
    }),
  );
  const { manifest } = imported;
  if (flags.json) io.out(`${JSON.stringify({ dir: imported.dir, manifest })}\n`);
  else {
    const bits = flags.bits === 32 ? '' : ` PATCHBAY_WEIGHT_BITS=${flags.bits}`;
    io.out(
      `${manifest.name}: ${manifest.shape.family}, ${millions(manifest.parameters)} parameters, ${manifest.bits} bits\n` +
        `digest  ${manifest.digest}\nfolder  ${imported.dir}\n\nServe it with: PATCHBAY_BACKBONE=${shellWord(dir)}${bits} npm start\n`,
    );
  }
  return EXIT.ok;
}

/** Lists what is imported in the data folder. */
export async function backboneList(io: CliIo, flags: { readonly json: boolean }): Promise<number> {
  const root = backboneRoot(io.loadConfig().config.data.dir);
  const { listImported } = await import('../../backbone/imported.ts');
  const manifests = (await listImported(root)).map(({ manifest }) => manifest);
  if (flags.json) {
    io.out(`${JSON.stringify({ backbones: manifests })}\n`);
    return EXIT.ok;
  }
  const rows = manifests.map((manifest) => [
    manifest.name,
    manifest.shape.family,
    millions(manifest.parameters),
    String(manifest.bits),
    manifest.digest.slice(0, 12),
  ]);
  io.out(
    rows.length === 0
      ? `No backbones in ${root}.\n`
      : table(['BACKBONE', 'FAMILY', 'PARAMETERS', 'BITS', 'DIGEST'], rows),
  );
  return EXIT.ok;
}

/** A parameter count for people. */
export function millions(count: number): string {
  return count >= 1e9 ? `${(count / 1e9).toFixed(2)} billion` : `${(count / 1e6).toFixed(2)} million`;
}
