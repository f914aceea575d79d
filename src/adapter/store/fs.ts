import { createHash, randomUUID } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { type FileHandle, mkdir, open, readdir, rename, rm, rmdir, stat, unlink } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { PatchbayError } from '../../kernel/errors.ts';
import { requireKey, requirePrefix } from './keys.ts';
import type { BlobStat, BlobStore, PutRules } from './port.ts';

// Keys cannot begin with a dot, so unfinished files are never among them.
const TEMP_FOLDER = '.incoming';
const STALE_TEMP_MS = 24 * 60 * 60 * 1000;

/** The local-disk driver: a file per blob below a folder that belongs to it alone. */
export class FsBlobStore implements BlobStore {
  readonly #root: string;
  readonly #randomName: () => string;

  constructor(
    options: { readonly root: string },
    dependencies: { readonly randomName: () => string } = { randomName: randomUUID },
  ) {
    this.#root = options.root;
    this.#randomName = dependencies.randomName;
  }

  async put(key: string, content: AsyncIterable<Uint8Array>, rules: PutRules): Promise<BlobStat> {
    const path = this.#path(key);
    const temp = join(this.#root, TEMP_FOLDER, this.#randomName());
    await mkdir(dirname(temp), { recursive: true });
    try {
      const bytes = await writeChecked(temp, content, rules);
      await moveInto(temp, path);
      return { key, bytes };
    } catch (error) {
      await rm(temp, { force: true });
      throw error;
    }
  }

  async *get(
    key: string,
    range?: { readonly start: number; readonly length: number },
  ): AsyncIterable<Uint8Array> {
    const path = this.#path(key);
    const found = await this.stat(key);
    if (found === null) throw missing(key);
    const { start, length } = range ?? { start: 0, length: found.bytes };
    if (start < 0 || length < 0 || start + length > found.bytes) {
      throw new RangeError(`range ${start}+${length} is outside of a blob of ${found.bytes} bytes`);
    }
    if (length === 0) return;
    try {
      for await (const chunk of createReadStream(path, {
        start,
        end: start + length - 1,
        highWaterMark: 1 << 20,
      })) {
        if (chunk instanceof Uint8Array) yield chunk;
      }
    } catch (error) {
      throw isErrno(error, 'ENOENT') ? missing(key) : error;
    }
  }

  async stat(key: string): Promise<BlobStat | null> {
    try {
      const found = await stat(this.#path(key));
      return found.isFile() ? { key, bytes: found.size } : null;
    } catch (error) {
      if (isErrno(error, 'ENOENT') || isErrno(error, 'ENOTDIR')) return null;
      throw error;
    }
  }

  async delete(key: string): Promise<boolean> {
    const path = this.#path(key);
    if ((await this.stat(key)) === null) return false;
    try {
      await unlink(path);
    } catch (error) {
      if (isErrno(error, 'ENOENT')) return false;
      throw error;
    }
    await syncFolder(dirname(path));
    await this.#removeEmpty(dirname(path));
    return true;
  }

  async *list(prefix: string): AsyncIterable<BlobStat> {
    requirePrefix(prefix);
    yield* this.#walk(prefix);
  }

  /** Removes unfinished files that a killed process left behind; returns how many. */
  async sweep(nowMs: number): Promise<number> {
    const folder = join(this.#root, TEMP_FOLDER);
    let removed = 0;
    for (const name of await entries(folder)) {
      const path = join(folder, name.name);
      const found = await stat(path).catch(() => null);
      if (found === null || nowMs - found.mtimeMs < STALE_TEMP_MS) continue;
      await rm(path, { force: true });
      removed++;
    }
    return removed;
  }

  #path(key: string): string {
    requireKey(key);
    return join(this.#root, key);
  }

  async *#walk(prefix: string): AsyncIterable<BlobStat> {
    // By whole keys: "a-b" sorts before "a/b", so a folder is compared with its slash.
    const found = (await entries(join(this.#root, prefix)))
      .filter((entry) => !entry.name.startsWith('.'))
      .map((entry) => ({
        folder: entry.isDirectory(),
        name: entry.isDirectory() ? `${entry.name}/` : entry.name,
      }))
      .sort((x, y) => (x.name < y.name ? -1 : 1));
    for (const { folder, name } of found) {
      if (folder) {
        yield* this.#walk(prefix + name);
        continue;
      }
      const blob = await this.stat(prefix + name);
      if (blob !== null) yield blob;
    }
  }

  async #removeEmpty(folder: string): Promise<void> {
    for (let at = folder; at.length > this.#root.length; at = dirname(at)) {
      try {
        await rmdir(at);
      } catch {
        return;
      }
    }
  }
}

async function writeChecked(
  path: string,
  content: AsyncIterable<Uint8Array>,
  rules: PutRules,
): Promise<number> {
  const hash = createHash('sha256');
  const file = await open(path, 'wx', 0o600);
  let bytes = 0;
  try {
    for await (const chunk of content) {
      bytes += chunk.byteLength;
      if (bytes > rules.maxBytes) {
        throw new PatchbayError('FILE_TOO_LARGE', `The content exceeds ${rules.maxBytes} bytes.`, {
          meta: { limitBytes: rules.maxBytes },
        });
      }
      hash.update(chunk);
      await writeFully(file, chunk);
    }
    if (hash.digest('hex') !== rules.sha256) {
      throw new PatchbayError('UPLOAD_CHECKSUM', 'The content does not match its SHA-256.');
    }
    await file.sync();
  } finally {
    await file.close();
  }
  return bytes;
}

async function writeFully(file: FileHandle, chunk: Uint8Array): Promise<void> {
  for (let done = 0; done < chunk.byteLength; ) {
    done += (await file.write(chunk, done)).bytesWritten;
  }
}

async function moveInto(temp: string, path: string): Promise<void> {
  for (let attempt = 0; ; attempt++) {
    await mkdir(dirname(path), { recursive: true });
    try {
      await rename(temp, path);
      break;
    } catch (error) {
      // A concurrent delete may have removed the folder as empty in between.
      if (!isErrno(error, 'ENOENT') || attempt >= 10) throw error;
    }
  }
  await syncFolder(dirname(path));
}

/** Makes a rename or removal in the folder survive a power cut. */
async function syncFolder(path: string): Promise<void> {
  try {
    const folder = await open(path, 'r');
    try {
      await folder.sync();
    } finally {
      await folder.close();
    }
  } catch (error) {
    if (!isErrno(error, 'ENOENT')) throw error;
  }
}

async function entries(folder: string) {
  try {
    return await readdir(folder, { withFileTypes: true });
  } catch (error) {
    if (isErrno(error, 'ENOENT') || isErrno(error, 'ENOTDIR')) return [];
    throw error;
  }
}

function isErrno(error: unknown, code: string): boolean {
  return error instanceof Error && 'code' in error && error.code === code;
}

function missing(key: string): PatchbayError {
  return new PatchbayError('NOT_FOUND', `There is no blob ${key}.`);
}
