import { memoryText, showBytes } from '../../kernel/memory.ts';
import { EXIT } from '../exit-codes.ts';
import type { CliIo } from '../io.ts';
import { loadDescribeMemory } from '../parts.ts';
import { table } from '../table.ts';

/** Prints the effective configuration, with secrets masked, and how a start would divide the memory. */
export async function showConfig(io: CliIo, flags: { readonly json: boolean }): Promise<number> {
  const { config, effective, warnings } = io.loadConfig();
  const memory = await (await loadDescribeMemory())(config);
  if (flags.json) {
    const settings = effective.map(({ doc: _doc, ...rest }) => rest);
    io.out(`${JSON.stringify({ settings, memory, warnings }, null, 2)}\n`);
    return EXIT.ok;
  }
  const rows = effective.map(({ variable, value, source }) => [
    variable,
    value ?? '(not set)',
    source === 'environment' ? 'environment' : 'default',
  ]);
  io.out(table(['VARIABLE', 'VALUE', 'SOURCE'], rows));
  const parts = memory.parts.length > 0 ? memoryText(memory) : 'divided once the backbone is imported';
  io.out(`\nMemory: ${showBytes(memory.totalBytes)} at most: ${parts}\n`);
  for (const warning of warnings) io.err(`Warning: ${warning}\n`);
  return EXIT.ok;
}
