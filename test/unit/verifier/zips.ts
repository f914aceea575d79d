import { buffer } from 'node:stream/consumers';
import { ZipFile } from 'yazl';

/** A ZIP file of files, each with its content and its mode; a name that ends with a slash is a folder. */
export async function zipped(
  files: readonly (readonly [name: string, content: string, mode?: number])[],
): Promise<Buffer> {
  const zip = new ZipFile();
  for (const [name, content, mode = 0o100644] of files) {
    if (name.endsWith('/')) zip.addEmptyDirectory(name);
    else zip.addBuffer(Buffer.from(content), name, { mtime: new Date(0), mode });
  }
  zip.end();
  return buffer(zip.outputStream);
}

/** Another text of the same length in every place that has the first: names stand in two. */
export function patched(zip: Uint8Array, from: string, to: string): Buffer {
  return Buffer.from(Buffer.from(zip).toString('latin1').replaceAll(from, to), 'latin1');
}
