import { mkdir, mkdtemp, readdir, rm, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { FsBlobStore } from '../../../../src/adapter/store/fs.ts';
import { describeBlobStore } from '../../../conformance/blob-store.ts';

describeBlobStore('local disk', async () => {
  const root = await mkdtemp(join(tmpdir(), 'patchbay-blobs-'));
  return {
    store: new FsBlobStore({ root: join(root, 'not made yet') }),
    close: () => rm(root, { recursive: true, force: true }),
  };
});

describe('FsBlobStore', () => {
  it('sweeps only the unfinished files of processes long dead', async () => {
    const root = await mkdtemp(join(tmpdir(), 'patchbay-blobs-'));
    const incoming = join(root, '.incoming');
    await mkdir(incoming);
    await writeFile(join(incoming, 'old'), 'x');
    await writeFile(join(incoming, 'young'), 'x');
    const now = 1_800_000_000_000;
    await utimes(join(incoming, 'old'), new Date(now), new Date(now - 48 * 3_600_000));
    await utimes(join(incoming, 'young'), new Date(now), new Date(now - 3_600_000));
    expect(await new FsBlobStore({ root }).sweep(now)).toBe(1);
    expect(await readdir(incoming)).toEqual(['young']);
    await rm(root, { recursive: true });
  });
});
