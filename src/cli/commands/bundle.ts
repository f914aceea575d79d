import { readFile } from 'node:fs/promises';
import { PatchbayError } from '../../kernel/errors.ts';
import { collect } from '../bundle/collect.ts';
import { Workspace } from '../bundle/workspace.ts';
import { resolveConnection } from '../connection.ts';
import { EXIT } from '../exit-codes.ts';
import { type CliIo, interruptible, progressFor } from '../io.ts';

/** What the command line says. */
export interface BundleFlags {
  readonly out: string;
  readonly adapterVersion: readonly string[];
  readonly epoch?: bigint;
  readonly head?: string;
  readonly url?: string;
  readonly key?: string;
  readonly json: boolean;
}

/** Collects what a caller may see of receipts, epochs and claims into one file that needs no server any more. */
export async function bundleCommand(io: CliIo, flags: BundleFlags): Promise<number> {
  const head = flags.head === undefined ? null : await readHeadFile(flags.head);
  const connection = await resolveConnection(io.loadConfig().config, flags);
  const { adapterVersion, epoch = null } = flags;
  const task = JSON.stringify([connection.url, adapterVersion, epoch === null ? null : String(epoch), head]);
  const work = await Workspace.open(flags.out, task);
  return interruptible(io, async (signal) => {
    try {
      const notes = await collect(work, {
        ...{ connection, adapterVersions: adapterVersion, epoch, head, signal },
        progress: progressFor(io, flags.json),
      });
      const documents = await work.finish();
      if (flags.json) io.out(`${JSON.stringify({ file: flags.out, documents, notes })}\n`);
      else io.out(`${notes.map((note) => `– ${note}\n`).join('')}${flags.out}: ${documents} documents\n`);
      return EXIT.ok;
    } catch (error) {
      if (!signal.aborted) throw error;
      if (!flags.json) io.err('Interrupted; the same command goes on.\n');
      return EXIT.interrupted;
    }
  });
}

async function readHeadFile(path: string): Promise<string> {
  let text: string;
  try {
    text = await readFile(path, 'utf8');
    JSON.parse(text);
  } catch (cause) {
    throw new PatchbayError('FILE_MISSING', `${path} cannot be read as a head.`, { field: 'head', cause });
  }
  return text;
}
