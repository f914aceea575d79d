import { type ChildProcess, spawn } from 'node:child_process';
import { createRequire } from 'node:module';
import { createInterface } from 'node:readline';
import { PatchbayError } from '../../kernel/errors.ts';

/** A chain of this machine's own, as a process of its own. */
export interface LocalNode {
  /** Its JSON-RPC. */
  readonly url: string;
  /** Of the process that ends when it has ended. */
  readonly pid: number;
  /** Resolves when it has ended, whoever ended it. */
  readonly ended: Promise<void>;
  /** Ends it, and waits until it has written its state down. */
  stop(): Promise<void>;
}

/** What anvil is told. */
export interface AnvilOptions {
  readonly chainId: bigint;
  /** 0 for any that is free. */
  readonly port: number;
  /** Further flags. */
  readonly flags?: readonly string[];
  /** A file that is removed when it has ended in order, and so has written its state. */
  readonly runningFile?: string;
}

/**
 * Ends anvil when the pipe from this process breaks, which also that of a killed one does. Ended so, it writes its state. It
 * outlives anvil also where every process is told to end at once.
 */
const SUPERVISOR = `
running=$1
shift
trap : TERM
exec 3<&0
"$@" </dev/null 3<&- &
chain=$!
( read -r _ <&3; kill "$chain" ) >/dev/null 2>&1 &
watcher=$!
exec 3<&-
while wait "$chain"; status=$?; kill -0 "$chain" 2>/dev/null; do :; done
kill "$watcher" 2>/dev/null
if [ "$status" -eq 0 ] && [ -n "$running" ]; then rm -f "$running"; fi
exit "$status"
`;

/**
 * Starts anvil on this machine's own address.
 * @throws PatchbayError CHAIN_LOCAL_MISSING where it is not installed, CHAIN_LOCAL_FAILED when it does not start.
 */
export async function startAnvil({
  chainId,
  port,
  flags = [],
  runningFile = '',
}: AnvilOptions): Promise<LocalNode> {
  const own = [
    '--host',
    '127.0.0.1',
    '--port',
    String(port),
    '--chain-id',
    String(chainId),
    '--color',
    'never',
  ];
  const child = spawn('/bin/sh', ['-c', SUPERVISOR, 'sh', runningFile, anvilBinary(), ...own, ...flags], {
    stdio: ['pipe', 'pipe', 'pipe'],
    // Of a group of its own, so that Ctrl-C ends it through the pipe, when everything that uses it has ended.
    detached: true,
  });
  const ended = new Promise<void>((resolve) => child.once('exit', () => resolve()));
  const url = `http://127.0.0.1:${await listeningPort(child)}`;
  const stop = async (): Promise<void> => {
    child.stdin.end();
    await ended;
  };
  return { url, pid: child.pid ?? 0, ended, stop };
}

/** The binary of this platform's package, without the script around it, which would be a process between us and it. */
function anvilBinary(): string {
  const require = createRequire(import.meta.url);
  const architecture = process.arch === 'x64' ? 'amd64' : process.arch;
  try {
    const fromAnvil = createRequire(require.resolve('@foundry-rs/anvil/package.json'));
    return fromAnvil.resolve(`@foundry-rs/anvil-${process.platform}-${architecture}/bin/anvil`);
  } catch (cause) {
    throw new PatchbayError('CHAIN_LOCAL_MISSING', 'Anvil, which a local chain needs, is not installed.', {
      cause,
    });
  }
}

async function listeningPort(child: ChildProcess): Promise<number> {
  if (child.stdout === null || child.stderr === null) throw new Error('Anvil is read through pipes.');
  let complaint = '';
  child.stderr.on('data', (text) => {
    complaint += String(text);
  });
  const lines = createInterface({ input: child.stdout });
  const port = await new Promise<number | null>((resolve) => {
    lines.on('line', (line) => {
      const found = /^Listening on 127\.0\.0\.1:(\d+)/.exec(line)?.[1];
      if (found !== undefined) resolve(Number(found));
    });
    lines.once('close', () => resolve(null));
  });
  if (port === null) {
    throw new PatchbayError(
      'CHAIN_LOCAL_FAILED',
      `Anvil did not start: ${complaint.trim() || 'it said nothing'}`,
    );
  }
  // What it says afterwards is still read, or its pipe would fill and stop it.
  return port;
}
