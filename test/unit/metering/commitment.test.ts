import { createHash } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { OutputCommitment, outputCommitment, promptCommitment } from '../../../src/metering/commitment.ts';

const salt = fc.uint8Array({ minLength: 32, maxLength: 32 }).map((bytes) => Buffer.from(bytes));
const id = fc.integer({ min: 0, max: 2 ** 32 - 1 });

describe('the output commitment', () => {
  it('does not depend on how the output was cut into chunks', () => {
    fc.assert(
      fc.property(salt, fc.array(fc.array(id, { maxLength: 5 }), { maxLength: 8 }), (s, chunks) => {
        const running = new OutputCommitment(s);
        let last = running.value();
        for (const chunk of chunks) last = running.append(chunk);
        expect(last).toEqual(outputCommitment(s, chunks.flat()));
        expect(running.value()).toEqual(last);
      }),
    );
  });

  it('is the SHA-256 of domain, salt and little-endian ids, as documented', () => {
    const s = Buffer.alloc(32, 7);
    const bytes = Buffer.concat([
      Buffer.from('patchbay:output:v1\0'),
      s,
      Buffer.from('0100000000010000', 'hex'),
    ]);
    expect(outputCommitment(s, [1, 256])).toEqual(createHash('sha256').update(bytes).digest());
  });

  it('changes with the salt, any id, their order and their number, and differs from a prompt of the same ids', () => {
    const s = Buffer.alloc(32, 1);
    const all = [
      outputCommitment(s, [1, 2]),
      outputCommitment(Buffer.alloc(32, 2), [1, 2]),
      outputCommitment(s, [2, 1]),
      outputCommitment(s, [1, 3]),
      outputCommitment(s, [1, 2, 0]),
      outputCommitment(s, []),
      promptCommitment(s, [1, 2]),
    ].map((commitment) => commitment.toString('hex'));
    expect(new Set(all).size).toBe(all.length);
  });

  it('refuses a salt of another length', () => {
    expect(() => new OutputCommitment(Buffer.alloc(31))).toThrow(RangeError);
  });
});
