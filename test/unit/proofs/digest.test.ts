import { createHash } from 'node:crypto';
import { keccak256 } from 'ethers/crypto';
import { expect, test } from 'vitest';
import { logIdOf, treeHeadDigest } from '../../../src/proofs/log/digest.ts';

const UUID = '0192f000-0000-7000-8000-0000000000ff';

test('the id of a log is the hash of its UUID, and of nothing that is no UUID', () => {
  const expected = createHash('sha256')
    .update(Buffer.concat([Buffer.from('patchbay:log:v1\0'), Buffer.from(UUID.replaceAll('-', ''), 'hex')]))
    .digest();
  expect(logIdOf(UUID)).toEqual(expected);
  expect(() => logIdOf(UUID.toUpperCase())).toThrow(TypeError);
});

test('a head is signed by the EIP-712 digest, put together by hand', () => {
  const keccak = (...parts: readonly Uint8Array[]) =>
    Buffer.from(keccak256(Buffer.concat(parts)).slice(2), 'hex');
  const text = (value: string) => keccak(Buffer.from(value));
  const word = (value: number) => {
    const bytes = Buffer.alloc(32);
    bytes.writeBigUInt64BE(BigInt(value), 24);
    return bytes;
  };
  const logId = logIdOf(UUID);
  const root = Buffer.alloc(32, 7);
  const domain = keccak(
    text('EIP712Domain(string name,string version,bytes32 salt)'),
    text('Patchbay proofs'),
    text('1'),
    logId,
  );
  const head = keccak(
    text('TreeHead(bytes32 root,uint64 size,uint64 signedAt)'),
    root,
    word(57),
    word(1_764_400_001_000),
  );
  const digest = treeHeadDigest(logId, { root, size: 57, signedAtMs: 1_764_400_001_000 });
  expect(Buffer.from(digest)).toEqual(keccak(Buffer.of(0x19, 0x01), domain, head));
});
