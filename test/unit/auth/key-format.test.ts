import { randomBytes } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { generateKey, hashKey, parseKey, shownPrefix } from '../../../src/auth/key-format.ts';

describe('API key format', () => {
  test('every generated key is recognised with its kind', () => {
    for (let i = 0; i < 500; i += 1) {
      const operator = generateKey('OPERATOR', randomBytes);
      const tenant = generateKey('TENANT', randomBytes);
      expect(parseKey(operator)).toEqual({ kind: 'OPERATOR', text: operator });
      expect(parseKey(tenant)).toEqual({ kind: 'TENANT', text: tenant });
      expect(tenant).toMatch(/^pbt_[0-9A-Za-z]{38}$/);
    }
  });

  test('changing any one character breaks the checksum', () => {
    const key = generateKey('TENANT', randomBytes);
    const position = fc.integer({ min: 0, max: key.length - 1 });
    const character = fc.constantFrom(...'0123456789ABCXYZabcxyz_');
    fc.assert(
      fc.property(position, character, (i, c) => {
        const changed = key.slice(0, i) + c + key.slice(i + 1);
        return (parseKey(changed) === null) === (changed !== key);
      }),
      { numRuns: 2000 },
    );
  });

  test('arbitrary text is never recognised', () => {
    fc.assert(fc.property(fc.string(), (text) => parseKey(text) === null));
    fc.assert(fc.property(fc.stringMatching(/^pbt_[0-9A-Za-z]{38}$/), (text) => parseKey(text) === null));
  });

  test('the same randomness gives the same key, and bytes that would bias it are drawn again', () => {
    let calls = 0;
    const random = (size: number) => {
      calls += 1;
      return new Uint8Array(size).fill(calls === 1 ? 255 : 61);
    };
    expect(generateKey('TENANT', random)).toMatch(/^pbt_z{32}[0-9A-Za-z]{6}$/);
    expect(calls).toBe(2);
  });

  test('the hash needs the pepper, and the shown prefix keeps most of the key secret', () => {
    const key = generateKey('TENANT', randomBytes);
    expect(hashKey('a', key)).not.toEqual(hashKey('b', key));
    expect(hashKey('a', key)).toHaveLength(32);
    expect(shownPrefix(key)).toHaveLength(9);
  });
});
