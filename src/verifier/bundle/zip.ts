import { crc32 } from 'node:zlib';
import { type Entry, openPromise, type ZipFile } from 'yauzl';
import { InputError } from '../input/errors.ts';
import { MAX_FILE_BYTES, type NamedBytes } from '../input/read.ts';
import { shown } from '../shown.ts';
import { BundleLimits, refused } from './limits.ts';
import type { Bundle } from './source.ts';

const FOLDER_MODE = 0o040000;
const FILE_MODE = 0o100000;
const MODE_BITS = 0o170000;
/** In the upper half of the attributes of an entry, when it was packed on such a system. */
const UNIX = 3;

/**
 * Lists the documents of a ZIP file. Sizes are those that its directory states, which reading holds each file to: so a
 * bomb is refused before it is unpacked. Nothing is written anywhere, so that no name can lead out of a folder, and names that
 * try are refused all the same.
 */
export async function openZip(path: string): Promise<Bundle> {
  const name = shown(path);
  let zip: ZipFile;
  try {
    zip = await openPromise(path, { autoClose: false, strictFileNames: true, validateEntrySizes: true });
  } catch {
    throw damaged(name);
  }
  try {
    const entries = await listEntries(zip, name);
    return {
      files: entries.map((entry) => ({ name: shown(entry.fileName), read: () => readEntry(zip, entry) })),
      close: () => Promise.resolve(zip.close()),
    };
  } catch (error) {
    zip.close();
    throw error instanceof InputError ? error : damaged(name);
  }
}

async function listEntries(zip: ZipFile, name: string): Promise<readonly Entry[]> {
  const limits = new BundleLimits(name);
  const seen = new Set<string>();
  const entries: Entry[] = [];
  for await (const entry of zip.eachEntry()) {
    const file = shown(entry.fileName);
    // Two files of one name are two bundles in one, depending on who reads it.
    if (seen.has(entry.fileName)) throw refused(name, `has ${file} twice`);
    seen.add(entry.fileName);
    const isFolder = entry.fileName.endsWith('/');
    const mode = entry.versionMadeBy >>> 8 === UNIX ? (entry.externalFileAttributes >>> 16) & MODE_BITS : 0;
    if (mode !== 0 && mode !== (isFolder ? FOLDER_MODE : FILE_MODE)) {
      throw refused(name, `has ${file}, which is neither a file nor a folder`);
    }
    if (isFolder && entry.uncompressedSize === 0) continue;
    limits.add(entry.fileName, entry.uncompressedSize);
    if (!entry.canDecodeFileData())
      throw refused(name, `has ${file}, which is encrypted or packed in an unusual way`);
    entries.push(entry);
  }
  return entries;
}

async function readEntry(zip: ZipFile, entry: Entry): Promise<NamedBytes> {
  const name = shown(entry.fileName);
  const chunks: Buffer[] = [];
  let size = 0;
  try {
    const stream = await zip.openReadStreamPromise(entry);
    for await (const chunk of stream) {
      const bytes = Buffer.from(chunk);
      size += bytes.length;
      if (size > MAX_FILE_BYTES) throw damaged(name);
      chunks.push(bytes);
    }
  } catch (error) {
    throw error instanceof InputError ? error : damaged(name);
  }
  const bytes = Buffer.concat(chunks);
  if (crc32(bytes) !== entry.crc32) throw damaged(name);
  return { name, bytes };
}

function damaged(name: string): InputError {
  return new InputError(
    'PROOF_UNREADABLE',
    `${name} cannot be unpacked: the ZIP file is damaged, or is not one.`,
    'Get the bundle again, or unpack it with another program and give the folder.',
  );
}
