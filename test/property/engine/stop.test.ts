import fc from 'fast-check';
import { expect, test } from 'vitest';
import { createStopScanner } from '../../../src/engine/stop.ts';

const SEED = 20_260_103;

/** Reference: look at ever longer prefixes of the text until one ends with a stop string. */
function expected(strings: readonly string[], text: string): { text: string; stopped: boolean } {
  for (let end = 1; end <= text.length; end++) {
    const complete = strings.filter((each) => text.slice(0, end).endsWith(each));
    if (complete.length === 0) continue;
    return { text: text.slice(0, end - Math.max(...complete.map(({ length }) => length))), stopped: true };
  }
  return { text, stopped: false };
}

test('delivered text is the text before the first stop string, however it is cut, and holds back no more than needed', () => {
  const word = fc.string({ unit: fc.constantFrom('a', 'b', 'c'), minLength: 1, maxLength: 5 });
  const piece = fc.string({ unit: fc.constantFrom('a', 'b', 'c'), maxLength: 6 });
  const property = fc.property(
    fc.array(word, { maxLength: 4 }),
    fc.array(piece, { maxLength: 12 }),
    (strings, pieces) => {
      const scanner = createStopScanner(strings);
      let seen = '';
      let delivered = '';
      let stopped = false;
      for (const each of pieces) {
        seen += each;
        const result = scanner.push(each);
        delivered += result.text;
        stopped = result.stopped;
        if (stopped) break;
        const held = seen.slice(delivered.length);
        expect(held === '' || strings.some((stop) => stop.startsWith(held))).toBe(true);
      }
      expect({ text: delivered + scanner.flush(), stopped }).toEqual(expected(strings, seen));
    },
  );
  fc.assert(property, { seed: SEED, numRuns: 5000 });
});
