import { expect, test } from 'vitest';
import { canonicalJson } from '../../../src/verifier/hashing/canonical.ts';
import { InputError } from '../../../src/verifier/input/errors.ts';
import { parseJson } from '../../../src/verifier/input/json.ts';
import { MAX_FILE_BYTES, readReceipt } from '../../../src/verifier/input/read.ts';
import { shown } from '../../../src/verifier/shown.ts';

function refusal(work: () => unknown): string {
  try {
    work();
  } catch (error) {
    if (error instanceof InputError) return `${error.code}: ${error.message}`;
    throw error;
  }
  return 'accepted';
}

const parse = (text: string | Uint8Array): unknown => parseJson(Buffer.from(text), 'x');

test.each([
  ['nothing', ''],
  ['half a document', '{"a":'],
  ['a string that does not end', '{"a":"b'],
  ['a member twice', '{"a":"1","a":"2"}'],
  ['a member twice, deep inside', '{"x":[{"a":"1","b":{},"a":"2"}]}'],
  ['a member twice, written in two ways', '{"a":"1","\\u0061":"2"}'],
  ['a member twice, with spaces before the colon', `{"a":"1","a"${' '.repeat(40)}:"2"}`],
  ['a byte order mark', '\ufeff{}'],
  ['a comment', '{} // no'],
  ['bytes that are not UTF-8', Uint8Array.of(0x22, 0xff, 0x22)],
  ['a nesting without end', '['.repeat(1_000_000)],
  ['an escape that is none', '{"\\x":1}'],
])('%s is refused', (_, text) => {
  expect(refusal(() => parse(text))).toMatch(/^PROOF_UNREADABLE: x is not JSON/);
});

test('any space that JSON allows between a name and its colon is seen through', () => {
  for (const spaces of [0, 63, 64, 65, 1_000]) {
    const text = `{"a":"1","a"${'\n'.repeat(spaces)}:"2"}`;
    expect([spaces, refusal(() => parse(text)).slice(0, 16)]).toEqual([spaces, 'PROOF_UNREADABLE']);
  }
});

test('names that are the same in different objects, or are values, are no doubles', () => {
  const document = {
    a: 'a',
    b: [{ a: 'a' }, { a: '{"a":1,"a":2}' }, ['a', 'a']],
    c: { a: { a: 'a:' } },
    d: '\\',
  };
  expect(parse(JSON.stringify(document, null, 2))).toEqual(document);
});

test('a file of more than 8 MiB is refused before it is parsed', () => {
  const bytes = Buffer.alloc(MAX_FILE_BYTES + 1, ' ');
  expect(refusal(() => readReceipt({ name: 'x', bytes }))).toBe(
    `PROOF_UNREADABLE: x is larger than ${MAX_FILE_BYTES} bytes.`,
  );
});

test('messages print nothing that a terminal would obey', () => {
  const evil = '\u001b[2J\u009b1m\u202eabc\n';
  expect(shown(evil)).toBe('"\\u001b[2J\\u009b1m\\u202eabc\\n"');
  expect(shown('x'.repeat(1_000)).length).toBeLessThan(110);
  const message = refusal(() =>
    readReceipt({
      name: 'x',
      bytes: Buffer.from(JSON.stringify({ format: 'patchbay-receipt/1', [evil]: 1 })),
    }),
  );
  expect(message).toMatch(/^[ -~]*$/);
});

test('canonical JSON sorts members by UTF-16 units and escapes as RFC 8785 does', () => {
  // The member names of section 3.2.3 of the RFC.
  const names = ['\u20ac', '\r', '\ufb33', '1', '\ud83d\ude00', '\u0080', '\u00f6'];
  const document = Object.fromEntries(names.map((name) => [name, name]));
  expect(Object.values(JSON.parse(canonicalJson(document)))).toEqual([
    ...['\r', '1', '\u0080', '\u00f6', '\u20ac', '\ud83d\ude00', '\ufb33'].toSorted(byInteger),
  ]);
  expect(canonicalJson({ b: ['x', { d: '', c: '"\\\u0001/' }], a: 'é' })).toBe(
    '{"a":"é","b":["x",{"c":"\\"\\\\\\u0001/","d":""}]}',
  );
});

/** JavaScript lists members that are whole numbers first when an object is read back. */
function byInteger(a: string, b: string): number {
  return Number(b === '1') - Number(a === '1');
}
