import { PatchbayError } from '../../kernel/errors.ts';
import { EXIT } from '../exit-codes.ts';
import type { CliIo } from '../io.ts';
import { keyFilePath, readKeyFile } from '../key-file.ts';

/** Prints a key that the data folder keeps, alone on its line, so that a shell can take it in. */
export async function showKey(
  io: CliIo,
  which: 'demo' | 'operator',
  flags: { readonly json: boolean },
): Promise<number> {
  const { dir } = io.loadConfig().config.data;
  const found = (await readKeyFile(dir))[which]?.key;
  if (found === undefined) {
    throw new PatchbayError('NOT_FOUND', `${keyFilePath(dir)} holds no ${which} key.`, {
      fix: 'Start the server once (`npm start`), or name its data folder in PATCHBAY_DATA_DIR.',
    });
  }
  io.out(flags.json ? `${JSON.stringify({ [which]: found })}\n` : `${found}\n`);
  return EXIT.ok;
}
