import { createHash } from 'node:crypto';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { BlobStat, BlobStore } from '../../src/adapter/store/port.ts';

/** A store under test and how to dispose of it. */
export interface BlobStoreFixture {
  readonly store: BlobStore;
  close(): Promise<void>;
}

const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

async function* chunks(bytes: Uint8Array): AsyncIterable<Uint8Array> {
  // Uneven pieces, and a bounded number of them.
  const size = Math.max(7, Math.ceil(bytes.byteLength / 53));
  for (let at = 0; at < bytes.byteLength; at += size) yield bytes.subarray(at, at + size);
}

async function collect(content: AsyncIterable<Uint8Array>): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  for await (const part of content) parts.push(part);
  return new Uint8Array(Buffer.concat(parts));
}

async function keys(list: AsyncIterable<BlobStat>): Promise<readonly string[]> {
  const out: string[] = [];
  for await (const { key } of list) out.push(key);
  return out;
}

/** What every {@link BlobStore} guarantees; run it on each driver with an empty store per test. */
export function describeBlobStore(driver: string, open: () => Promise<BlobStoreFixture>): void {
  describe(`blob store: ${driver}`, () => {
    let fixture: BlobStoreFixture;
    let store: BlobStore;
    beforeEach(async () => {
      fixture = await open();
      store = fixture.store;
    });
    afterEach(() => fixture.close());

    const hello = new Uint8Array(Buffer.from('hello, blob store'));
    const put = (key: string, bytes: Uint8Array = hello): Promise<BlobStat> =>
      store.put(key, chunks(bytes), { maxBytes: 1_000_000, sha256: sha256(bytes) });

    it('returns what was put', async () => {
      expect(await put('a/b')).toEqual({ key: 'a/b', bytes: hello.byteLength });
      expect(await collect(store.get('a/b'))).toEqual(hello);
      expect(await store.stat('a/b')).toEqual({ key: 'a/b', bytes: hello.byteLength });
    });

    it('returns any part of a blob', async () => {
      await put('a');
      for (const [start, length] of [
        [0, 5],
        [7, 4],
        [hello.byteLength, 0],
        [hello.byteLength - 1, 1],
      ] as const) {
        expect(await collect(store.get('a', { start, length }))).toEqual(hello.slice(start, start + length));
      }
    });

    it('refuses a part that is not within the blob', async () => {
      await put('a');
      for (const range of [
        { start: 0, length: 100 },
        { start: -1, length: 1 },
        { start: 100, length: 0 },
      ]) {
        await expect(collect(store.get('a', range))).rejects.toBeInstanceOf(RangeError);
      }
    });

    it('stores empty and large blobs', async () => {
      const large = new Uint8Array(500_000).map((_, i) => i * 31);
      await put('empty', new Uint8Array());
      await put('large', large);
      expect(await collect(store.get('empty'))).toEqual(new Uint8Array());
      expect(sha256(await collect(store.get('large')))).toBe(sha256(large));
    });

    it('says when there is no blob', async () => {
      expect(await store.stat('a')).toBeNull();
      expect(await store.delete('a')).toBe(false);
      await expect(collect(store.get('a'))).rejects.toMatchObject({ code: 'NOT_FOUND' });
      await put('a/b');
      expect(await store.stat('a')).toBeNull();
    });

    it('stores nothing when the checksum differs', async () => {
      const rules = { maxBytes: 1_000, sha256: '0'.repeat(64) };
      await expect(store.put('a', chunks(hello), rules)).rejects.toMatchObject({ code: 'UPLOAD_CHECKSUM' });
      expect(await store.stat('a')).toBeNull();
      expect(await keys(store.list(''))).toEqual([]);
    });

    it('stores nothing when the content is too large, and stops reading it', async () => {
      let taken = 0;
      const endless = async function* (): AsyncIterable<Uint8Array> {
        for (;;) {
          taken++;
          yield new Uint8Array(100);
        }
      };
      const rules = { maxBytes: 1_000, sha256: sha256(hello) };
      await expect(store.put('a', endless(), rules)).rejects.toMatchObject({ code: 'FILE_TOO_LARGE' });
      expect(taken).toBeLessThan(1_000);
      expect(await store.stat('a')).toBeNull();
    });

    it('stores nothing when the content breaks off', async () => {
      const broken = async function* (): AsyncIterable<Uint8Array> {
        yield hello.subarray(0, 3);
        throw new Error('connection lost');
      };
      const rules = { maxBytes: 1_000, sha256: sha256(hello) };
      await expect(store.put('a', broken(), rules)).rejects.toThrow('connection lost');
      expect(await keys(store.list(''))).toEqual([]);
    });

    it('replaces a blob in one step: a failed put leaves the old one, readers see old or new', async () => {
      const old = new Uint8Array(50_000).fill(1);
      const young = new Uint8Array(60_000).fill(2);
      await put('a', old);
      await expect(
        store.put('a', chunks(young), { maxBytes: 100_000, sha256: '0'.repeat(64) }),
      ).rejects.toMatchObject({ code: 'UPLOAD_CHECKSUM' });
      expect(sha256(await collect(store.get('a')))).toBe(sha256(old));
      await put('a', young);
      expect(sha256(await collect(store.get('a')))).toBe(sha256(young));
    });

    it('shows no blob while it is being written', async () => {
      let release = (): void => {};
      const gate = new Promise<void>((resolve) => {
        release = resolve;
      });
      let started = (): void => {};
      const writing = new Promise<void>((resolve) => {
        started = resolve;
      });
      const slow = async function* (): AsyncIterable<Uint8Array> {
        yield hello.subarray(0, 5);
        started();
        await gate;
        yield hello.subarray(5);
      };
      const done = store.put('a', slow(), { maxBytes: 1_000, sha256: sha256(hello) });
      await writing;
      expect(await store.stat('a')).toBeNull();
      expect(await keys(store.list(''))).toEqual([]);
      release();
      await done;
      expect(await collect(store.get('a'))).toEqual(hello);
    });

    it('lists by prefix in the order of keys', async () => {
      for (const key of ['a/b/c', 'a/b', 'a-b', 'ab/c', 'b', 'a/a'].filter((key) => key !== 'a/b'))
        await put(key);
      expect(await keys(store.list(''))).toEqual(['a-b', 'a/a', 'a/b/c', 'ab/c', 'b']);
      expect(await keys(store.list('a/'))).toEqual(['a/a', 'a/b/c']);
      expect(await keys(store.list('a/b/'))).toEqual(['a/b/c']);
      expect(await keys(store.list('nothing/'))).toEqual([]);
    });

    it('forgets what is deleted', async () => {
      await put('a/b');
      await put('a/c');
      expect(await store.delete('a/b')).toBe(true);
      expect(await store.stat('a/b')).toBeNull();
      expect(await keys(store.list('a/'))).toEqual(['a/c']);
      await put('a/b');
      expect(await keys(store.list('a/'))).toEqual(['a/b', 'a/c']);
    });

    it('survives puts and deletes of neighbours at the same time', async () => {
      await Promise.all(
        Array.from({ length: 40 }, async (_, i) => {
          await put(`x/${i % 4}/a`);
          if (i % 2 === 0) await store.delete(`x/${i % 4}/a`);
        }),
      );
      await put('x/0/a');
      expect(await collect(store.get('x/0/a'))).toEqual(hello);
    });

    it.each([
      '',
      '/a',
      'a/',
      'a//b',
      '../a',
      'a/../b',
      './a',
      '.hidden',
      'a/.hidden',
      'A',
      'a b',
      'a\\b',
      'a\0',
      'é',
      '..',
      `a/${'x'.repeat(200)}`,
      `${'a/'.repeat(20)}a`,
    ])('refuses the key %j', async (key) => {
      await expect(put(key)).rejects.toBeInstanceOf(RangeError);
      await expect(store.stat(key)).rejects.toBeInstanceOf(RangeError);
      await expect(store.delete(key)).rejects.toBeInstanceOf(RangeError);
      await expect(collect(store.get(key))).rejects.toBeInstanceOf(RangeError);
    });

    it.each(['a', '../', '/', 'a//'])('refuses the prefix %j', async (prefix) => {
      await expect(keys(store.list(prefix))).rejects.toBeInstanceOf(RangeError);
    });
  });
}
