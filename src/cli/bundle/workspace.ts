import { createReadStream, createWriteStream } from 'node:fs';
import { mkdir, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { ZipFile } from 'yazl';
import { z } from 'zod';
import { PatchbayError } from '../../kernel/errors.ts';

const size = z.string().regex(/^[0-9]{1,20}$/);
const progress = z.strictObject({
  /** What is collected; another collection does not go on with this one. */
  task: z.string(),
  /** For each source of receipts: how many there are, and where the next ones begin; null when all are there. */
  receipts: z.record(z.string(), z.strictObject({ count: z.number().int(), after: z.string().nullable() })),
  /** Sizes of the heads that the receipts were handed out with. */
  heads: z.array(size),
  /** The last epoch that the bundle has, settled before its receipts are collected; null until then. */
  lastEpoch: size.nullable(),
});
type Progress = z.infer<typeof progress>;

/** Makes every bundle of the same documents the same file. */
const EPOCH_OF_ZIP = new Date('1980-01-01T00:00:00Z');

/** A folder in which a bundle grows, so that neither memory nor an interruption limits what it can have. */
export class Workspace {
  readonly #folder: string;
  readonly #out: string;
  #progress: Progress;

  private constructor(out: string, folder: string, found: Progress) {
    this.#out = out;
    this.#folder = folder;
    this.#progress = found;
  }

  /** Begins a bundle, or goes on with the same one. */
  static async open(path: string, task: string): Promise<Workspace> {
    const out = resolve(path);
    const place = await stat(dirname(out)).catch(() => null);
    if (place?.isDirectory() !== true) {
      throw new PatchbayError('FILE_MISSING', `There is no folder ${dirname(out)} for the bundle.`, {
        field: 'out',
        fix: 'Make the folder, or name another.',
      });
    }
    if ((await stat(out).catch(() => null)) !== null) {
      throw new PatchbayError('BAD_INPUT', `${out} is there already.`, {
        field: 'out',
        fix: 'Name another file, or remove it.',
      });
    }
    const folder = `${out}.part`;
    await mkdir(join(folder, 'documents'), { recursive: true });
    const text = await readFile(join(folder, 'progress.json'), 'utf8').catch(() => null);
    const fresh: Progress = { task, receipts: {}, heads: [], lastEpoch: null };
    const found = text === null ? fresh : readProgress(text);
    if (found?.task === task) return new Workspace(out, folder, found);
    throw new PatchbayError('BAD_INPUT', `${folder} is the beginning of another bundle.`, {
      field: 'out',
      fix: 'Go on with the command that began it, name another file, or remove the folder.',
    });
  }

  receipts(source: string): { readonly count: number; readonly after: string | null } | undefined {
    return this.#progress.receipts[source];
  }

  /** The last epoch that the bundle is to have, once that is settled. */
  lastEpoch(): bigint | null {
    const { lastEpoch } = this.#progress;
    return lastEpoch === null ? null : BigInt(lastEpoch);
  }

  /** Settles which epoch is the last: a receipt of a later one may not be among those that are collected then. */
  async settle(lastEpoch: bigint): Promise<void> {
    await this.#keep({ ...this.#progress, lastEpoch: String(lastEpoch) });
  }

  heads(): readonly string[] {
    return this.#progress.heads;
  }

  /** Remembers that a page of receipts is there. */
  async note(
    source: string,
    at: { count: number; after: string | null },
    heads: readonly string[],
  ): Promise<void> {
    const { receipts, heads: known } = this.#progress;
    await this.#keep({
      ...this.#progress,
      receipts: { ...receipts, [source]: at },
      heads: [...new Set([...known, ...heads])],
    });
  }

  async #keep(progress: Progress): Promise<void> {
    this.#progress = progress;
    const file = join(this.#folder, 'progress.json');
    await writeFile(`${file}.new`, JSON.stringify(this.#progress));
    await rename(`${file}.new`, file);
  }

  async has(name: string): Promise<boolean> {
    return (await stat(join(this.#folder, 'documents', name)).catch(() => null)) !== null;
  }

  async read(name: string): Promise<string> {
    return readFile(join(this.#folder, 'documents', name), 'utf8');
  }

  /** Writes a document. Names are our own: nothing that a server says becomes part of one. */
  async write(name: string, document: string): Promise<void> {
    const file = join(this.#folder, 'documents', name);
    await mkdir(dirname(file), { recursive: true });
    await writeFile(`${file}.new`, document);
    await rename(`${file}.new`, file);
  }

  /** Packs everything, one file after the other, and puts the bundle where it is to be. Answers with the number of documents. */
  async finish(): Promise<number> {
    const root = join(this.#folder, 'documents');
    const names = (await readdir(root, { recursive: true, withFileTypes: true }))
      .filter((entry) => entry.isFile() && entry.name.endsWith('.json'))
      .map((entry) => join(entry.parentPath, entry.name).slice(root.length + 1))
      .sort();
    const zip = new ZipFile();
    for (const name of names) {
      zip.addReadStreamLazy(name, { mtime: EPOCH_OF_ZIP, mode: 0o100644 }, (give) =>
        give(null, createReadStream(join(root, name))),
      );
    }
    zip.end();
    const packed = join(this.#folder, 'bundle.zip');
    await pipeline(zip.outputStream, createWriteStream(packed));
    await rename(packed, this.#out);
    await rm(this.#folder, { recursive: true });
    return names.length;
  }
}

function readProgress(text: string): Progress | null {
  try {
    return progress.parse(JSON.parse(text));
  } catch {
    return null;
  }
}
