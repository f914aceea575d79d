import { describe, expect, test } from 'vitest';
import { isConnectionFailure, mapDatabaseError, sqlState } from '../../../src/db/errors.ts';
import { hashRequest } from '../../../src/db/idempotency.ts';
import { seal, unseal } from '../../../src/db/seal.ts';

const coded = (code: string) => Object.assign(new Error('x'), { code });

describe('database errors', () => {
  test('a SQLSTATE is found directly and never mistaken for a code of Prisma or of a socket', () => {
    expect(sqlState(coded('42501'))).toBe('42501');
    expect(sqlState(coded('P2002'))).toBeNull();
    expect(sqlState(coded('EPIPE'))).toBeNull();
    expect(sqlState(coded('P0001'))).toBe('P0001');
    expect(sqlState('text')).toBeNull();
  });

  test('connection failures become DATABASE_UNAVAILABLE and other errors stay as they are', () => {
    for (const code of ['ECONNREFUSED', '57P01', '08006', 'P1001', '53300']) {
      expect(mapDatabaseError(coded(code))).toMatchObject({ code: 'DATABASE_UNAVAILABLE' });
    }
    const other = coded('23505');
    expect(mapDatabaseError(other)).toBe(other);
    expect(isConnectionFailure(new Error('timeout exceeded when trying to connect'))).toBe(true);
  });
});

describe('idempotency helpers', () => {
  test('the hash of a request ignores the order of names and nothing else', () => {
    expect(hashRequest({ a: 1, b: [1, { c: null, d: 'x' }] })).toEqual(
      hashRequest({ b: [1, { d: 'x', c: null }], a: 1 }),
    );
    expect(hashRequest([1, 2])).not.toEqual(hashRequest([2, 1]));
    expect(hashRequest({ a: '1' })).not.toEqual(hashRequest({ a: 1 }));
  });

  test('a sealed text opens with its pepper and context only, and hides the text', () => {
    const sealed = seal('pepper', 'context', 'pbt_secret');
    expect(Buffer.from(sealed, 'base64').toString('latin1')).not.toContain('pbt_secret');
    expect(unseal('pepper', 'context', sealed)).toBe('pbt_secret');
    expect(() => unseal('other', 'context', sealed)).toThrow();
    expect(() => unseal('pepper', 'other', sealed)).toThrow();
    const tampered = Buffer.from(sealed, 'base64');
    tampered.writeUInt8(tampered.readUInt8(tampered.length - 1) ^ 1, tampered.length - 1);
    expect(() => unseal('pepper', 'context', tampered.toString('base64'))).toThrow();
  });
});
