import { SigningKey } from 'ethers';
import { describe, expect, test } from 'vitest';
import { messageDigest, rootMessage } from '../../../src/verifier/hashing/signature.ts';
import { at, bent, faults, type Json, named, stepsOf, vector, viewed } from './vectors.ts';

describe('heads that a reader kept', () => {
  const given = vector('log-7');
  const { keys, log } = given;
  const receipt = viewed(given);
  const head = (number: number): Json => {
    const { root = '', size = '', signedAt = '', signature = '' } = given.heads[number] ?? {};
    return { format: 'patchbay-head/1', log: log.id, head: { root, size, signedAt, signature } };
  };
  const proof = (first: number): Json => given.consistency[first] ?? null;

  test('are not connected without a proof, and are with one', () => {
    const alone = stepsOf({ receipt, keys, heads: [head(3)] });
    expect([named(alone, 'false'), named(alone, 'unchecked')]).toEqual([
      [],
      expect.arrayContaining(['heads.connected']),
    ]);
    const joined = stepsOf({ receipt, keys, heads: [head(3), proof(3)] });
    expect(named(joined, 'true')).toEqual(expect.arrayContaining(['heads', 'heads.connected']));
    expect(faults({ receipt, keys, heads: [head(7)] })).toEqual([]);
  });

  test('show a fork: one size with two signed roots', () => {
    const key = new SigningKey(`0x${given.privateKeys[0]}`);
    const root = 'ab'.repeat(32);
    const forged = { root, size: '3', signedAt: '1764400009000' };
    const { serialized } = key.sign(messageDigest(rootMessage(log.id, 'TreeHead', forged)));
    const other = { format: 'patchbay-head/1', log: log.id, head: { ...forged, signature: serialized } };
    expect(faults({ receipt, keys, heads: [other, proof(3)] })).toEqual(['heads']);
  });

  test('of an empty log are the beginning of every log, without a path', () => {
    expect(faults({ receipt, keys, heads: [proof(0)] })).toEqual([]);
    expect(faults({ receipt, keys, heads: [bent(proof(0), ['path'], ['ab'.repeat(32)])] })).toEqual([
      'heads.0',
    ]);
  });

  test('with a proof that is cut, longer or of another size are refused', () => {
    for (const first of [2, 3, 6]) {
      const path = at(proof(first), 'path');
      if (!Array.isArray(path)) throw new Error('There is no path.');
      for (const other of [path.slice(1), path.slice(0, -1), [...path, 'ab'.repeat(32)], []]) {
        expect(faults({ receipt, keys, heads: [bent(proof(first), ['path'], other)] })).toEqual(['heads.0']);
      }
    }
  });
});
