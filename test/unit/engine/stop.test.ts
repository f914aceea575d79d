import { describe, expect, test } from 'vitest';
import { createStopScanner } from '../../../src/engine/stop.ts';

const LONE_SURROGATE = /[\uD800-\uDBFF](?![\uDC00-\uDFFF])|(?<![\uD800-\uDBFF])[\uDC00-\uDFFF]/;

function scan(strings: readonly string[], pieces: readonly string[]) {
  const scanner = createStopScanner(strings);
  const out: string[] = [];
  for (const piece of pieces) {
    const { text, stopped } = scanner.push(piece);
    out.push(text);
    if (stopped) return { out, stopped };
  }
  out.push(scanner.flush());
  return { out, stopped: false };
}

describe('stop strings', () => {
  test('are cut off, and so is what follows within the same piece', () => {
    expect(scan(['END'], ['some textENDmore'])).toEqual({ out: ['some text'], stopped: true });
  });

  test('are found across pieces, and nothing of them was delivered before', () => {
    expect(scan(['\n\nUser:'], ['hi\n', '\nUs', 'er', ':'])).toEqual({
      out: ['hi', '', '', ''],
      stopped: true,
    });
  });

  test('text that could have become one is held back and then delivered unchanged', () => {
    expect(scan(['abcd'], ['xabc', 'abc', 'e'])).toEqual({ out: ['x', 'abc', 'abce', ''], stopped: false });
    expect(scan(['abcd'], ['xabc'])).toEqual({ out: ['x', 'abc'], stopped: false });
  });

  test('overlapping prefixes are not missed', () => {
    expect(scan(['aab'], ['aaab'])).toEqual({ out: ['a'], stopped: true });
    expect(scan(['abab'], ['ab', 'a', 'c', 'abab'])).toEqual({ out: ['', '', 'abac', ''], stopped: true });
  });

  test('the one that is complete first wins; of two complete at once, the longer', () => {
    expect(scan(['abcd', 'bc'], ['xabcd']).out).toEqual(['xa']);
    expect(scan(['cd', 'abcd'], ['xabcd']).out).toEqual(['x']);
  });

  test('give the same text however it is cut into pieces', () => {
    const text = 'aabaacaabaab-aabaaab';
    for (const stops of [['aabaaab'], ['baab', 'caa'], ['zzz'], ['b-', 'ab-a']]) {
      const whole = scan(stops, [text]);
      for (let size = 1; size < text.length; size++) {
        const pieces = text.match(new RegExp(`.{1,${size}}`, 'g')) ?? [];
        const cut = scan(stops, pieces);
        expect(cut.out.join('')).toBe(whole.out.join(''));
        expect(cut.stopped).toBe(whole.stopped);
      }
    }
  });

  test('holding back never splits a surrogate pair', () => {
    const { out } = scan(['😀x'], ['a😀', 'b😁']);
    for (const piece of out) expect(piece).not.toMatch(LONE_SURROGATE);
    expect(out.join('')).toBe('a😀b😁');
  });

  test('hostile repetition costs time proportional to the text', () => {
    const stops = Array.from({ length: 16 }, (_, i) => `${'a'.repeat(255)}${String.fromCharCode(98 + i)}`);
    const scanner = createStopScanner(stops);
    let delivered = 0;
    for (let i = 0; i < 20_000; i++) delivered += scanner.push('a').text.length;
    expect(delivered + scanner.flush().length).toBe(20_000);
  });
});
