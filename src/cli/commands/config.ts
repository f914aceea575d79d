import { EXIT } from '../exit-codes.ts';
import type { CliIo } from '../io.ts';
import { table } from '../table.ts';

/** Prints the effective configuration, with secrets masked. */
export async function showConfig(io: CliIo, flags: { readonly json: boolean }): Promise<number> {
  const { effective, warnings } = io.loadConfig();
  if (flags.json) {
    const settings = effective.map(({ doc: _doc, ...rest }) => rest);
    io.out(`${JSON.stringify({ settings, warnings }, null, 2)}\n`);
    return EXIT.ok;
  }
  const rows = effective.map(({ variable, value, source }) => [
    variable,
    value ?? '(not set)',
    source === 'environment' ? 'environment' : 'default',
  ]);
  io.out(table(['VARIABLE', 'VALUE', 'SOURCE'], rows));
  for (const warning of warnings) io.err(`Warning: ${warning}\n`);
  return EXIT.ok;
}
