import { describe, expect, test } from 'vitest';
import { byteRange, matchesTag } from '../../../src/exports/byte-range.ts';
import { exportPath, parseExportFile } from '../../../src/exports/files.ts';
import { isValid, signature, signedUrl } from '../../../src/exports/url.ts';

const ETAG = '"abc"';
const ID = '0192f000-0000-7000-8000-0000000000aa';
const whole = { kind: 'WHOLE' };

describe('a range of a file of ten bytes', () => {
  test.each([
    [undefined, whole],
    ['bytes=0-', { kind: 'PART', first: 0, last: 9 }],
    ['bytes=4-', { kind: 'PART', first: 4, last: 9 }],
    ['bytes=2-5', { kind: 'PART', first: 2, last: 5 }],
    ['bytes=2-99', { kind: 'PART', first: 2, last: 9 }],
    ['bytes=-3', { kind: 'PART', first: 7, last: 9 }],
    ['bytes=-99', { kind: 'PART', first: 0, last: 9 }],
    ['bytes=-0', { kind: 'OUTSIDE' }],
    ['bytes=10-', { kind: 'OUTSIDE' }],
    ['bytes=5-2', whole],
    ['bytes=0-1,4-5', whole],
    ['bytes=-', whole],
    ['lines=0-1', whole],
    ['bytes=a-b', whole],
  ])('%s', (range, expected) => {
    expect(byteRange({ range, ifRange: undefined }, ETAG, 10)).toEqual(expected);
  });

  test('counts only for the file that the client has the beginning of', () => {
    expect(byteRange({ range: 'bytes=4-', ifRange: ETAG }, ETAG, 10)).toMatchObject({ first: 4 });
    expect(byteRange({ range: 'bytes=4-', ifRange: '"other"' }, ETAG, 10)).toEqual(whole);
    expect(byteRange({ range: 'bytes=4-', ifRange: 'Sat, 01 Jan 2028 00:00:00 GMT' }, ETAG, 10)).toEqual(
      whole,
    );
  });

  test('nothing of an empty file can be asked for', () => {
    expect(byteRange({ range: 'bytes=0-', ifRange: undefined }, ETAG, 0)).toEqual({ kind: 'OUTSIDE' });
  });
});

test('If-None-Match names tags, weak ones too', () => {
  expect(matchesTag('"x", W/"abc"', ETAG)).toBe(true);
  expect(matchesTag('*', ETAG)).toBe(true);
  expect(matchesTag('"x"', ETAG)).toBe(false);
  expect(matchesTag(undefined, ETAG)).toBe(false);
});

test('an address opens one export until its time, and no other way', () => {
  const grant = { exportId: ID, expires: 1_000 };
  const url = new URL(signedUrl('secret', 'http://h/exports', grant));
  const given = url.searchParams.get('signature') ?? '';
  expect(url.pathname).toBe(`/exports/${ID}`);
  expect(isValid('secret', grant, given, 999_999)).toBe(true);
  expect(isValid('secret', grant, given, 1_000_000)).toBe(false);
  expect(isValid('secret', { ...grant, expires: 2_000 }, given, 0)).toBe(false);
  expect(isValid('secret', { ...grant, exportId: ID.replace('aa', 'ab') }, given, 0)).toBe(false);
  expect(isValid('other', grant, given, 0)).toBe(false);
  expect(isValid('secret', grant, '', 0)).toBe(false);
  expect(isValid('secret', grant, given.slice(1), 0)).toBe(false);
  expect(signature('secret', grant)).not.toBe(signature('secret', { ...grant, expires: 1_001 }));
});

test('a file belongs to one writing of one export; other names are nobody’s', () => {
  const file = { exportId: ID, claim: 3, ending: 'csv' as const };
  expect(exportPath('/x', file)).toBe(`/x/${ID}.3.csv`);
  expect(parseExportFile(`${ID}.3.csv`)).toEqual(file);
  expect(parseExportFile(`${ID}.3.part`)).toMatchObject({ ending: 'part' });
  for (const name of ['notes.txt', `${ID}.csv`, `${ID}.3.exe`, `${ID}.3.csv.bak`]) {
    expect(parseExportFile(name)).toBeNull();
  }
});
