// A bundle as a folder of documents that can be changed.
import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { openPromise } from 'yauzl';

/**
 * Unpacks a bundle and gives its documents by the names of their files.
 * @param {string} file
 * @param {string} folder
 */
export async function unpack(file, folder) {
  await rm(folder, { recursive: true, force: true });
  await mkdir(folder, { recursive: true });
  const zip = await openPromise(file);
  const documents = new Map();
  let count = 0;
  for await (const entry of zip.eachEntry()) {
    if (entry.fileName.endsWith('/')) continue;
    const text = (await buffer(await zip.openReadStreamPromise(entry))).toString('utf8');
    const name = `${count}.json`;
    count += 1;
    await writeFile(join(folder, name), text);
    documents.set(name, JSON.parse(text));
  }
  return documents;
}

/** Names and contents of a folder's documents of one format. */
export async function documentsOf(folder, format) {
  const names = (await readdir(folder)).sort();
  const all = await Promise.all(
    names.map(async (name) => [name, JSON.parse(await readFile(join(folder, name), 'utf8'))]),
  );
  return all.filter(([, document]) => document.format === format);
}
