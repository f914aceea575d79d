import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { BundleLimits } from '../../../src/verifier/bundle/limits.ts';
import { type Bundle, openBundle } from '../../../src/verifier/bundle/source.ts';
import { InputError } from '../../../src/verifier/input/errors.ts';
import { patched, zipped } from './zips.ts';

const folder = mkdtempSync(join(tmpdir(), 'patchbay-bundles-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

let files = 0;
function file(bytes: Uint8Array): string {
  const path = join(folder, `${files++}.zip`);
  writeFileSync(path, bytes);
  return path;
}

/** Opens and reads everything: texts by name, or the code of a refusal. */
async function contentOf(path: string): Promise<readonly (readonly [string, string])[] | string> {
  let bundle: Bundle | null = null;
  try {
    bundle = await openBundle(path);
    const found: [string, string][] = [];
    for (const { name, read } of bundle.files)
      found.push([name, Buffer.from((await read()).bytes).toString()]);
    return found;
  } catch (error) {
    // Anything else than a typed refusal fails the test that asks.
    if (!(error instanceof InputError)) throw error;
    return error.code;
  } finally {
    await bundle?.close();
  }
}

const two = await zipped([
  ['a.json', '{"a": 1}'],
  ['b/c.json', '{"c": 2}'],
]);

test('documents in any folders are read, and nothing is said of the folders', async () => {
  expect(await contentOf(file(two))).toEqual([
    ['"a.json"', '{"a": 1}'],
    ['"b/c.json"', '{"c": 2}'],
  ]);
  const withFolder = await zipped([
    ['b/', ''],
    ['b/c.json', '{}'],
  ]);
  expect(await contentOf(file(withFolder))).toEqual([['"b/c.json"', '{}']]);
  expect(await contentOf(file(await zipped([])))).toEqual([]);
});

test('a folder is a bundle as well', async () => {
  const root = join(folder, 'bundle');
  mkdirSync(join(root, 'deep/er'), { recursive: true });
  writeFileSync(join(root, 'deep/er/b.json'), '2');
  writeFileSync(join(root, 'a.json'), '1');
  expect(await contentOf(root)).toEqual([
    ['"a.json"', '1'],
    ['"deep/er/b.json"', '2'],
  ]);
});

describe('refused', () => {
  test.each([
    ['a file that is no document', () => zipped([['a.txt', 'x']])],
    [
      'a name that ends otherwise',
      () => zipped([['.json', 'x']]).then((zip) => patched(zip, '.json', 'xjson')),
    ],
    ['a name that leads out', () => zipped([['aa/b.json', '1']]).then((zip) => patched(zip, 'aa/', '../'))],
    ['a name from the root', () => zipped([['a/b.json', '1']]).then((zip) => patched(zip, 'a/b', '/ab'))],
    ['a name with a backslash', () => zipped([['a/b.json', '1']]).then((zip) => patched(zip, 'a/b', 'a\\b'))],
    [
      'two files of one name',
      () =>
        zipped([
          ['a.json', '1'],
          ['b.json', '2'],
        ]).then((zip) => patched(zip, 'b.json', 'a.json')),
    ],
    ['a link', () => zipped([['a.json', '/etc/passwd', 0o120777]])],
    [
      'more than 8 MiB in one file, packed small',
      () => zipped([['a.json', ' '.repeat(8 * 1024 * 1024 + 1)]]),
    ],
    [
      'a file that unpacks to more than it says',
      () => zipped([['a.json', ' '.repeat(5_000)]]).then((zip) => resized(zip, 5_000, 10)),
    ],
    [
      'a file that unpacks to less than it says',
      () => zipped([['a.json', ' '.repeat(5_000)]]).then((zip) => resized(zip, 5_000, 6_000)),
    ],
    ['a checksum that is not that of the file', () => zipped([['a.json', '12345678']]).then(damagedChecksum)],
    ['an encrypted file', () => zipped([['a.json', '1']]).then(encrypted)],
    ['half of a file', async () => two.subarray(0, two.length / 2)],
    ['a file without its end', async () => two.subarray(0, two.length - 10)],
  ] satisfies [string, () => Promise<Uint8Array>][])('%s', async (_, make) => {
    expect(await contentOf(file(await make()))).toBe('PROOF_UNREADABLE');
  });

  test('what is neither a file nor a folder, or no document, in a folder', async () => {
    const [links, other] = [join(folder, 'links'), join(folder, 'other')];
    mkdirSync(links);
    symlinkSync('/etc/passwd', join(links, 'a.json'));
    expect(await contentOf(links)).toBe('PROOF_UNREADABLE');
    mkdirSync(other);
    writeFileSync(join(other, '.DS_Store'), '');
    expect(await contentOf(other)).toBe('PROOF_UNREADABLE');
  });

  test('a path that is not there', async () => {
    expect(await contentOf(join(folder, 'none'))).toBe('PROOF_UNREADABLE');
  });

  test('a long name is no other kind of file', () => {
    expect(() => new BundleLimits('x').add(`${'a'.repeat(200)}.json`, 1)).not.toThrow();
    expect(() => new BundleLimits('x').add(`${'a'.repeat(200)}.txt`, 1)).toThrow(/which is no \.json file/);
  });

  test('more files or bytes than a bundle may have, before any of them is read', () => {
    const many = new BundleLimits('x');
    for (let number = 0; number < 100_000; number++) many.add('a.json', 1);
    expect(() => many.add('a.json', 1)).toThrow(InputError);
    const large = new BundleLimits('x');
    for (let number = 0; number < 128; number++) large.add('a.json', 8 * 1024 * 1024);
    expect(() => large.add('a.json', 1)).toThrow(InputError);
  });
});

test('no change of any byte of a ZIP file ends in another way than with its documents or a refusal', async () => {
  for (let place = 0; place < two.length; place++) {
    const bytes = Buffer.from(two);
    bytes[place] = (bytes[place] ?? 0) ^ (1 << (place % 8));
    const found = await contentOf(file(bytes));
    expect(typeof found === 'string' || Array.isArray(found)).toBe(true);
    // What is read is what was packed, or nothing: the checksum sees to that.
    for (const [, text] of typeof found === 'string' ? [] : found) {
      expect(['{"a": 1}', '{"c": 2}', Buffer.from(bytes).toString()]).toContain(text);
    }
  }
});

/** Another size of the file in both places that state it. */
function resized(zip: Uint8Array, from: number, to: number): Uint8Array {
  const bytes = Buffer.from(zip);
  const [old, made] = [Buffer.alloc(4), Buffer.alloc(4)];
  old.writeUInt32LE(from);
  made.writeUInt32LE(to);
  for (let at = bytes.indexOf(old); at !== -1; at = bytes.indexOf(old, at + 4)) made.copy(bytes, at);
  return bytes;
}

const DIRECTORY = Buffer.from('PK\x01\x02', 'latin1');

function damagedChecksum(zip: Uint8Array): Uint8Array {
  const bytes = Buffer.from(zip);
  const at = bytes.indexOf(DIRECTORY) + 16;
  bytes[at] = (bytes[at] ?? 0) ^ 1;
  return bytes;
}

function encrypted(zip: Uint8Array): Uint8Array {
  const bytes = Buffer.from(zip);
  const at = bytes.indexOf(DIRECTORY) + 8;
  bytes[at] = (bytes[at] ?? 0) | 1;
  return bytes;
}
