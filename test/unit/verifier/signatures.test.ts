import { SigningKey } from 'ethers';
import { describe, expect, test } from 'vitest';
import { messageDigest, rootMessage, signerOf } from '../../../src/verifier/hashing/signature.ts';
import { at, bent, faults, type Json, vector, viewed } from './vectors.ts';

describe('signatures', () => {
  const given = vector('rotation');
  const receipt = viewed(given);
  const { keys, log } = given;
  const [first, second, third] = given.privateKeys.map((key) => new SigningKey(`0x${key}`));

  function signed(
    document: Json,
    place: readonly string[],
    key: SigningKey | undefined,
    more: object = {},
  ): Json {
    const [type, root] =
      place[0] === 'batch'
        ? (['ReceiptBatch', given.receipts[0]?.leaf] as const)
        : (['TreeHead', String(at(document, ...place, 'root'))] as const);
    const [size, signedAt] = [
      String(at(document, ...place, 'size')),
      String(at(document, ...place, 'signedAt')),
    ];
    const message = rootMessage(log.id, type, { root: root ?? '', size, signedAt, ...more });
    return bent(document, [...place, 'signature'], key?.sign(messageDigest(message)).serialized ?? '');
  }

  test('are verified when made anew with the same key', () => {
    expect(faults({ receipt: signed(receipt, ['batch'], first), keys })).toEqual([]);
    expect(faults({ receipt: signed(receipt, ['inclusion', 'head'], third), keys })).toEqual([]);
  });

  test('by another key, of this log or of none, are refused', () => {
    const stranger = new SigningKey(`0x${'11'.repeat(32)}`);
    for (const key of [second, third, stranger]) {
      expect(faults({ receipt: signed(receipt, ['batch'], key), keys })).toEqual(['batch.signature']);
    }
    for (const key of [first, second, stranger]) {
      expect(faults({ receipt: signed(receipt, ['inclusion', 'head'], key), keys })).toEqual(['head']);
    }
  });

  test.each([
    ['before it begins', '1763399999999'],
    ['at its end', '1764400000000'],
  ])('of a key outside of its window, %s, are refused', (_, signedAt) => {
    const late = bent(receipt, ['batch', 'signedAt'], signedAt);
    expect(faults({ receipt: signed(late, ['batch'], first), keys })).toEqual(['batch.signature']);
    const early = bent(
      receipt,
      ['batch', 'signedAt'],
      String(BigInt(signedAt) + (signedAt.startsWith('1763') ? 1n : -1n)),
    );
    expect(faults({ receipt: signed(early, ['batch'], first), keys })).toEqual([]);
  });

  test('in their other form, with the higher s or another v, are refused', () => {
    const order = 0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141n;
    const text = String(at(receipt, 'batch', 'signature'));
    const s = (order - BigInt(`0x${text.slice(66, 130)}`)).toString(16).padStart(64, '0');
    const v = text.endsWith('1b') ? '1c' : '1b';
    for (const other of [
      `${text.slice(0, 66)}${s}${v}`,
      `${text.slice(0, 130)}0${text.endsWith('1b') ? 0 : 1}`,
    ]) {
      expect(faults({ receipt: bent(receipt, ['batch', 'signature'], other), keys })).toEqual([
        'batch.signature',
      ]);
    }
    for (const other of [`0x${'00'.repeat(65)}`, `0x${'ff'.repeat(65)}`, `0x${'00'.repeat(64)}1b`]) {
      expect(faults({ receipt: bent(receipt, ['batch', 'signature'], other), keys })).toEqual([
        'batch.signature',
      ]);
    }
  });

  test('are canonical up to half the order of the group, and no further', () => {
    const half = 0x7fffffffffffffffffffffffffffffff5d576e7357a4501ddfe92f46681b20a0n;
    const message = rootMessage(log.id, 'ReceiptBatch', { root: 'ab'.repeat(32), size: '1', signedAt: '1' });
    const r = String(at(receipt, 'batch', 'signature')).slice(0, 66);
    const [low, high] = [half, half + 1n].map((s) =>
      signerOf(message, `${r}${s.toString(16).padStart(64, '0')}1b`),
    );
    expect(low).toMatch(/^0x[0-9a-fA-F]{40}$/);
    expect(high).toBeNull();
  });

  test('of another kind of message are refused', () => {
    const { root = '', signedAt = '', size = '' } = given.heads[0] ?? {};
    // A batch of one and a log of one can have the same root, size and time.
    const head = { root, size, signedAt, signature: String(at(receipt, 'batch', 'signature')) };
    expect(faults({ receipt, keys, heads: [{ format: 'patchbay-head/1', log: log.id, head }] })).toEqual([
      'heads.0',
    ]);
  });

  test('of another log are refused, whatever the documents say', () => {
    const other = vector('plain');
    const moved = bent(viewed(other), ['log'], log.id);
    expect(faults({ receipt: moved, keys })).toEqual(expect.arrayContaining(['batch.signature', 'head']));
    expect(faults({ receipt: viewed(other), keys })).toEqual(['log', 'batch.signature', 'head']);
    expect(
      faults({ receipt, keys, heads: [other.consistency[0] ?? null].filter((proof) => proof !== null) }),
    ).toEqual([]);
  });

  test('of keys that nobody endorses count only when they are pinned', () => {
    const broken = bent(keys, ['keys', 2, 'endorsement'], null);
    const address = String(at(keys, 'keys', 2, 'address'));
    const start = String(at(keys, 'keys', 0, 'address'));
    expect(faults({ receipt, keys: broken })).toEqual(['head']);
    expect(faults({ receipt, keys: broken, pinned: [start, address] })).toEqual([]);
    expect(faults({ receipt, keys: broken, pinned: [address] })).toEqual(['batch.signature']);
    expect(faults({ receipt, pinned: [start] })).toEqual(['head']);
    expect(faults({ receipt, pinned: [start, address] })).toEqual([]);
    expect(faults({ receipt, keys, pinned: ['0x7E5F4552091A69125d5DfCb7b8C2659029395Bdf'] })).toContain(
      'keys',
    );
    expect(faults({ receipt })).toEqual(['PROOF_KEYS_MISSING']);
  });
});
