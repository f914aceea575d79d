import type { CliIo } from '../../../src/cli/io.ts';
import { runCli } from '../../../src/cli/program.ts';
import { type Environment, loadConfig } from '../../../src/config/config.ts';

/** What a command left behind. */
export interface CliResult {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

/** Runs a command line in this process, with an environment of its own. */
export async function cli(argv: readonly string[], options: CliOptions = {}): Promise<CliResult> {
  let out = '';
  let err = '';
  const io: CliIo = {
    out: (text) => {
      out += text;
    },
    err: (text) => {
      err += text;
    },
    live: false,
    columns: 100,
    readStdin: async () => options.stdin ?? null,
    loadConfig: (overrides = {}) => loadConfig({ ...options.environment, ...overrides }),
    onInterrupt: (handler) => options.onInterrupt?.(handler) ?? (() => {}),
    nowMs: () => performance.now(),
  };
  const code = await runCli(argv, io);
  return { code, out, err };
}

export interface CliOptions {
  readonly environment?: Environment;
  readonly stdin?: string;
  readonly onInterrupt?: (handler: () => void) => () => void;
}
