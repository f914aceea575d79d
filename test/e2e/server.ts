import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { z } from 'zod';
import { readKeyFile } from '../../src/cli/key-file.ts';
import { atFileEnd } from '../kit/file-end.ts';

const CLI = fileURLToPath(new URL('../../dist/cli.js', import.meta.url));

const reportSchema = z.looseObject({ graphqlUrl: z.string() });

/** A real server in a process of its own. */
export interface RunningServer {
  readonly graphqlUrl: string;
  readonly operatorKey: string;
  readonly demoKey: string;
  readonly process: ChildProcess;
  /** Ends it without any warning and waits until it is gone. */
  kill(): Promise<void>;
  /** Asks it to drain and returns its exit code. */
  stop(): Promise<number | null>;
}

/** Starts `patchbay serve` on a free port and waits until it says that it is ready. */
export async function startServer(options: {
  readonly dataDir: string;
  readonly env: Readonly<Record<string, string>>;
}): Promise<RunningServer> {
  const child = spawn(process.execPath, [CLI, 'serve', '--json'], {
    env: {
      PATH: process.env['PATH'],
      HOME: process.env['HOME'],
      PATCHBAY_PORT: '0',
      PATCHBAY_LOG_LEVEL: 'warn',
      PATCHBAY_DATA_DIR: options.dataDir,
      ...options.env,
    },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const gone = once(child, 'exit');
  // A test that fails leaves its servers running; they must not outlive its file. One that has ended is not signalled.
  atFileEnd(() => {
    child.kill('SIGKILL');
  });
  let stdout = '';
  let stderr = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr += text;
  });
  const ready = new Promise<string>((resolve) => {
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      stdout += text;
      const line = stdout.split('\n').find((candidate) => candidate.includes('"graphqlUrl"'));
      if (line !== undefined) resolve(line);
    });
  });
  const line = await Promise.race([ready, gone.then(() => null)]);
  if (line === null) throw new Error(`The server ended before it was ready.\n${stdout}\n${stderr}`);
  const { graphqlUrl } = reportSchema.parse(JSON.parse(line));
  const keys = await readKeyFile(options.dataDir);
  return {
    graphqlUrl,
    operatorKey: keys.operator?.key ?? '',
    demoKey: keys.demo?.key ?? '',
    process: child,
    async kill() {
      child.kill('SIGKILL');
      await gone;
    },
    async stop() {
      child.kill('SIGTERM');
      await gone;
      return child.exitCode;
    },
  };
}
